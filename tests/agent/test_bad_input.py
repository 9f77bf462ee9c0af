"""Packages and flows that do harm: the session reports what happened, and keeps what it had."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from . import support
from .conftest import StartAgent
from .support import Agent, eventually

WITHOUT_ISOLATION = {"PIP_NO_BUILD_ISOLATION": "0"}  # builds with the image's setuptools, so no index is needed
PACKAGE = """
import os, pathlib, shutil, signal, subprocess, sys, time
if "bdist_wheel" in sys.argv or "install" in sys.argv or "dist_info" in sys.argv or "egg_info" in sys.argv:
    {deed}
from setuptools import setup
setup(name="worst", version="1", py_modules=[])
"""


def install(agent: Agent, deed: str, *, revision: str, **installer: Any) -> dict[str, Any]:
    """Install a package whose build does `deed`."""
    files = {"requirements.txt": b"./worst\n", "worst/setup.py": PACKAGE.format(deed=deed).encode()}
    settings = {"tool": "Pip", "environment": WITHOUT_ISOLATION, **installer}
    return agent.install(revision, "./worst\n", path="requirements.txt", files=files, flow=revision, **settings)


@pytest.fixture(scope="session")
def builder_base() -> str:
    """An image's Python that builds wheels without an index."""
    return support.base("builder", "wheel==0.45.1")


def imported(agent: Agent, module: str) -> bool:
    ran = subprocess.run([agent.home / "venv" / "bin" / "python", "-c", f"import {module}"], capture_output=True, check=False)
    return ran.returncode == 0


def processes(words: str) -> str:
    return subprocess.run(["pgrep", "-f", words], capture_output=True, text=True, check=False).stdout


def peak_mib(agent: Agent) -> float:
    return int(Path(f"/proc/{agent.pid}/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024


def small_disk(home: Path, mebibytes: int) -> tuple[str, ...]:
    """Return the prefix that gives an agent's session its own file system of that size."""
    home.mkdir()
    return ("unshare", "--mount", "sh", "-c", f'mount -t tmpfs -o size={mebibytes}m tmpfs {home} && exec "$0" "$@"')


def inside(agent: Agent, *command: str) -> subprocess.CompletedProcess[str]:
    """Run in the agent's mount namespace."""
    return subprocess.run(["nsenter", "--target", str(agent.pid), "--mount", *command], capture_output=True, text=True, check=False)


DAEMONS = "[subprocess.Popen(['sh', '-c', 'setsid sleep 6021{quiet} &'], start_new_session=new) for new in (True, False) for _ in range(5)]"


def test_an_install_that_forks_daemons(start: StartAgent, builder_base: str) -> None:
    agent = start(python=builder_base, pid1=True)
    found = install(agent, DAEMONS.format(quiet=" >/dev/null 2>&1"), revision="p1")
    assert found["state"] == "Succeeded", found
    assert processes("sleep 6021") == ""
    eventually("idle", lambda: not agent.state()["activity"]["busy"])


def test_daemons_that_hold_the_installer_s_output_are_ended_with_it(start: StartAgent, builder_base: str) -> None:
    """pip reads a build's output to its end, which never comes while the daemons hold it open."""
    agent = start(python=builder_base, pid1=True)
    found = install(agent, DAEMONS.format(quiet=""), revision="p1", timeoutSeconds=8)
    assert (found["state"], found["code"]) == ("TimedOut", "Timeout"), found
    assert processes("sleep 6021") == ""


def test_a_package_that_removes_pip(start: StartAgent, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "image"], check=True)
    base = tmp_path / "image" / "bin" / "python"
    from uv import find_uv_bin

    (tmp_path / "image" / "bin" / "uv").symlink_to(find_uv_bin())
    agent = start(python=str(base))
    assert agent.install("p0", "six\n")["state"] == "Succeeded"
    install(agent, "import pip; shutil.rmtree(os.path.dirname(pip.__file__))", revision="p1")
    assert subprocess.run([base, "-m", "pip"], capture_output=True, check=False).returncode != 0, "it is gone from the image"
    assert imported(agent, "six"), "what was installed before is in use"
    found = agent.install("p2", "six\n", tool="Pip")
    assert (found["state"], "has no pip" in found["message"]) == ("Failed", True), found
    assert agent.install("p3", "idna\n")["state"] == "Succeeded", "uv needs no pip"
    assert imported(agent, "idna")


def test_requirements_that_replace_pip(start: StartAgent, plain_base: str) -> None:
    agent = start(python=plain_base)
    assert agent.install("p1", "pip==23.0\n", tool="Pip")["state"] == "Succeeded"
    assert agent.install("p2", "six\n", tool="Pip")["state"] == "Succeeded"
    assert imported(agent, "six")


def test_a_build_that_fills_the_disk(start: StartAgent, builder_base: str, tmp_path: Path) -> None:
    home = tmp_path / "small"
    agent = start(python=builder_base, prefix=small_disk(home, 48), FLOWSESSION_HOME=str(home))
    assert agent.install("p0", "six\n")["state"] == "Succeeded"
    deed = "[open(os.path.expanduser('~/fill'), 'ab').write(bytes(2**20)) for _ in range(10_000)]"
    found = install(agent, deed, revision="p1")
    assert (found["state"], found["code"]) == ("Failed", "NoSpace"), found
    assert "ephemeral storage" in found["message"]
    state = agent.state()
    assert state["environment"] == {"packagesRevision": "p0", "flowRevision": "p1"}
    assert inside(agent, str(home / "venv" / "bin" / "python"), "-c", "import six").returncode == 0
    status, told = agent.put("p2", "p2", files={"requirements.txt": bytes(2**20)})
    assert (status, "No space" in told["message"]) == (500, True), told
    inside(agent, "rm", str(home / "home" / "fill"))
    found = install(agent, "pass", revision="p3")
    assert found["state"] == "Succeeded", found


def test_a_build_that_prints_100_mb(start: StartAgent, builder_base: str) -> None:
    agent = start(python=builder_base)
    found = install(
        agent, "[print('x' * 16383) for _ in range(100 * 64)]", revision="p1", environment={**WITHOUT_ISOLATION, "PIP_VERBOSE": "1"}
    )
    assert found["state"] == "Succeeded", found
    assert max(len(found["stdoutTail"]), len(found["stderrTail"])) <= 4000
    assert peak_mib(agent) < 80


def test_a_build_that_never_ends_and_does_not_want_to(start: StartAgent, builder_base: str) -> None:
    agent = start(python=builder_base)
    deed = "signal.signal(15, signal.SIG_IGN); subprocess.call(['sleep', '6022'])"
    found = install(agent, deed, revision="p1", timeoutSeconds=8)
    assert (found["state"], found["code"]) == ("TimedOut", "Timeout"), found
    assert found["seconds"] < 30
    assert processes("sleep 6022") == ""


FLOW = b"""
inputs:
  deed: {type: string}
outputs:
  said: {type: string, reference: "${worst.output}"}
nodes:
- name: worst
  type: python
  source: {type: code, path: worst.py}
  inputs: {deed: "${inputs.deed}"}
"""
CODE = b"""
import os
from promptflow.core import tool

@tool
def worst(deed: str) -> str:
    exec(deed)
    return "survived"
"""
FILES = {"flow.dag.yaml": FLOW, "worst.py": CODE}


def run(agent: Agent, deed: str) -> tuple[int, dict[str, Any]]:
    return agent.call("POST", "/v1/test", {"inputs": {"deed": deed}})


@pytest.mark.parametrize("deed", ["os.kill(os.getppid(), 9)", "os.kill(1, 9)", "os.kill(1, 19)"])
def test_a_flow_can_not_kill_the_agent(start: StartAgent, flow_base: str, deed: str) -> None:
    """Within its PID namespace, PID 1 receives only signals for which it has a handler (pid_namespaces(7))."""
    agent = start(python=flow_base, pid1=True)
    boot = agent.put("p1", "f1", files=FILES)[1]["bootID"]
    status, answer = run(agent, deed)
    assert (status, answer["outputs"]) == (200, {"said": "survived"}), answer
    assert agent.state()["bootID"] == boot


KILLS_ALL = "os.spawnlp(os.P_NOWAIT, 'sleep', 'sleep', '6023'); os.kill(-1, 9); os.kill(os.getpid(), 9)"


@pytest.mark.parametrize("deed", ["os.killpg(0, 9)", "os.kill(os.getpid(), 9)", KILLS_ALL])
def test_a_flow_that_kills_itself_and_all_it_can(start: StartAgent, flow_base: str, deed: str) -> None:
    agent = start(python=flow_base, pid1=True)
    boot = agent.put("p1", "f1", files=FILES)[1]["bootID"]
    status, answer = run(agent, deed)
    assert (status, answer["code"]) == (422, "FlowFailed")
    assert "killed by signal 9 (SIGKILL)" in answer["message"]
    assert agent.state()["bootID"] == boot
    assert run(agent, "pass")[0] == 200


def test_a_flow_that_fills_the_disk(start: StartAgent, flow_base: str, tmp_path: Path) -> None:
    home = tmp_path / "small"
    agent = start(python=flow_base, prefix=small_disk(home, 16), FLOWSESSION_HOME=str(home))
    agent.put("p1", "f1", files=FILES)
    status, answer = run(agent, "[open('fill', 'ab').write(bytes(2**16)) for _ in range(10_000)]")
    assert (status, answer["code"], "No space left on device" in answer["message"]) == (422, "FlowFailed", True), answer
    assert agent.state()["edits"]["files"] == ["fill"]
    inside(agent, "dd", "if=/dev/zero", f"of={home}/tmp/rest", "bs=4096")
    status, answer = run(agent, "pass")
    assert (status, answer["code"], "o space" in answer["message"]) == (422, "FlowFailed", True), answer
    status, answer = agent.put("p1", "f2", files={**FILES, "large": bytes(2**20)})
    assert (status, "No space left on device" in answer["message"]) == (500, True), answer
    assert agent.state()["environment"]["flowRevision"] == "f1"
    inside(agent, "rm", str(home / "flow" / "fill"), str(home / "tmp" / "rest"))
    assert run(agent, "pass")[1]["outputs"] == {"said": "survived"}
    assert agent.put("p1", "f2", files=FILES)[0] == 200


def test_a_flow_that_fills_the_shared_memory(start: StartAgent, flow_base: str) -> None:
    """Importing prompt flow creates a semaphore there."""
    prefix = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size=1m tmpfs /dev/shm && exec "$0" "$@"')
    agent = start(python=flow_base, prefix=prefix)
    agent.put("p1", "f1", files=FILES)
    inside(agent, "dd", "if=/dev/zero", "of=/dev/shm/rest", "bs=4096")
    status, answer = run(agent, "pass")  # in a new process: the one that has prompt flow imported makes way for it
    said = "No space is left in /dev/shm, so prompt flow can't start: delete what isn't needed there"
    assert (status, answer["message"].startswith(said)) == (422, True), answer
    inside(agent, "rm", "/dev/shm/rest")
    status, answer = run(agent, "open('/dev/shm/filled', 'wb').write(bytes(2**21))")
    assert (status, "No space left on device" in answer["message"]) == (422, True), answer
    inside(agent, "rm", "/dev/shm/filled")
    assert run(agent, "pass")[1]["outputs"] == {"said": "survived"}
