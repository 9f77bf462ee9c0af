"""A start and a run in a pseudo-terminal: the live picture, ^C, and terminals that can't show one."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from flowsession_cli import app
from pseudo_terminal import PseudoTerminal

STANDIN = Path(__file__).with_name("kubectl_standin.py")


class Terminal(PseudoTerminal):
    """`kubectl flow` in a flow folder, in its own terminal."""

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
        super().__init__([sys.executable, "-m", "flowsession_cli", *(words or ["start"])], folder / "chat", os.environ | environ)


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
    assert terminal.seen.rstrip().endswith("kubectl flow stop chat deletes the session"), "nothing is drawn after that"


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
    """It is not on the screen and not in a command line. kubectl gets it on standard input."""
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
