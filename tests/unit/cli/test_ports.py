"""`open`: a port is forwarded, shown, and forwarded again when its connection breaks."""

import os
import signal
import socket
import sys
import webbrowser

import pytest
from click.testing import CliRunner

from flowsession_cli import app
from flowsession_cli.commands import ports
from unit.cli.fakes import FakeCluster, condition, ready_status

KUBECTL = """
import pathlib, sys, time
here, words = pathlib.Path(sys.argv[1]), sys.argv[2:]
with (here / "calls").open("a") as calls: print(*words[:2], words[-1] if words[0] == "port-forward" else "", file=calls)
if words[0] == "exec":
    if (here / "silent").exists():
        print("nobody", flush=True)
        (here / "silent").unlink()
    sys.exit()
left = (here / "left").read_text().splitlines()
(here / "left").write_text("\\n".join(left[1:]))
word, _, text = left[0].partition(" ")
if word == "stay":
    (here / "staying").touch()
if word != "refused":
    print(f"Forwarding from 127.0.0.1:{words[-1].split(':')[0]} -> 8501", flush=True)
if word == "stay":
    time.sleep(60)
sys.exit(text)
"""


@pytest.fixture
def cluster(monkeypatch, tmp_path):
    """A cluster whose kubectl forwards as the file `left` says, one line per call: `broke WORDS`, `refused WORDS`, or `stay` until ^C."""
    fake = FakeCluster()
    fake.put("ComputeSession", "chat", spec={"environmentRef": {"name": "chat"}}, status=ready_status())
    monkeypatch.setattr("flowsession_cli.cluster.Cluster", lambda **_: fake)
    monkeypatch.setattr(ports.time, "sleep", lambda _: None)
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "kubectl.py").write_text(KUBECTL)
    fake.__dict__["command"] = lambda *words: [sys.executable, str(tmp_path / "kubectl.py"), str(tmp_path), *words]
    tell = ports._Opened._print

    def told(self, name, local):
        tell(self, name, local)
        if (tmp_path / "staying").exists():
            raise KeyboardInterrupt

    monkeypatch.setattr(ports._Opened, "_print", told)
    return fake


def opened(tmp_path, *words, left="stay"):
    (tmp_path / "left").write_text(left)
    return CliRunner().invoke(app.cli, ["open", *words])


def test_it_is_told_where_it_is_and_interrupting_ends_it(cluster, tmp_path):
    done = opened(tmp_path, "chat", "8501", "--local-port", "18501")
    assert done.exit_code == 0, done.output
    assert "port 8501 of chat is at http://127.0.0.1:18501/, from this machine alone; there is no browser here" in done.output
    assert done.output.endswith("closed\n")
    assert (tmp_path / "calls").read_text().splitlines()[-1] == "port-forward --address=127.0.0.1 18501:8501"


def test_a_browser_is_opened_once_and_a_broken_connection_is_made_again(cluster, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setenv("BROWSER", "any")
    monkeypatch.setattr(webbrowser, "open", lambda url: shown.append(url) or True)
    done = opened(tmp_path, "chat", "8501", "--local-port", "18501", left="broke error: lost connection to pod\nstay")
    assert "the connection to chat broke (lost connection to pod): it is made again" in done.output
    assert "no browser" not in done.output
    assert shown == ["http://127.0.0.1:18501/"]


def test_a_pod_that_is_lost_is_noticed_before_the_port_is_used(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(ports, "_LOOK_SECONDS", 0.01)
    session = cluster.things["computesessions.flowsession.dev", "chat"]

    def told(self, name, local):
        if (tmp_path / "moved").exists():
            raise KeyboardInterrupt
        session["status"]["podName"] = "chat-2"
        (tmp_path / "moved").touch()

    monkeypatch.setattr(ports._Opened, "_print", told)
    done = opened(tmp_path, "chat", "8501", left="stay\nstay")
    assert "the connection to chat broke (its pod chat-1 is gone): it is made again" in done.output


def test_it_waits_for_a_listener_and_says_so(cluster, tmp_path):
    (tmp_path / "silent").touch()
    done = opened(tmp_path, "chat", "8501", "--no-browser")
    assert "nothing listens on port 8501 in chat yet: start it there, for example in kubectl flow sh chat; waiting" in done.output


def test_a_session_that_was_suspended_meanwhile_is_not_resumed_by_that(cluster, tmp_path, monkeypatch):
    def suspended(*_):
        cluster.things["computesessions.flowsession.dev", "chat"]["status"] = {
            "phase": "Suspended",
            "conditions": [condition("Ready", "False", "Suspended", "")],
        }

    monkeypatch.setattr(ports.time, "sleep", suspended)
    done = opened(tmp_path, "chat", "8501", left="broke error: lost connection to pod")
    assert "chat was suspended: kubectl flow open chat 8501 resumes it" in str(done.exception)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("Unable to listen on port 18501: address already in use", "port 18501 of this machine is taken: choose another by --local-port"),
        ('pods "chat-1" is forbidden: User "eve" cannot create resource "pods/portforward" in API group ""', "eve may not create"),
    ],
)
def test_what_cannot_be_forwarded_is_told(cluster, tmp_path, words, said):
    assert said in str(opened(tmp_path, "chat", "8501", "--local-port", "18501", left=f"refused {words}").exception)


@pytest.mark.parametrize("words", [("chat", "http"), ("chat", "0"), ("chat", "65536")])
def test_a_port_is_a_number(cluster, tmp_path, words):
    assert "is no port: kubectl flow open chat 8501" in str(opened(tmp_path, *words).exception)
    assert str(opened(tmp_path, "chat").exception) == "the port is missing: kubectl flow open chat 8501"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_closed_terminal_ends_kubectl_too(cluster, tmp_path, monkeypatch, number):
    before = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGHUP)}
    forwards = []
    popen = ports.subprocess.Popen

    def started(*words, **options):
        forwards.append(popen(*words, **options))
        return forwards[-1]

    monkeypatch.setattr(ports.subprocess, "Popen", started)
    monkeypatch.setattr(ports._Opened, "_print", lambda *_: os.kill(os.getpid(), number))
    signal.signal(number, signal.SIG_DFL)  # under nohup SIGHUP is ignored
    try:
        assert opened(tmp_path, "chat", "8501").exit_code == 128 + number
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
    assert [process.returncode for process in forwards] == [0, -signal.SIGKILL]


def test_a_port_that_is_taken_here_gives_way():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert ports._free(port) != port
    assert ports._free(port) == port
