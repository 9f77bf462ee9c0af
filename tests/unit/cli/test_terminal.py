"""A start and a run in a pseudo-terminal: the live picture, ^C, and terminals that can't show one."""

import fcntl
import os
import pty
import select
import shutil
import signal
import struct
import sys
import termios
import time
from pathlib import Path

import pytest

from flowsession_cli import app

STANDIN = Path(__file__).with_name("kubectl_standin.py")


class Terminal:
    """`kubectl flow` in a flow folder, in a terminal of its own."""

    def __init__(self, folder, *words, **environ):
        self.done = folder / "bin" / "done"
        (folder / "bin").mkdir()
        (folder / "chat").mkdir()
        (folder / "chat" / "flow.dag.yaml").write_text("nodes: []\n")
        script = folder / "bin" / "kubectl"
        script.write_text(f"#!{sys.executable}\n{STANDIN.read_text()}")
        script.chmod(0o755)
        environ = {"TERM": "xterm-256color", **environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
        environ["PYTHONPATH"] = str(Path(app.__file__).parents[1])
        self.pid, self._fd = pty.fork()
        if not self.pid:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # where the tests run in the background, ^C is ignored
            os.chdir(folder / "chat")
            os.execve(sys.executable, [sys.executable, "-m", "flowsession_cli", *(words or ["start"])], os.environ | environ)
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 80, 0, 0))
        self.seen = ""

    def until(self, text, *, seconds=60):
        deadline = time.monotonic() + seconds
        while text not in self.seen:
            piece = self._read(deadline)
            assert piece, f"it ended: {self.seen}"
            self.seen += piece.decode(errors="replace")

    def _read(self, deadline):
        """What comes before the deadline, or fails; empty at the end."""
        assert select.select([self._fd], [], [], max(0.0, deadline - time.monotonic()))[0], self.seen
        try:
            return os.read(self._fd, 65536)
        except OSError:  # how Linux ends a terminal
            return b""

    def press(self, key):
        os.write(self._fd, key)

    def end(self, *, seconds=60):
        """The exit status."""
        deadline = time.monotonic() + seconds
        while piece := self._read(deadline):
            self.seen += piece.decode(errors="replace")
        os.close(self._fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.fixture
def folder(tmp_path):
    yield tmp_path
    shutil.rmtree(tmp_path, ignore_errors=True)


def test_the_stages_come_live_and_the_end_says_how_to_use_it(folder):
    terminal = Terminal(folder)
    terminal.until("installing 3 requirements")
    assert "a node was found" in terminal.seen
    assert "packages are installed" not in terminal.seen
    terminal.done.touch()
    assert terminal.end() == 0
    assert "\x1b[32m✓" in terminal.seen
    assert "packages are installed" in terminal.seen
    assert "chat runs on node-b, 0.7 s from its start" in terminal.seen
    assert terminal.seen.endswith("end it\r\n")


def test_interrupted_it_says_that_the_start_goes_on(folder):
    terminal = Terminal(folder)
    terminal.until("installing 3 requirements")
    terminal.press(b"\x03")
    assert terminal.end() == 130
    assert "detached: chat goes on without you" in terminal.seen
    assert terminal.seen.rstrip().endswith("ends it"), "nothing is drawn after that"


@pytest.mark.parametrize("environ", [{"TERM": "dumb"}, {"NO_COLOR": "1"}], ids=str)
def test_without_colour(folder, environ):
    terminal = Terminal(folder, **environ)
    terminal.done.touch()
    assert terminal.end() == 0
    assert "\x1b[32m" not in terminal.seen
    assert "packages are installed" in terminal.seen


def test_a_run_is_a_bar_and_its_failed_lines(folder):
    terminal = Terminal(folder, "run", "stream", "answers")
    terminal.until("1/3")
    assert "Running" in terminal.seen
    assert "━" in terminal.seen
    terminal.done.touch()
    assert terminal.end() == 1
    assert "1 failed" in terminal.seen
    assert "line 2: no such word" in terminal.seen


def test_an_interrupted_stream_says_that_the_run_goes_on(folder):
    terminal = Terminal(folder, "run", "stream", "answers")
    terminal.until("1/3")
    terminal.press(b"\x03")
    assert terminal.end() == 130
    assert "detached: answers goes on without you" in terminal.seen


def test_a_secret_that_is_asked_for_is_seen_nowhere(folder):
    """Not on the screen, not in a command line; kubectl gets it on its standard input."""
    (folder / "c.yaml").write_text("name: open_ai_connection\ntype: open_ai\napi_key: <user-input>\n")
    terminal = Terminal(folder, "connection", "create", "-f", str(folder / "c.yaml"))
    terminal.until("api_key: ")
    terminal.press(b"sk-hidden\n")
    assert terminal.end() == 0, terminal.seen
    assert "connection open_ai_connection, type open_ai, in Secret open-ai-connection" in terminal.seen
    assert "sk-hidden" not in terminal.seen
    called = (folder / "bin" / "called").read_text()
    assert "create -f - -o name" in called
    assert "sk-hidden" not in called
    assert '"api_key": "sk-hidden"' in (folder / "bin" / "given").read_text()
