"""Installs with the real uv and pip from the real package index."""

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from localcluster.ports import free_port

from . import support
from .conftest import StartAgent
from .support import Agent, eventually, hanging_index

SIX_HASH = "sha256:4721f391ed90541fddacab5acf947aa0d3dc7d27b2e1e8eda2be8970586c3274"


@pytest.fixture
def agent(start: StartAgent, plain_base: str) -> Agent:
    """An agent whose environment says that the terminal is narrow. The installers must not wrap their messages all the same."""
    return start(python=plain_base, COLUMNS="40")


@pytest.fixture(params=["Uv", "Pip"])
def tool(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def packages(agent: Agent) -> dict[str, dict[str, Any]]:
    status, answer = agent.call("GET", "/v1/packages")
    assert status == 200, answer
    names = [package["name"].lower().replace("_", "-") for package in answer["packages"]]
    assert names == sorted(names)
    return {package["name"]: package for package in answer["packages"]}


def imported(agent: Agent, module: str) -> bool:
    ran = subprocess.run([agent.home / "venv" / "bin" / "python", "-c", f"import {module}"], capture_output=True, check=False)
    return ran.returncode == 0


def failure(install: dict[str, Any]) -> tuple[str, str]:
    assert install["state"] == "Failed", install
    assert install["message"].endswith(".")
    return install["code"], install["message"]


def test_a_package_and_what_comes_with_it(agent: Agent, tool: str) -> None:
    install = agent.install("p1", "# web\npython-dateutil==2.9.0.post0\n", tool=tool)
    assert (install["state"], install["tool"], install["exitCode"], install["changed"]) == ("Succeeded", tool.lower(), 0, 2)
    state = agent.state()
    assert state["environment"]["packagesRevision"] == "p1"
    found = packages(agent)
    assert found["python-dateutil"] == {"name": "python-dateutil", "version": "2.9.0.post0", "layer": "requirements", "requiredBy": []}
    assert (found["six"]["layer"], found["six"]["requiredBy"]) == ("dependency", ["python-dateutil"])
    assert found["pip"]["layer"] == "image"
    assert agent.state()["packages"]["count"] == len(found)
    assert imported(agent, "dateutil")
    assert imported(agent, "pip"), "the image's packages are seen through the layer"


def test_what_the_image_has_already_needs_no_layer(agent: Agent) -> None:
    install = agent.install("p1", "pip\n")
    assert (install["state"], install["tool"], install["changed"]) == ("Succeeded", "uv", 0)
    assert not (agent.home / "venv").exists()
    assert packages(agent)["pip"]["layer"] == "image"


def test_a_layer_replaces_a_version_of_the_image(agent: Agent, tool: str) -> None:
    before = packages(agent)["setuptools"]["version"]
    install = agent.install("p1", "setuptools==70.0.0\n", tool=tool)
    assert install["state"] == "Succeeded", install
    found = packages(agent)["setuptools"]
    assert (found["version"], found["layer"], found["replaces"]) == ("70.0.0", "requirements", before)


def test_the_image_s_commands_see_the_layer(agent: Agent) -> None:
    agent.install("p1", "six\n")
    listed = subprocess.run([agent.home / "venv" / "bin" / "pip", "list"], capture_output=True, text=True, check=True).stdout
    assert "six" in listed


def test_the_flow_folder_s_file_and_what_it_includes(agent: Agent) -> None:
    files = {"deps/requirements.txt": b"-r more.txt\n-c limits.txt\n", "deps/more.txt": b"idna\n", "deps/limits.txt": b"idna==3.7\n"}
    install = agent.install("p1", files["deps/requirements.txt"].decode(), path="deps/requirements.txt", files=files, flow="f1")
    assert install["state"] == "Succeeded", install
    assert (packages(agent)["idna"]["version"], packages(agent)["idna"]["layer"]) == ("3.7", "requirements")


def test_variables_get_their_values_whatever_tool_installs(start: StartAgent, plain_base: str, tool: str) -> None:
    agent = start(python=plain_base, IDNA_VERSION="3.7", SECRET="3.7", FLOWSESSION_SECRET_VARIABLES="SECRET")
    install = agent.install("p1", "idna==${IDNA_VERSION}\n", tool=tool)
    assert (install["state"], install["tool"]) == ("Succeeded", tool.lower()), install
    assert packages(agent)["idna"]["version"] == "3.7"
    code, message = failure(agent.install("p2", "idna==${SECRET}\n", tool=tool))
    assert (code, "${SECRET} (line 1 of requirements.txt) has its value from a Secret" in message) == ("InvalidRequirement", True), message
    code, message = failure(agent.install("p3", "idna==${NOT_SET}\n", tool=tool))
    assert (code, "set NOT_SET in the session's env" in message) == ("InvalidRequirement", True), message


def test_only_binary_and_markers_and_hashes(agent: Agent, tool: str) -> None:
    text = f"six==1.17.0 \\\n    --hash={SIX_HASH}\nwin-only==1.0 ; sys_platform == 'win32' --hash=sha256:{'0' * 64}\n"
    install = agent.install("p1", text, tool=tool, onlyBinary=True)
    assert install["state"] == "Succeeded", install
    assert imported(agent, "six")


CASES = {
    "unknown package": (
        "six\n\nno-such-package-zzq==1.0\n",
        "NoMatchingDistribution",
        ["no-such-package-zzq==1.0", "line 3 of requirements.txt"],
    ),
    "unknown version": ("six==99.0\n", "NoMatchingDistribution", ["six==99.0", "line 1 of requirements.txt", "no such version"]),
    "conflict": ("botocore==1.29.0\nurllib3==2.2.0\n", "ConflictingRequirements", ["urllib3", "1.27", "line 2 of requirements.txt"]),
    "syntax": ("six\nfoo bar baz\n", "InvalidRequirement", ["'foo bar baz'", "line 2 of requirements.txt"]),
    "unknown option": ("six\n--nonsense\n", "InvalidRequirement", ["--nonsense", "line 2 of requirements.txt"]),
    "missing file": ("six\n-r nope.txt\n", "InvalidRequirement", ["nope.txt", "line 2 of requirements.txt"]),
    "hash": (f"six==1.17.0 --hash=sha256:{'0' * 64}\n", "HashMismatch", ["six==1.17.0", "line 1 of requirements.txt"]),
    "one hash only": (f"six==1.17.0 --hash={SIX_HASH}\nidna==3.7\n", "InvalidRequirement", ["hash"]),
}


@pytest.mark.parametrize("case", CASES)
def test_a_failure_names_the_requirement_and_its_place(agent: Agent, tool: str, case: str) -> None:
    text, code, words = CASES[case]
    found, message = failure(agent.install("p1", text, tool=tool))
    assert found == code, message
    assert [word for word in words if word not in message] == [], message
    assert agent.state()["environment"]["packagesRevision"] == ""
    assert not (agent.home / "venv").exists()
    assert list((agent.home / "venvs").iterdir()) == []


def test_pip_has_the_last_word_where_uv_refuses_a_file(agent: Agent) -> None:
    install = agent.install("p1", "foo bar\n")
    assert (install["tool"], install["code"]) == ("pip", "InvalidRequirement")


def test_a_source_that_needs_a_compiler(start: StartAgent, plain_base: str, tool: str, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    agent = start(python=plain_base, PATH=str(tmp_path / "bin"))
    code, message = failure(agent.install("p1", "ujson==1.35\n", tool=tool))
    assert (code, "needs a compiler" in message, "line 1 of requirements.txt" in message) == ("BuildFailed", True, True), message


def test_only_wheels_where_there_is_none(agent: Agent, tool: str) -> None:
    code, message = failure(agent.install("p1", "ujson==1.35\n", tool=tool, onlyBinary=True))
    assert (code, "ujson==1.35" in message) == ("NoMatchingDistribution", True)


def test_an_index_that_can_not_be_reached(agent: Agent, tool: str) -> None:
    index = f"http://someone:secret@127.0.0.1:{free_port()}/simple"
    environment = {"PIP_RETRIES": "1", "UV_HTTP_RETRIES": "0", "PIP_FIND_LINKS": str(agent.home)}
    install = agent.install("p1", "six\n", tool=tool, indexURL=index, environment=environment)
    code, message = failure(install)
    assert code == "IndexUnreachable", message
    assert "Connection refused" in message
    assert "127.0.0.1" in message
    assert "secret" not in str(install)


def test_an_extra_index_that_can_not_be_reached_is_gone_without_as_by_pip(agent: Agent) -> None:
    dead = f"http://127.0.0.1:{free_port()}"
    install = agent.install("p1", f"--extra-index-url {dead}/simple\nidna==3.7\nsix==1.17.0\n", environment={"UV_HTTP_RETRIES": "0"})
    assert (install["state"], install["tool"], packages(agent)["idna"]["version"]) == ("Succeeded", "pip", "3.7"), install
    assert install["warnings"][0] == f"{dead} can't be reached (Connection refused): packages come from the other indexes"
    assert len([text for text in install["warnings"] if text.startswith("Retrying")]) == 1, install["warnings"]


def test_the_time_limit_ends_the_tool(agent: Agent, tool: str) -> None:
    with hanging_index() as index:
        install = agent.install("p1", "six\n", tool=tool, indexURL=index, timeoutSeconds=2)
    assert (install["state"], install["code"]) == ("TimedOut", "Timeout")
    assert "2 s" in install["message"]
    assert install["exitCode"] == 128 + signal.SIGTERM
    eventually("nothing runs", lambda: not support.descendants(agent.pid))


def test_an_installer_killed_by_the_node(agent: Agent) -> None:
    with hanging_index() as index:
        _, state = agent.put("p1", requirements={"text": "six", "path": None}, installer={"indexURL": index})
        found = eventually("uv runs", lambda: [pid for pid, line in support.descendants(agent.pid).items() if "uv pip" in line])
        os.kill(found[0], signal.SIGKILL)
        install = agent.installed(state)
    assert (failure(install)[0], install["exitCode"]) == ("OutOfMemory", 137)


def test_no_space(start: StartAgent, plain_base: str, tmp_path: Path, tool: str) -> None:
    home = tmp_path / "small"
    home.mkdir()
    prefix = ("unshare", "--mount", "sh", "-c", f'mount -t tmpfs -o size=1m tmpfs {home} && exec "$0" "$@"')
    agent = start(python=plain_base, prefix=prefix, FLOWSESSION_HOME=str(home))
    install = agent.install("p1", "pip==24.0\n", tool=tool, caBundle="", environment={})
    assert failure(install)[0] == "NoSpace", install
    assert agent.call("GET", "/healthz", token=None)[0] == 200


def test_a_failure_leaves_the_earlier_packages_in_use(agent: Agent) -> None:
    assert agent.install("p1", "six\n")["state"] == "Succeeded"
    assert agent.install("p2", "no-such-package-zzq\n")["state"] == "Failed"
    assert imported(agent, "six")
    assert agent.state()["environment"]["packagesRevision"] == "p1"
    version = agent.settled()["version"]
    requirements = {"text": "no-such-package-zzq\n", "path": None}
    assert agent.put("p2", requirements=requirements)[1]["version"] == version, "the same revision is not tried again by itself"
    assert agent.put("p2", requirements=requirements, retry=True)[1]["install"]["state"] == "Running"
    eventually("over", lambda: agent.state()["install"]["state"] == "Failed")
    _, state = agent.put("p1", requirements={"text": "six\n", "path": None})
    assert (state["install"]["state"], state["install"]["packagesRevision"]) == ("Succeeded", "p1"), "going back needs no install"


def test_a_new_success_replaces_the_layer_and_the_old_one_goes(agent: Agent) -> None:
    agent.install("p1", "six\n")
    agent.install("p2", "idna\n")
    assert (imported(agent, "idna"), imported(agent, "six")) == (True, False)
    eventually("one layer", lambda: [path.name for path in (agent.home / "venvs").iterdir()] == ["2"])
    assert agent.put("p3")[1]["install"]["state"] == "Succeeded"
    assert not (agent.home / "venv").exists()
    assert "idna" not in packages(agent)


def test_a_layer_in_use_stays_until_its_process_ends(agent: Agent) -> None:
    agent.install("p1", "six\n")
    python = (agent.home / "venvs" / "1" / "bin" / "python").absolute()
    with subprocess.Popen([python, "-c", "import time; time.sleep(600)"]) as process:
        agent.install("p2", "idna\n")
        assert agent.install("p3", "six\nidna\n")["state"] == "Succeeded"
        eventually("the second is gone", lambda: sorted(path.name for path in (agent.home / "venvs").iterdir()) == ["1", "3"])
        process.kill()
    agent.install("p4", "six\n")
    eventually("the first too", lambda: [path.name for path in (agent.home / "venvs").iterdir()] == ["4"])


def test_an_installers_words_can_be_followed(agent: Agent, tool: str) -> None:
    with hanging_index() as index:
        agent.put("p1", requirements={"text": "six", "path": None}, installer={"indexURL": index, "tool": "Pip"})
        with agent.flowing("packages", "--follow") as following:
            assert following.stdout
            assert following.stdout.readline() == f"Looking in indexes: {index}\n", "while it runs"
    agent.put(
        "p2", requirements={"text": "python-dateutil==2.9.0.post0\n", "path": None}, installer=support.machine_settings({"tool": tool})
    )
    lines = agent.flow("packages", "--follow").stdout.splitlines()
    assert any("python-dateutil" in line for line in lines), lines
    assert sum("nstalled" in line for line in lines) == 1, lines
    assert len(set(lines)) == len(lines)
    assert agent.state()["install"]["state"] == "Succeeded", "it ends with the install"


def test_a_newer_revision_stops_a_running_install(agent: Agent) -> None:
    with hanging_index() as index:
        agent.put("p1", requirements={"text": "six", "path": None}, installer={"indexURL": index})
        eventually("uv runs", lambda: any("uv pip" in line for line in support.descendants(agent.pid).values()))
        assert agent.state()["activity"]["what"] == "install"
        assert agent.call("POST", "/v1/retire", {"idleAtLeast": 0})[0] == 409
        install = agent.install("p2", "six\n")
    assert (install["state"], install["packagesRevision"]) == ("Succeeded", "p2")
    assert agent.state()["environment"]["packagesRevision"] == "p2"
    eventually("not busy", lambda: not agent.state()["activity"]["busy"])


def test_a_restarted_container_keeps_its_packages(start: StartAgent, plain_base: str) -> None:
    first = start(python=plain_base)
    first.install("p1", "six\n")
    first.close()
    second = start(python=plain_base)
    state = second.state()
    assert (state["environment"]["packagesRevision"], state["install"]["state"], state["install"]["changed"]) == ("p1", "Succeeded", 1)
    assert second.put("p1", requirements={"text": "six\n", "path": None})[1]["install"]["state"] == "Succeeded"
    assert packages(second)["six"]["layer"] == "requirements"


SETUP = """
import os, subprocess, sys
if "egg_info" in sys.argv or "dist_info" in sys.argv:
    subprocess.Popen(["sleep", "601"], start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(1600):
        sys.stderr.write("x" * 63 * 1024 + "\\n" + "y" * 1023)
    sys.exit("on purpose")
"""


def test_a_build_that_floods_and_leaves_a_daemon_behind(start: StartAgent, plain_base: str, tmp_path: Path) -> None:
    source = tmp_path / "session" / "flow" / "flood"
    agent = start(python=plain_base)
    source.mkdir(parents=True)
    (source / "setup.py").write_text(SETUP)
    environment = {"PIP_VERBOSE": "1", "PIP_NO_BUILD_ISOLATION": "0"}
    install = agent.install("p1", "./flood\n", path="requirements.txt", files={}, flow="f1", tool="Pip", environment=environment)
    assert install["state"] == "Failed"
    assert len(install["stdoutTail"]) <= 4000
    assert len(install["stderrTail"]) <= 4000
    sleepers = subprocess.run(["pgrep", "-f", "sleep 601"], capture_output=True, text=True, check=False).stdout
    assert sleepers == ""
    peak = int(Path(f"/proc/{agent.pid}/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024
    assert peak < 80, f"{peak} MiB"


def test_as_any_user_on_a_read_only_image_that_is_externally_managed(start: StartAgent, tool: str) -> None:
    """Installs work with Debian's own Python as UID 65534, without capabilities or new privileges, as under restricted Pod Security."""
    restricted = "--clear-groups --inh-caps=-all --bounding-set=-all --no-new-privs"
    prefix = ("setpriv", "--reuid", "65534", "--regid", "65534", *restricted.split())
    with support.folder_of(65534) as folder:
        from uv import find_uv_bin

        (folder / "bin").mkdir()
        (folder / "bin" / "uv").write_bytes(Path(find_uv_bin()).read_bytes())
        (folder / "bin" / "uv").chmod(0o755)
        path = f"{folder / 'bin'}:/usr/bin:/bin"
        agent = start(folder=folder, prefix=prefix, command=support.as_file(folder, "/usr/bin/python3"), PATH=path)
        install = agent.install("p1", "iniconfig\n", tool=tool)
        assert install["state"] == "Succeeded", install
        assert packages(agent)["iniconfig"]["layer"] == "requirements"
        assert (agent.home / "venv" / "bin" / "python").lstat().st_uid == 65534
        agent.close()


def test_an_image_without_pip_and_uv(start: StartAgent, tmp_path: Path) -> None:
    import sys

    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    agent = start(python=str(tmp_path / "bare" / "bin" / "python"), PATH="/nowhere")
    code, message = failure(agent.install("p1", "six\n"))
    assert (code, "neither pip nor uv" in message) == ("Other", True)
    code, message = failure(agent.install("p2", "six\n", tool="Uv"))
    assert "the image has no uv" in message


def test_what_would_break_the_image_s_prompt_flow(start: StartAgent, flow_base: str) -> None:
    agent = start(python=flow_base)
    code, message = failure(agent.install("p1", "six\nmarshmallow>=4\n"))
    assert (code, "prompt flow can't be imported" in message) == ("Broken", True)
    assert "'marshmallow>=4' (line 2 of requirements.txt)" in message
    code, message = failure(agent.install("o", "six\nopenai==0.28.1\n"))
    assert (code, "cannot import name 'APIConnectionError' from 'openai'. The cause is openai 0.28.1" in message) == ("Broken", True), (
        message
    )
    assert "'openai==0.28.1' (line 2 of requirements.txt)" in message
    assert "upgrading" not in message, "prompt flow's own wrapper"
    assert agent.install("r", "promptflow\npromptflow-core>=1.18\nsix\n")["state"] == "Succeeded"


def test_only_what_the_image_has_of_prompt_flow_loses_its_version(start: StartAgent, flow_base: str, tool: str) -> None:
    agent = start(python=flow_base)
    install = agent.install("p1", "promptflow==1.1.1\npromptflow-azure-ai-language==0.1.5\n", tool=tool)
    assert install["state"] == "Succeeded", install
    found = {package["name"]: package["version"] for package in agent.call("GET", "/v1/packages")[1]["packages"]}
    assert (found["promptflow"], found["promptflow-azure-ai-language"]) == ("1.18.5", "0.1.5")
    assert install["warnings"][0].startswith("'promptflow==1.1.1' (line 1 of requirements.txt) was installed without its version"), install


@pytest.mark.parametrize("requirements", ["azure-monitor-opentelemetry\n", "promptflow[azure]\n"])
def test_what_the_layer_hides_of_the_image_comes_into_the_layer(start: StartAgent, flow_base: str, tool: str, requirements: str) -> None:
    """`azure/monitor/opentelemetry/__init__.py` in the layer would hide the exporter, another distribution, which is in the image."""
    agent = start(python=flow_base)
    before = packages(agent)["azure-monitor-opentelemetry-exporter"]
    install = agent.install("p1", requirements, tool=tool)
    assert install["state"] == "Succeeded", install
    assert all(imported(agent, f"azure.monitor.opentelemetry{part}") for part in ("", ".exporter"))
    after = packages(agent)
    assert (after["azure-monitor-opentelemetry-exporter"]["version"], before["layer"]) == (before["version"], "image")
    assert after["azure-monitor-opentelemetry-exporter"]["layer"] == "image"
    assert install["changed"] == sum(package["layer"] != "image" for package in after.values())


@pytest.mark.parametrize("requirements", ["pillow==11.0.0\n", "promptflow\npillow==11.0.0\n"])
def test_the_line_promptflow_changes_nothing(start: StartAgent, flow_base: str, tool: str, requirements: str) -> None:
    """The image's prompt flow requires a newer pillow but works with this one: a warning, whether or not a line requires prompt flow."""
    agent = start(python=flow_base)
    install = agent.install("p1", requirements, tool=tool)
    assert install["state"] == "Succeeded", install
    assert any("promptflow-devkit 1.18.5 requires pillow" in warning for warning in install["warnings"]), install["warnings"]
    assert packages(agent)["pillow"]["version"] == "11.0.0"


def test_what_does_not_fit_together_but_works_is_a_warning(start: StartAgent, flow_base: str) -> None:
    """Such a line must not keep anybody from working. pip too exits with 0."""
    install = start(python=flow_base).install("p1", "six\npydantic<2\n")
    assert install["state"] == "Succeeded", install
    assert any("pydantic" in warning for warning in install["warnings"])
