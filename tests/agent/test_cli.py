"""The command `flow`, with a real agent and the real prompt flow."""

import json
import re
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from . import support
from .conftest import StartAgent
from .support import Agent, eventually

FLOW = {
    "flow.dag.yaml": b"""
inputs:
  name: {type: string, default: world}
  times: {type: int, default: 1}
outputs:
  greeting: {type: string, reference: "${hello.output}"}
nodes:
- name: hello
  type: python
  source: {type: code, path: hello.py}
  inputs: {name: "${inputs.name}", times: "${inputs.times}"}
""",
    "hello.py": b"""
import os
from importlib.metadata import version
import iniconfig
from promptflow.core import tool

@tool
def hello(name: str, times: int) -> str:
    print("noise on standard output")
    if name == "nobody":
        raise ValueError("there is nobody")
    if name == "exit":
        os._exit(3)
    if name == "large":
        return "x" * 2_000_000
    return " ".join(["hello " + name] * times) + " with iniconfig " + version("iniconfig")
""",
}


@pytest.fixture
def session(start: StartAgent, flow_base: str) -> Agent:
    agent = start(python=flow_base)
    install = agent.install(
        "p1", "iniconfig==2.1.0\n", path="requirements.txt", files={**FLOW, "requirements.txt": b"iniconfig==2.1.0\n"}, flow="f1"
    )
    assert install["state"] == "Succeeded", install
    return agent


def test_the_flow_runs_with_the_session_s_packages(session: Agent) -> None:
    ran = session.flow("test", "--inputs", "name=Ada", "times=2")
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == {"greeting": "hello Ada hello Ada with iniconfig 2.1.0"}
    assert session.state()["activity"]["what"] == "api test"
    failed = session.flow("test", "--inputs", "name=nobody")
    assert (failed.returncode, failed.stdout) == (1, "")
    first, second = failed.stderr.splitlines()
    assert (first[:6], first.endswith("there is nobody")) == ("flow: ", True), failed.stderr
    assert second == "`flow test --traceback` shows all that it wrote, `flow check` looks for what is wrong with the flow."
    whole = session.flow("test", "--traceback", "--inputs", "name=nobody").stderr
    assert whole.splitlines()[0] == first and "Traceback (most recent call last)" in whole
    assert "`flow check`" in whole and "--traceback" not in whole
    status, answer = session.call("POST", "/v1/test", {"inputs": {"name": "exit"}})
    assert (status, answer["code"], "exit code 3" in answer["message"]) == (422, "FlowFailed", True), answer
    status, answer = session.call("POST", "/v1/test", {"inputs": {"name": "large"}})
    assert (status, "larger than 1 MiB" in answer["message"]) == (422, True), answer
    assert list((session.home / "tmp").glob("test-*")) == []
    assert not any("waitress" in line for line in support.descendants(session.pid).values())


def test_an_input_that_the_flow_has_not_is_refused_with_the_nearest_name(session: Agent) -> None:
    ran = session.flow("test", "--inputs", "nmae=Ada", "times=2")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == "flow: The flow has no input 'nmae': is 'name' meant? Its inputs are name, times.\n"
    status, answer = session.call("POST", "/v1/test", {"inputs": {"zzz": 1}})
    assert (status, answer["code"]) == (422, "UnknownInput")
    assert answer["message"] == "The flow has no input 'zzz': its inputs are name, times."


VARIANTS = b"""
inputs:
  name: {type: string, default: world}
outputs:
  greeting: {type: string, reference: "${hello.output}"}
nodes:
- name: length
  type: python
  source: {type: code, path: length.py}
  inputs: {name: "${inputs.name}"}
- name: hello
  use_variants: true
node_variants:
  hello:
    default_variant_id: calm
    variants:
      calm: {node: {type: python, source: {type: code, path: hello.py}, inputs: {name: "${inputs.name}", mark: "."}}}
      loud: {node: {type: python, source: {type: code, path: hello.py}, inputs: {name: "${inputs.name}", mark: "!"}}}
"""


def test_one_node_and_a_variant(start: StartAgent, flow_base: str) -> None:
    head = b"from promptflow.core import tool\n\n@tool\n"
    hello = b"def hello(name: str, mark: str) -> str:\n    return name + mark\n"
    length = b"def length(name: str) -> int:\n    return len(name)\n"
    agent = start(python=flow_base)
    files = {"flow.dag.yaml": VARIANTS, "hello.py": head + hello, "length.py": head + length}
    assert agent.put("p1", "f1", files=files)[0] == 200
    for arguments, outputs in (
        (["--variant", "hello.loud"], {"greeting": "world!"}),
        (["--variant", "${hello.loud}", "--inputs", "name=Ada"], {"greeting": "Ada!"}),
        (["--node", "length", "--inputs", "name=Ada"], {"output": 3}),
        ([], {"greeting": "world."}),
    ):
        ran = agent.flow("test", *arguments)
        assert ran.returncode == 0, ran.stderr
        assert json.loads(ran.stdout) == outputs
    assert agent.flow("test", "--node", "lenght").stderr == (
        "flow: The flow has no node 'lenght': is 'length' meant? Its nodes are length, hello.\n"
    )
    assert agent.call("POST", "/v1/test", {"variant": "${hello.lout}"})[1]["code"] == "UnknownVariant"
    assert agent.call("POST", "/v1/test", {"node": 5})[0] == 400


def test_status_packages_and_keep_alive(session: Agent) -> None:
    assert "packages  installed" in session.flow("status").stdout
    assert json.loads(session.flow("status", "--json").stdout)["environment"]["packagesRevision"] == "p1"
    lines = session.flow("packages").stdout.splitlines()
    assert any(line.split()[:3] == ["iniconfig", "2.1.0", "requirements"] for line in lines)
    assert any(line.split()[:3] == ["promptflow", "1.18.5", "image"] for line in lines)
    eventually("idle", lambda: session.state()["activity"]["idleSeconds"] > 1)
    assert session.flow("keep-alive").returncode == 0
    assert session.state()["activity"]["what"] == "keep-alive"


def test_no_flow_and_no_prompt_flow(start: StartAgent) -> None:
    agent = start()
    assert agent.call("POST", "/v1/test", {})[1]["code"] == "NoFlow"
    agent.put("p1", "f1", files=FLOW)
    ran = agent.flow("test")
    assert (ran.returncode, "prompt flow is not installed" in ran.stderr) == (1, True), ran.stderr
    for junk in ([], {"inputs": []}, {"inputs": "x"}):
        assert agent.call("POST", "/v1/test", junk)[0] == 400


def test_a_retired_session_tests_nothing(start: StartAgent) -> None:
    agent = start()
    assert agent.call("POST", "/v1/retire", {"idleAtLeast": 0})[0] == 200
    ran = agent.flow("test")
    assert (ran.returncode, "is being ended" in ran.stderr) == (1, True)


def test_five_tests_at_once_are_one_too_many(start: StartAgent, tmp_path: Path) -> None:
    fake = tmp_path / "promptflow"
    fake.mkdir()
    (fake / "__init__.py").touch()
    (fake / "client.py").write_text("import time\nclass PFClient:\n    @property\n    def flows(self):\n        time.sleep(600)\n")
    agent = start(PYTHONPATH=str(tmp_path))
    agent.put("p1", "f1", files=FLOW)
    with ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            pool.submit(agent.call, "POST", "/v1/test", {})
        eventually("four run, forked from one", lambda: len(support.runners(agent)) == 1 + 4)
        status, answer = agent.call("POST", "/v1/test", {})
        assert (status, answer["code"]) == (429, "TooManyTests")
        assert agent.call("POST", "/v1/retire", {"idleAtLeast": 0})[1]["activity"]["what"] == "api test"
        left = support.descendants(agent.pid)
        agent.close()
        for pid in left:
            subprocess.run(["kill", "-9", str(pid)], check=False)


INTERRUPTED = """
import os, signal, socket, sys, threading, time
from flowsession_agent import cli

where = cli._socket_path()
listener = socket.create_server(where, family=socket.AF_UNIX)

def serve():
    connection, _ = listener.accept()
    connection.recv(65536)
    connection.sendall(sys.argv[1].encode().decode("unicode_escape").encode())
    time.sleep(0.2)  # the command waits for more: a signal that another thread takes does not end that system call
    signal.pthread_kill(threading.get_ident(), signal.SIGINT)
    time.sleep(600)

threading.Thread(target=serve, daemon=True).start()
try:
    cli.call("POST", "/v1/test", {}, lambda part: print(part["text"], flush=True))
except KeyboardInterrupt:
    os._exit(130)
"""


@pytest.mark.parametrize(
    ("answer", "shown"), [("", ""), (r'HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\n{"text": "first"}\n', "first\n")]
)
def test_an_interrupt_that_no_system_call_notices_ends_the_command(tmp_path: Path, answer: str, shown: str) -> None:
    program = f"import sys; sys.path.insert(0, {str(support.SOURCES)!r}); exec({INTERRUPTED!r})"
    environ = {"FLOWSESSION_HOME": str(tmp_path)}
    ran = subprocess.run([sys.executable, "-c", program, answer], env=environ, capture_output=True, text=True, check=False, timeout=60)
    assert (ran.returncode, ran.stdout) == (130, shown), ran.stderr


def test_without_an_agent_the_command_says_so(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-IS", "-c", support.FLOW, "status"],
        env={"FLOWSESSION_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == f"flow: this pod has no running flowsession agent at {tmp_path}/agent.sock (No such file or directory).\n"


@pytest.mark.parametrize("arguments", [(), ("nonsense",), ("test", "--inputs", "novalue")], ids=str)
def test_what_is_no_command(start: StartAgent, arguments: tuple[str, ...]) -> None:
    ran = start().flow(*arguments)
    assert ran.returncode in (1, 2)
    assert "Traceback" not in ran.stderr


def test_agent_pyz_is_the_same_bytes_each_time_and_is_agent_and_command(start: StartAgent, tmp_path: Path, python: str) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
        support.as_file(folder, python)
    first, second = ((folder / "agent.pyz").read_bytes() for folder in folders)
    assert first == second
    assert "build.py" not in str(zipfile.ZipFile(folders[0] / "agent.pyz").namelist())
    agent = start(folder=folders[0], command=support.as_file(folders[0], python))
    assert agent.put("p1")[1]["environment"]["packagesRevision"] == "p1"
    assert agent.call("GET", "/v1/packages")[1]["packages"]
    ran = subprocess.run(
        [python, "-I", str(folders[0] / "agent.pyz"), "status"],
        env={"FLOWSESSION_HOME": str(agent.home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "packages  installed" in ran.stdout, ran.stderr


def test_the_launchers_of_the_image(start: StartAgent, tmp_path: Path, python: str) -> None:
    image = tmp_path / "opt"
    image.mkdir()
    dockerfile = (support.SOURCES.parent / "images" / "runtime" / "Dockerfile").read_text()
    for package in re.findall(r"^COPY operator/(\w+) /opt/flowsession/\1$", dockerfile, re.MULTILINE):
        (image / package).symlink_to(support.SOURCES / package)
    for name in ("agent", "flow"):
        text = (image / "flowsession_agent" / "launchers" / name).read_text().replace("#!/usr/local/bin/python3 ", f"#!{python} ")
        (image / name).write_text(text)
        (image / name).chmod(0o755)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "flow").symlink_to(image / "flow")
    agent = start(command=(str(image / "agent"),))
    ran = subprocess.run(
        [tmp_path / "bin" / "flow", "status"], env={"FLOWSESSION_HOME": str(agent.home)}, capture_output=True, text=True, check=False
    )
    assert (ran.returncode, "not installed yet" in ran.stdout) == (0, True), ran.stderr
