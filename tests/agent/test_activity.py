"""Idleness, with an agent as PID 1 of a namespace and commands executed there as `kubectl exec` does."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from flowsession_agent.session.activity import AWAY_SECONDS

from . import support
from .conftest import StartAgent
from .support import Agent, Operator, eventually

BUSY = "while True: pass"


@pytest.fixture(scope="module")
def pod(tmp_path_factory: pytest.TempPathFactory, operator: Operator) -> Iterator[Agent]:
    agent = support.start_as_pid1(tmp_path_factory.mktemp("pod"), operator=operator)
    yield agent
    agent.close()


def kill(agent: Agent, pids: Iterable[int]) -> None:
    """Kill what a test left behind, and wait until it is gone. A process's end counts as its last work."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    eventually("reaped", lambda: not set(pids) & set(support.descendants(agent.pid)))


def activity(agent: Agent) -> dict[str, Any]:
    found: dict[str, Any] = agent.state()["activity"]
    return found


def becomes_idle(agent: Agent) -> None:
    eventually("idle", lambda: not activity(agent)["busy"])


def test_an_executed_command_is_work_while_it_lives(pod: Agent) -> None:
    becomes_idle(pod)
    with pod.executing("sleep", "600"):
        eventually("busy", lambda: activity(pod) == {"busy": True, "idleSeconds": 0, "what": "exec sleep 600"})
    becomes_idle(pod)
    assert activity(pod)["what"] == "exec sleep 600"


def test_what_a_client_left_is_ended_by_its_call_and_nothing_else_is(pod: Agent) -> None:
    def hang_up(call: str) -> int:
        return pod.execute(*pod.command("hang-up", call, "HUP")[0]).wait()

    def running() -> dict[str, int]:
        """Return the descendants of this test, since an executed command is not a descendant of the agent."""
        return {line.rstrip(): pid for pid, line in support.descendants(os.getpid()).items()}

    called = pod.execute("setsid", "env", "FLOWSESSION_CALL=a1", "sh", "-c", "setsid sleep 601 & sleep 602 & wait")
    try:
        with pod.executing("sleep", "603"):
            eventually("all run", lambda: {"sleep 601", "sleep 602"} <= set(running()))
            assert hang_up("a2") == 1
            assert "sleep 602" in running()
            assert hang_up("a1") == 0
            eventually("its group is gone", lambda: "sleep 602" not in running())
            assert {"sleep 601", "sleep 603"} <= set(running())
            called.wait()
    finally:
        kill(pod, [pid for line, pid in running().items() if re.fullmatch("sleep 60[12]", line)])


def test_idle_seconds_never_run_ahead_of_the_clock(pod: Agent) -> None:
    with pod.executing("sleep", "600"):
        eventually("busy", lambda: activity(pod)["busy"])
    ended = time.monotonic()
    eventually("idle for a second", lambda: activity(pod)["idleSeconds"] >= 1)
    idle = activity(pod)["idleSeconds"]
    assert idle <= time.monotonic() - ended + 0.1


def test_a_process_left_behind_that_computes_is_work_and_one_that_sleeps_is_not(pod: Agent) -> None:
    python = "/proc/1/exe"
    for program, busy in ((BUSY, True), ("import time; time.sleep(600)", False)):
        becomes_idle(pod)
        script = f"setsid {python} -IS -c '{program}' >/dev/null 2>&1 & exit 0"
        assert pod.execute("sh", "-c", script).wait() == 0
        process = eventually(
            "adopted", lambda program=program: [pid for pid, line in support.descendants(pod.pid).items() if program in line]
        )
        try:
            if busy:
                eventually("busy", lambda: activity(pod)["what"].startswith("process ") and activity(pod)["busy"])
            else:
                eventually("idle for 2 s", lambda: activity(pod)["idleSeconds"] > 2)
        finally:
            kill(pod, process)


def test_a_listening_server_alone_is_no_work(pod: Agent) -> None:
    becomes_idle(pod)
    server = 'import socket; s = socket.create_server((\\"127.0.0.1\\", 0)); s.accept()'
    assert pod.execute("sh", "-c", f'setsid /proc/1/exe -IS -c "{server}" >/dev/null 2>&1 & exit 0').wait() == 0
    process = eventually("server", lambda: [pid for pid, line in support.descendants(pod.pid).items() if "create_server" in line])
    eventually("idle for 7 s", lambda: activity(pod)["idleSeconds"] > 7)
    kill(pod, process)


def test_a_connection_to_a_server_of_the_session_is_work(pod: Agent) -> None:
    script = (
        "import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen();"
        " open('/tmp/flowsession-test-port', 'w').write(str(s.getsockname()[1])); c, _ = s.accept(); c.recv(1); c.close(); s.accept()"
    )
    port_file = Path("/tmp/flowsession-test-port")
    port_file.unlink(missing_ok=True)
    assert pod.execute("sh", "-c", f'setsid /proc/1/exe -IS -c "{script}" >/dev/null 2>&1 & exit 0').wait() == 0
    port = int(eventually("the server listens", lambda: port_file.exists() and port_file.read_text()))
    becomes_idle(pod)
    with socket.create_connection(("127.0.0.1", port)) as client:
        eventually("busy", lambda: activity(pod)["what"] == f"server :{port}" and activity(pod)["busy"])
        client.sendall(b"x")
    becomes_idle(pod)


def test_retire_asks_the_processes_once_more(pod: Agent) -> None:
    becomes_idle(pod)
    for _ in range(10):  # each time, no sample has seen the command yet
        with pod.executing("sleep", "600"):
            status, answer = pod.call("POST", "/v1/retire", {"idleAtLeast": 0})
        assert (status, answer["code"], answer["activity"]["busy"]) == (409, "InUse", True)


def test_retire_needs_the_idleness_it_asks_for(pod: Agent) -> None:
    becomes_idle(pod)
    pod.call("POST", "/v1/keepalive")
    status, answer = pod.call("POST", "/v1/retire", {"idleAtLeast": 60})
    assert (status, answer["code"], answer["activity"]["what"]) == (409, "InUse", "keep-alive")
    for junk in ({"idleAtLeast": "x"}, {"idleAtLeast": -1}, {"idleAtLeast": True}, []):
        assert pod.call("POST", "/v1/retire", junk)[0] == 400


def test_a_stopped_agent_does_not_take_its_absence_for_idleness(pod: Agent) -> None:
    becomes_idle(pod)
    eventually("idle for 2 s", lambda: activity(pod)["idleSeconds"] > 2)
    os.kill(pod.pid, signal.SIGSTOP)
    try:
        with pod.executing("sleep", "600"):  # work that starts and ends unobserved
            time.sleep(AWAY_SECONDS + 1)
    finally:
        os.kill(pod.pid, signal.SIGCONT)
    status, answer = pod.call("POST", "/v1/retire", {"idleAtLeast": AWAY_SECONDS})
    assert (status, answer["code"]) == (409, "InUse")
    assert answer["activity"]["idleSeconds"] < 1


def test_sleep_left_behind_by_a_terminal_that_was_closed_is_no_work(pod: Agent) -> None:
    becomes_idle(pod)
    program = (
        "import os, pty\n"
        "child, terminal = pty.fork()\n"
        "if not child: os.execvp('sh', ['sh', '-c', 'trap \"\" HUP; sleep 7777777 & exit'])\n"
        "os.waitpid(child, 0)"
    )
    assert pod.execute("/proc/1/exe", "-IS", "-c", program).wait() == 0
    left = eventually("left behind", lambda: [pid for pid, line in support.descendants(pod.pid).items() if "7777777" in line])
    try:
        eventually("idle for 4 s", lambda: activity(pod)["idleSeconds"] > 4)
    finally:
        kill(pod, left)


def test_a_process_that_falls_asleep_was_idle_since_then(pod: Agent) -> None:
    becomes_idle(pod)
    program = "import time\nwhile time.process_time() < 1: pass\ntime.sleep(600)"
    assert pod.execute("sh", "-c", f"setsid /proc/1/exe -IS -c '{program}' >/dev/null 2>&1 & exit 0").wait() == 0
    process = eventually("adopted", lambda: [pid for pid, line in support.descendants(pod.pid).items() if "process_time" in line])
    try:
        eventually("busy", lambda: activity(pod)["what"].startswith("process ") and activity(pod)["busy"])
        becomes_idle(pod)
        assert 1.5 < activity(pod)["idleSeconds"] < 4, "the two seconds of doubt are idle ones"
    finally:
        kill(pod, process)


def unused(agent: Agent, seconds: float = 1.2) -> None:
    eventually(f"idle for {seconds} s", lambda: activity(agent)["idleSeconds"] >= seconds)


def test_a_command_of_a_few_milliseconds_is_work(pod: Agent) -> None:
    for _ in range(5):
        unused(pod)
        assert pod.execute("true").wait() == 0
        status, answer = pod.call("POST", "/v1/retire", {"idleAtLeast": 1})
        assert (status, answer["code"]) == (409, "InUse")
        assert answer["activity"]["what"] in ("exec (a short command)", "exec true")  # on a busy machine it lives until it is seen


def test_calls_of_the_operator_are_no_commands(pod: Agent) -> None:
    unused(pod)
    before = activity(pod)["idleSeconds"]
    for _ in range(50):
        pod.state()
    eventually("a look", lambda: activity(pod)["idleSeconds"] > before + 1)


def test_a_loop_left_behind_is_no_work(pod: Agent) -> None:
    script = "setsid sh -c 'while :; do sleep 1; /bin/true; done' </dev/null >/dev/null 2>&1 & exit 0"
    assert pod.execute("sh", "-c", script).wait() == 0
    loop = eventually("the loop", lambda: [pid for pid, line in support.descendants(pod.pid).items() if "sleep" in line])
    try:
        unused(pod, 6)
    finally:
        kill(pod, {*loop, *support.descendants(pod.pid)})


@pytest.mark.parametrize("path", ["notes.txt", "lib/b.py"])
def test_a_file_of_the_flow_folder_that_changed_is_work(start: StartAgent, path: str) -> None:
    agent = start()
    assert agent.put("p1", "f1", files={"a.py": b"1", "lib/b.py": b"1"})[0] == 200
    agent.settled()
    eventually("idle for 2 s", lambda: activity(agent)["idleSeconds"] > 2)
    (agent.home / "flow" / path).write_text("2")
    status, answer = agent.call("POST", "/v1/retire", {"idleAtLeast": 2})
    assert (status, answer["code"], answer["activity"]["what"]) == (409, "InUse", f"edit {path}")


def test_what_a_push_changes_is_no_edit(start: StartAgent) -> None:
    agent = start()
    for flow in ("f1", "f2"):
        assert agent.put("p1", flow, files={"a.py": flow.encode(), "lib/b.py": flow.encode()})[0] == 200
        agent.settled()
        eventually("idle for 2 s", lambda: activity(agent)["idleSeconds"] > 2)
        assert activity(agent)["what"] == "environment"


def test_keep_alive_and_retire_never_both_win(pod: Agent) -> None:
    becomes_idle(pod)
    for _ in range(30):
        time.sleep(0.01)
        with ThreadPoolExecutor(2) as pool:
            kept = pool.submit(pod.call, "POST", "/v1/keepalive")
            retired = pool.submit(pod.call, "POST", "/v1/retire", {"idleAtLeast": 0.01})
        answers = {"kept": kept.result()[0], "retired": retired.result()[0]}
        state = pod.state()
        if answers["retired"] == 200:
            assert state["retired"]
            assert pod.call("POST", "/v1/keepalive")[1]["code"] == "Retired"
            pod.call("DELETE", "/v1/retire")
            if answers["kept"] == 200:  # the keep-alive came first, and 0.01 idle seconds followed it
                continue
            assert answers["kept"] == 409
        else:
            assert answers["kept"] == 200


def test_outside_a_namespace_other_peoples_processes_are_none_of_our_business(start: StartAgent) -> None:
    other = subprocess.Popen(["sh", "-c", "while :; do :; done"])
    try:
        agent = start()
        eventually("three samples", lambda: activity(agent)["idleSeconds"] > 3.2)
    finally:
        other.send_signal(signal.SIGKILL)
        other.wait()


def processor_ms(pid: int) -> float:
    """Return the CPU time of all living threads of a process, in milliseconds."""
    return sum(int(file.read_text().split()[0]) for file in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e6


def test_an_idle_session_costs_next_to_nothing(pod: Agent) -> None:
    """A node may run hundreds of sessions. Looking took 10 ms a second when it asked the kernel for all connections."""
    becomes_idle(pod)
    before, began = processor_ms(pod.pid), time.monotonic()
    time.sleep(6)
    took = processor_ms(pod.pid) - before
    assert took / (time.monotonic() - began) < 8, f"{took:.1f} ms in 6 s"
