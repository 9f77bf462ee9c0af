"""Flow tests in a process that has already imported prompt flow give the same results as in a new one. Uses a real agent."""

import contextlib
import dataclasses
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from . import support
from .conftest import StartAgent
from .support import Agent, Operator, eventually
from .test_connections import Secrets

FLOW = {
    "flow.dag.yaml": b"""
inputs:
  do: {type: string, default: nothing}
outputs:
  found: {type: object, reference: "${act.output}"}
nodes:
- name: act
  type: python
  source: {type: code, path: act.py}
  inputs: {do: "${inputs.do}"}
""",
    "act.py": b"""
import os
import signal
import subprocess
import sys
import time

from promptflow.core import tool

import helper

IMPORTED = sorted(name for name in sys.modules if not name.startswith(("helper", "flowsession_agent")))


@tool
def act(do: str) -> dict:
    if do == "raise":
        raise ValueError("raised by the tool")
    if do == "exit":
        os._exit(3)
    if do == "kill":
        os.killpg(0, signal.SIGKILL)
    if do == "leave":
        if os.fork() == 0:
            os.setsid()
            time.sleep(600)
        subprocess.Popen(["sleep", "601"], start_new_session=True)
        for _ in range(10):
            sys.stdout.write("x" * 1_000_000)
    return {
        "pid": os.getpid(),
        "command": open("/proc/self/cmdline").read().split("\\0"),
        "helper": helper.WORD,
        "imported": IMPORTED,
        "argv": sys.argv[0],
        "cwd": os.getcwd(),
        "ours": [os.getpid() == os.getpgrp() == os.getsid(0), os.getppid(), os.nice(0), os.umask(0o022)],
        "signals": [str(signal.getsignal(number)).split(" at ")[0] for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)],
        "descriptors": sorted(int(name) for name in os.listdir("/proc/self/fd"))[:6],
        "standard": [os.readlink("/proc/self/fd/0"), sys.stdin.seekable()],
        "path": sys.path,
        "environment": {name: value for name, value in os.environ.items() if name != "FLOWSESSION_JOB"},
    }
""",
    "helper.py": b"WORD = 'first'\n",
}


def ask(agent: Agent, do: str = "nothing") -> dict[str, Any]:
    status, answer = agent.call("POST", "/v1/test", {"inputs": {"do": do}})
    assert status == 200, answer
    found: dict[str, Any] = answer["outputs"]["found"]
    return found


def runner_of(agent: Agent) -> int:
    """Return the PID of the process that waits, or will wait, for the next test."""
    return min(eventually("a runner", lambda: support.runners(agent)))


@contextlib.contextmanager
def cold(agent: Agent) -> Iterator[None]:
    """Have tests run in new processes: the flow has a module of its own by the name of one that is imported ahead."""
    module = agent.home / "flow" / "_strptime.pyi"
    module.touch()
    try:
        yield
    finally:
        module.unlink()


def command_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")


def same(found: dict[str, Any]) -> dict[str, Any]:
    """Return what a test found without what differs between any two processes."""
    return {**found, "pid": 0, "command": []}


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


@dataclasses.dataclass(frozen=True)
class Session:
    """A session in which one test has run, and what that test found."""

    agent: Agent
    first: dict[str, Any]


@pytest.fixture(scope="module")
def tested(tmp_path_factory: pytest.TempPathFactory, flow_base: str) -> Iterator[Session]:
    agent = support.start(tmp_path_factory.mktemp("session"), python=flow_base, operator=Operator())
    assert agent.put("p1", "f1", files=FLOW)[0] == 200
    with cold(agent):
        first = ask(agent)
    assert "run_flow" in str(first["command"])
    yield Session(agent, first)
    left = runner_of(agent)
    agent.process.terminate()
    agent.process.wait(60)
    assert gone(left)


def test_the_second_test_runs_in_a_process_that_was_there_before_and_finds_all_as_a_new_one_would(tested: Session) -> None:
    session, first = tested.agent, tested.first
    warm = runner_of(session)
    for _ in range(2):
        second = ask(session)
        assert second["command"] == command_of(warm), "forked from it"
        assert same(second) == same(first)
        assert gone(second["pid"])
        assert support.runners(session) == [warm]


def test_in_it_a_flow_ends_and_fails_as_in_a_new_process(tested: Session) -> None:
    session = tested.agent
    deeds = ("raise", "exit", "kill", "leave")
    with cold(session), ThreadPoolExecutor(len(deeds)) as pool:
        expected = list(pool.map(lambda deed: answer_of(session, deed), deeds))
    assert [status for status, *_ in expected] == [422, 422, 422, 200]
    warm = runner_of(session)
    for deed, answer in zip(deeds, expected, strict=True):
        assert answer_of(session, deed) == answer, deed
        assert support.runners(session) == [warm]
        assert not [line for line in support.descendants(session.pid).values() if "sleep" in line]


def answer_of(agent: Agent, do: str) -> tuple[Any, ...]:
    """Return the answer without what differs between any two."""
    status, answer = agent.call("POST", "/v1/test", {"inputs": {"do": do}})
    found = same(answer.get("outputs", {}).get("found", {}))
    said = [line for line in answer.get("stderrTail", "").splitlines() if "execution" not in line]  # log lines with times
    return status, answer.get("code"), answer.get("message"), found, said


def test_what_has_changed_since_it_was_started_is_as_in_a_new_process(start: StartAgent, flow_base: str, tmp_path: Path) -> None:
    added = tmp_path / "added"
    added.mkdir()
    agent = start(python=flow_base, PYTHONPATH=str(added))
    assert agent.put("p1", "f1", files=FLOW)[0] == 200
    assert ask(agent)["helper"] == "first"
    warm = runner_of(agent)
    (agent.home / "flow" / "helper.py").write_text("WORD = 'second'\n")
    found = ask(agent)
    assert (found["helper"], found["command"]) == ("second", command_of(warm)), "the flow's own modules are never imported ahead"
    (agent.home / "flow" / "helper.py").unlink()
    changes: dict[str, Callable[[], object]] = {
        "a package": lambda: (added / "helper.py").write_text("WORD = 'third'\n"),
        "prompt flow's configuration": lambda: (agent.home / "flow" / "pf.yaml").write_text("{}"),
    }
    for what, change in changes.items():
        stale = runner_of(agent)
        imported(stale)
        change()
        found = ask(agent)
        assert (found["helper"], gone(stale), found["command"]) == ("third", True, command_of(runner_of(agent))), what
    with cold(agent):
        found = ask(agent)
        assert (found["helper"], "run_flow" in str(found["command"])) == ("third", True)


def imported(pid: int) -> None:
    """Wait until a process has begun the last of its imports."""
    eventually("imported", lambda: "/jiter" in Path(f"/proc/{pid}/maps").read_text())


ENDS = {
    "flow.dag.yaml": b"""
inputs: {text: {type: string}}
outputs: {text: {type: string, reference: "${ends.output}"}}
nodes:
- name: ends
  type: python
  source: {type: code, path: ends.py}
  inputs: {text: "${inputs.text}"}
""",
    "ends.py": b"""
import atexit
import threading
import time

from promptflow.core import tool

import leaves


@tool
def ends(text: str) -> str:
    def later() -> None:
        time.sleep(0.3)
        leaves.write("thread " + text)

    threading.Thread(target=later).start()
    atexit.register(lambda: leaves.write("atexit " + text))
    leaves.leave(text)
    return text
""",
    "leaves.py": b"""
import builtins

def write(line, open=open):
    with open("left.txt", "a") as file:
        print(line, file=file)


class Left:
    def __init__(self, text, write=write):
        self.text, self.write, self.itself = text, write, self

    def __del__(self):
        self.write("del " + self.text)


def leave(text):
    global OPEN, LEFT
    Left("cycle " + text)
    LEFT = Left("global")
    OPEN = open("open.txt", "w")
    OPEN.write("unflushed " + text)
    builtins.kept = open("kept.txt", "w")
    builtins.kept.write("kept " + text)
""",
}


def test_it_ends_as_python_does(start: StartAgent, flow_base: str) -> None:
    agent = start(python=flow_base)
    assert agent.put("p1", "f1", files=ENDS)[0] == 200
    folder = agent.home / "flow"
    for text in ("cold", "warm"):
        with cold(agent) if text == "cold" else contextlib.nullcontext():
            assert agent.call("POST", "/v1/test", {"inputs": {"text": text}})[0] == 200
        assert (folder / "open.txt").read_text() == f"unflushed {text}"
        assert (folder / "kept.txt").read_text() == f"kept {text}"
        lines = (folder / "left.txt").read_text().splitlines()
        assert lines[:2] == [f"thread {text}", f"atexit {text}"]
        assert sorted(lines[2:]) == [f"del cycle {text}", "del global"]
        (folder / "left.txt").unlink()
        assert support.runners(agent) == [runner_of(agent)]


def test_a_changed_connection_is_in_use_in_it_at_once(start: StartAgent, flow_base: str, tmp_path: Path) -> None:
    secrets = Secrets(tmp_path / "mounted")
    secrets.write("own", {"type": "custom", "configs.where": "Delft", "secrets.k": "unused"})
    agent = start(python=flow_base, FLOWSESSION_CONNECTIONS=secrets.variable(own="own"))
    head = b"environment_variables: {PLACE: '${own.where}'}\n"
    assert agent.put("p1", "f1", files={**FLOW, "flow.dag.yaml": head + FLOW["flow.dag.yaml"]})[0] == 200
    assert ask(agent)["environment"]["PLACE"] == "Delft"
    warm = runner_of(agent)
    secrets.write("own", {"type": "custom", "configs.where": "Breda", "secrets.k": "unused"})
    found = ask(agent)
    assert (found["environment"]["PLACE"], found["command"]) == ("Breda", command_of(warm))


def test_another_install_is_not_missed(start: StartAgent, flow_base: str) -> None:
    agent = start(python=flow_base)
    assert agent.put("p1", "f1", files=FLOW)[0] == 200
    ask(agent)
    before = runner_of(agent)
    assert agent.install("p2", "iniconfig==2.1.0\n", files=FLOW, flow="f1")["state"] == "Succeeded"
    found = ask(agent)
    assert gone(before)
    assert any(path.startswith(str(agent.home / "venvs")) for path in found["path"])
    warm = runner_of(agent)
    assert warm != before
    again = ask(agent)
    assert (again["command"], same(again)) == (command_of(warm), same(found))


def test_one_that_is_killed_and_five_at_once(tested: Session) -> None:
    session, first = tested.agent, tested.first
    os.kill(runner_of(session), signal.SIGKILL)
    found = ask(session)
    warm = runner_of(session)
    assert (found["command"], same(found)) == (command_of(warm), same(first))
    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda _: session.call("POST", "/v1/test", {"inputs": {}}), range(5)))
    all_found = [answer["outputs"]["found"] for status, answer in answers if status == 200]
    assert [answer["code"] for status, answer in answers if status != 200] in ([], ["TooManyTests"])
    assert len({one["pid"] for one in all_found}) == len(all_found) >= 4
    assert all(one["command"] == command_of(warm) and same(one) == same(first) for one in all_found)


def test_it_is_no_work_and_hides_none(start: StartAgent, flow_base: str) -> None:
    agent = start(python=flow_base, pid1=True)
    assert agent.put("p1", "f1", files=FLOW)[0] == 200
    ask(agent)
    pid = runner_of(agent)

    def idle() -> bool:
        activity: dict[str, Any] = agent.state()["activity"]
        return not activity["busy"] and activity["idleSeconds"] > 5

    eventually("idle", idle)
    assert support.runners(agent) == [pid]

    def seen() -> bool:
        """Return whether a command is recognized. While the process imports, a command might be its child."""
        assert agent.execute("true").wait() == 0
        return agent.state()["activity"]["what"] in ("exec (a short command)", "exec true")

    eventually("a command is seen", seen)
    eventually("idle again", idle)
    assert support.runners(agent) == [pid]


PROMPT_FLOW = """
import builtins
import multiprocessing
import os
import threading

with open("imports.txt", "a") as file:
    print(os.getpid(), file=file)


class PFClient:
    @property
    def flows(self):
        return self

    def test(self, **_):
        with open("/proc/self/cmdline") as file:
            return {"forked": "run_forks" in file.read()}


"""


@pytest.mark.parametrize(
    ("more", "forked"),
    [
        ("LOCK = multiprocessing.RLock()\n", True),
        ("SLOTS = multiprocessing.Semaphore(2)\n", False),
        ("threading.Thread(target=threading.Event().wait, args=(3,)).start()\n", False),
        ("was = open\nbuiltins.open = lambda path, *a, **k: was('/nowhere' if path == '/proc/self/mem' else path, *a, **k)\n", False),
    ],
    ids=["lock", "semaphore", "thread", "memory"],
)
def test_where_a_fork_would_not_be_as_a_new_process_none_is_made(start: StartAgent, tmp_path: Path, more: str, forked: bool) -> None:
    """Uses a prompt flow that stands for other versions of it, or for another kernel."""
    (tmp_path / "promptflow").mkdir()
    (tmp_path / "promptflow" / "__init__.py").touch()
    (tmp_path / "promptflow" / "client.py").write_text(PROMPT_FLOW + more)
    agent = start(PYTHONPATH=str(tmp_path))
    agent.put("p1", "f1", files={**FLOW, "flow.dag.yaml": FLOW["flow.dag.yaml"].replace(b"act.py", b"missing.py")})
    agent.settled()
    for _ in range(3):
        status, answer = agent.call("POST", "/v1/test", {"inputs": {}})
        assert (status, answer["outputs"]) == (200, {"forked": forked}), answer
    imports = len((agent.home / "flow" / "imports.txt").read_text().split())
    assert imports == (1 if forked else 1 + 3)
