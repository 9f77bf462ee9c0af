"""The duties of PID 1, and how the agent starts and ends."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from localcluster.ports import free_port

from . import support
from .conftest import StartAgent
from .support import Agent, eventually, hanging_index

ASKED_TO_END = 128 + signal.SIGTERM
"""The exit code after SIGTERM. With 0, a kubelet would report the pod as Succeeded, whatever the reason for its end."""


def end(agent: Agent, *, seconds: float = 90) -> int:
    os.kill(agent.pid, signal.SIGTERM)
    return agent.process.wait(seconds)


def zombies(agent: Agent) -> int:
    listing = subprocess.run(["ps", "-o", "stat=", "--ppid", str(agent.pid)], capture_output=True, text=True, check=False).stdout
    return listing.count("Z")


def test_orphans_are_reaped(start: StartAgent, python: str) -> None:
    agent = start(pid1=True, python=python)
    script = "for i in 1 2 3 4 5 6 7 8 9 10; do (sleep 0.1 &) ; done; exit 0"
    assert agent.execute("sh", "-c", script).wait() == 0
    eventually("no child left", lambda: not support.descendants(agent.pid))
    assert zombies(agent) == 0


def test_sigterm_ends_an_agent_with_nothing_to_do(start: StartAgent, python: str) -> None:
    agent = start(pid1=True, python=python)
    agent.put("p1")
    started = time.monotonic()
    assert end(agent) == ASKED_TO_END
    assert time.monotonic() - started < 5


def test_sigterm_ends_a_running_install_and_a_waiting_poll(start: StartAgent, plain_base: str) -> None:
    agent = start(pid1=True, python=plain_base)
    with hanging_index() as index:
        agent.put("p1", requirements={"text": "six", "path": None}, installer={"indexURL": index})
        eventually("uv runs", lambda: any("uv pip" in line for line in support.descendants(agent.pid).values()))
        assert end(agent) == ASKED_TO_END


def test_sigterm_asks_adopted_processes_to_end(start: StartAgent, tmp_path: Path) -> None:
    agent = start(pid1=True)
    program = (
        "import os, signal, sys, time; mark = sys.argv[1]\n"
        "signal.signal(15, lambda *_: (open(mark, 'w').write('asked'), sys.exit()))\nopen(mark, 'w').write('ready'); time.sleep(600)"
    )
    mark = tmp_path / "mark"
    script = f'setsid {sys.executable} -c "$0" {mark} >/dev/null 2>&1 & exit 0'
    assert agent.execute("sh", "-c", script, program).wait() == 0
    eventually("ready", lambda: mark.exists() and mark.read_text() == "ready")
    assert end(agent) == ASKED_TO_END
    assert mark.read_text() == "asked"


def test_the_agent_can_not_be_looked_into_by_its_own_user(start: StartAgent, tmp_path: Path, operator: support.Operator) -> None:
    prefix = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps=-all")
    with support.folder_of(65534) as folder:
        agent = start(folder=folder, python="/usr/bin/python3", prefix=prefix, command=support.as_file(folder, "/usr/bin/python3"))
        peek = [*prefix, "cat", f"/proc/{agent.pid}/environ"]
        ordinary = subprocess.Popen([*prefix, "sleep", "600"])
        try:
            readable = [*prefix, "cat", f"/proc/{ordinary.pid}/environ"]
            eventually("an ordinary process can be", lambda: subprocess.run(readable, capture_output=True, check=False).returncode == 0)
            eventually("refused", lambda: subprocess.run(peek, capture_output=True, check=False).returncode != 0)
        finally:
            ordinary.kill()
            ordinary.wait()
        assert agent.call("GET", "/healthz", token=None)[0] == 200


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"FLOWSESSION_POD_UID": ""}, "FLOWSESSION_POD_UID"),
        ({"FLOWSESSION_PUBLIC_KEYS": "x"}, "FLOWSESSION_PUBLIC_KEYS"),
        ({"FLOWSESSION_PUBLIC_KEYS": '{"keys": []}'}, "holds no RSA key"),
        ({"FLOWSESSION_PORT": "http"}, "FLOWSESSION_PORT"),
        ({"FLOWSESSION_HOME": "/proc/nowhere"}, "Can't write to /proc/nowhere"),
    ],
    ids=str,
)
def test_a_wrong_start_is_one_sentence(tmp_path: Path, operator: support.Operator, change: dict[str, str], word: str) -> None:
    import json

    settings = {
        "FLOWSESSION_HOME": str(tmp_path / "session"),
        "FLOWSESSION_POD_UID": "u",
        "FLOWSESSION_PUBLIC_KEYS": json.dumps({"keys": [operator.public]}),
        "FLOWSESSION_PORT": str(free_port()),
    }
    ran = subprocess.run(
        [sys.executable, "-IS", "-c", support.START], env={**settings, **change}, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 1
    assert word in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


def test_a_port_in_use_is_one_sentence(tmp_path: Path, operator: support.Operator, start: StartAgent) -> None:
    agent = start()
    environment = {
        "FLOWSESSION_HOME": str(agent.home),
        "FLOWSESSION_POD_UID": "u",
        "FLOWSESSION_PUBLIC_KEYS": "{}",
        "FLOWSESSION_PORT": str(agent.port),
    }
    ran = subprocess.run(
        [sys.executable, "-IS", "-c", support.START], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (ran.returncode, "is an agent running here already?" in ran.stderr) == (1, True)
    assert agent.flow("status").returncode == 0  # its socket still exists


def test_the_unix_socket_is_for_this_user_only_and_survives_a_kill(start: StartAgent) -> None:
    first = start()
    assert (first.home / "agent.sock").stat().st_mode & 0o777 == 0o600
    first.close()
    assert start().flow("status").returncode == 0


def test_ipv6_is_served_where_the_node_has_it(agent: Agent) -> None:
    if not socket.has_ipv6 or not Path("/proc/net/if_inet6").read_text():
        return
    with socket.create_connection(("::1", agent.port), timeout=10) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 OK")
