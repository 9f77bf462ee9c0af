"""`kubectl flow` as its user sees it: in terminals of 80 and of 120 columns, against the cluster."""

import os
import re
import sys
from pathlib import Path

import pyte
import pytest

from pseudo_terminal import PseudoTerminal

from .conftest import Cluster

SNAPSHOTS = Path(__file__).with_name("snapshots")
WIDTHS = (80, 120)
FLOW = {
    "flow.flex.yaml": "entry: main:answer\n",
    "main.py": 'def answer(question: str = "hello") -> str:\n    return f"Grüße, {question}! 🦜"\n',
}
CONTROL_C = b"\x03"


class Terminal(PseudoTerminal):
    """`kubectl flow` in its own terminal, and the text on its screen."""

    def __init__(self, cluster: Cluster, folder: Path, columns: int, *words: str, reads: str = "") -> None:
        """Start the command. `reads` is a file for standard input, so that the command in the session has no terminal."""
        kubectl = cluster.kubectl
        environ = {**os.environ, "TERM": "xterm-256color", "KUBECONFIG": str(kubectl.kubeconfig), "LANG": "C.UTF-8"}
        environ["PATH"] = f"{Path(sys.executable).parent}:{kubectl.program.parent}:{environ['PATH']}"
        self._screen = pyte.Screen(columns, 60)
        self._stream = pyte.ByteStream(self._screen)
        command = [str(kubectl.program), "flow", words[0], "-n", cluster.namespace, *words[1:]]
        if reads:
            command = ["/bin/sh", "-c", f'exec "$@" < {reads}', "sh", *command]
        super().__init__(command, folder, environ, columns=columns, lines=60)

    def take(self, piece: bytes) -> None:
        """Draw the output."""
        self._stream.feed(piece)

    @property
    def text(self) -> str:
        """Return the screen's text without trailing blanks."""
        return "\n".join(line.rstrip() for line in self._screen.display).rstrip()


def processes(cluster: Cluster, pod: str) -> str:
    """Return the command lines of all processes in a pod."""
    return cluster.exec(pod, "sh", "-c", r"cat /proc/[0-9]*/cmdline | tr '\0' ' '")


def masked(text: str) -> str:
    """Mask what differs from run to run: numbers, times, nodes, pods, digests, the last work, and the space between columns."""
    text = re.sub(r"talk-[0-9a-f]{5}-\d+", "POD", re.sub(r"node-[ab]\b", "NODE", text))
    text = re.sub(r"flowsession-runtime:[0-9a-f]+", "flowsession-runtime:TAG", text)
    text = re.sub(r"\d+(?:[.:T-]\d+)*Z?", "0", text)
    text = re.sub(r"\b(?:0[smhd])+\b", "0s", text)
    text = re.sub(r"(?m)^(last work +).*", r"\1WORK", text)
    return re.sub(r" {2,}", "  ", text) + "\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    talk = tmp_path / "talk"
    talk.mkdir()
    for name, text in FLOW.items():
        (talk / name).write_text(text)
    return talk


def shown(name: str, columns: int, text: str) -> None:
    """Compare a screen with its snapshot. With UPDATE_SNAPSHOTS=1, update the snapshot instead."""
    assert all(len(line) <= columns for line in text.splitlines()), text
    path = SNAPSHOTS / f"{name}-{columns}.txt"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(masked(text))
    assert masked(text) == path.read_text(), text


def test_what_its_user_sees(cluster: Cluster, folder: Path) -> None:
    def screen(columns: int, *words: str, status: int = 0) -> str:
        terminal = Terminal(cluster, folder, columns, *words)
        assert terminal.end(seconds=180) == status, terminal.text
        return terminal.text

    first = screen(80, "start")
    assert "✓ the container runs" in first
    assert "talk runs on node-" in first
    again = screen(120, "start")
    assert "talk: nothing changed in its 2 files" in again
    cluster.until_condition("talk", "FlowValid", status="True")
    for columns in WIDTHS:
        shown("test", columns, screen(columns, "test", "--inputs", "question=Žluťoučký kůň"))
        for name in ("ls", "status", "why"):
            shown(name, columns, screen(columns, name).partition("\n\n")[0])  # without Events, whose layout depends on the seconds
    (folder / "main.py").write_text(FLOW["main.py"].replace("Grüße", "Привет"))
    assert "changed: main.py" in screen(80, "start")
    assert "Привет, hello! 🦜" in screen(80, "test")

    shell = Terminal(cluster, folder, 80, "sh")
    shell.until("/session/flow", seconds=120)
    shell.press(b"stty size; sh -c 'echo as$((1))leep; exec sleep 1000'\r")
    shell.until("60 80\nas1leep")
    shell.press(CONTROL_C)
    shell.until("^C\nflow@talk")
    shell.press(b"exit 7\r")
    assert shell.end() == 7, shell.text

    closed = Terminal(cluster, folder, 80, "sh")
    closed.until("flow@talk")
    closed.press(b"sh -c 'echo as$((1))leep; exec sleep 1001'\r")
    closed.until("as1leep")
    closed.close()
    pod = cluster.status("talk")["podName"]
    cluster.until("the shell is gone with its terminal", lambda: "sleep 1001" not in processes(cluster, pod) or None)
    piped = Terminal(cluster, folder, 80, "exec", "talk", "--", "sh", "-c", "echo up; exec sleep 1002", reads="/dev/null")
    piped.until("up")
    piped.press(CONTROL_C)
    assert piped.end() == 130, piped.text
    cluster.until("the command is gone with its client", lambda: "sleep 1002" not in processes(cluster, pod) or None)

    stop = Terminal(cluster, folder, 80, "stop")
    stop.until("[y/N]")
    stop.press(b"n\r")
    assert stop.end() != 0
    assert cluster.get("computesession", "talk"), stop.text
    assert "talk is being suspended" in screen(80, "suspend", "--yes")
    assert "Привет, hello! 🦜" in screen(80, "test"), "a suspended session is resumed for it"
    screen(80, "stop", "--yes")
    cluster.until_gone("computesession", "talk")
