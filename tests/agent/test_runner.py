"""The warm runner, by a real agent and the real prompt flow: tests by forks of a process that has prompt flow imported."""

import json
import os
import signal
from pathlib import Path

import pytest

from . import support
from .conftest import StartAgent
from .support import Agent, eventually

FLOW = {
    "flow.dag.yaml": b"""
inputs:
  do: {type: string, default: hello}
outputs:
  answer: {type: string, reference: "${act.output}"}
nodes:
- name: act
  type: python
  source: {type: code, path: act.py}
  inputs: {do: "${inputs.do}"}
""",
    "act.py": b"""
import os
import random
import signal
import subprocess
import sys
import time

from promptflow.core import tool

import helper

LOADED_BY = os.getpid()


@tool
def act(do: str) -> str:
    if do == "parent":
        return str(os.getppid())
    if do == "exit":
        os._exit(3)
    if do == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if do == "fork":
        if os.fork() == 0:
            os.setsid()
            time.sleep(600)
        subprocess.Popen(["sleep", "601"], start_new_session=True)
    if do == "print":
        for _ in range(100):
            sys.stdout.write("x" * 1_000_000)
    if do == "random":
        return str(random.random())
    print("said once")
    return f"{helper.WORD} {LOADED_BY == os.getpid()}"
""",
    "helper.py": b"WORD = 'first'\n",
}


def runner_of(agent: Agent) -> int:
    """The runner's PID; 0 while there is none that waits for tests."""
    for pid, command in support.descendants(agent.pid).items():
        if "warm" in command and Path(f"/proc/{pid}/wchan").exists() and _ready(agent, pid):
            return pid
    return 0


def _ready(agent: Agent, pid: int) -> bool:
    return agent.state()["check"]["state"] == "Done" and act(agent, "parent") == str(pid)


def act(agent: Agent, do: str) -> str:
    status, answer = agent.call("POST", "/v1/test", {"inputs": {"do": do}})
    assert status == 200, answer
    return str(answer["outputs"]["answer"])


@pytest.fixture
def session(start: StartAgent, flow_base: str) -> Agent:
    agent = start(python=flow_base)
    assert agent.put("p1", "f1", files=FLOW)[0] == 200
    agent.settled()
    return agent


def test_tests_are_forks_of_a_runner_and_as_cold_ones(session: Agent) -> None:
    assert act(session, "parent") == str(session.pid)
    runner = eventually("a runner", lambda: runner_of(session))
    used = cpu(runner)
    assert act(session, "hello") == "first True"
    assert cpu(runner) - used < 0.8, "prompt flow was imported again"
    assert float(act(session, "random")) != float(act(session, "random"))
    (session.home / "flow" / "helper.py").write_text("WORD = 'second'\n")
    assert act(session, "hello") == "second True"
    status, answer = session.call("POST", "/v1/test", {"inputs": {"do": "exit"}})
    assert (status, "exit code 3" in answer["message"]) == (422, True), answer
    status, answer = session.call("POST", "/v1/test", {"inputs": {"do": "kill"}})
    assert (status, "SIGKILL" in answer["message"]) == (422, True), answer
    assert act(session, "fork") == "second True"
    assert not [line for line in support.descendants(session.pid).values() if "sleep" in line]
    assert list(support.descendants(runner)) == []
    assert act(session, "print") == "second True"
    assert act(session, "parent") == str(runner), "the runner didn't outlive all that"
    os.kill(runner, signal.SIGKILL)
    assert act(session, "hello") == "second True"
    assert json.loads(session.flow("test").stdout) == {"answer": "second True"}
    eventually("another runner", lambda: runner_of(session) not in (0, runner))


def cpu(pid: int) -> float:
    """Seconds of processor that a process and those of its children that have ended used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
