"""A command in a terminal of its own, as its user has it."""

import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path


class PseudoTerminal:
    """Every wait has a deadline, whose failure shows what was seen."""

    def __init__(self, command: Sequence[str], folder: Path, environ: Mapping[str, str], *, columns: int = 80, lines: int = 30) -> None:
        """The command begins once the terminal has its size."""
        ready, told = os.pipe()
        self.pid, self._fd = pty.fork()
        if not self.pid:
            os.close(told)
            os.read(ready, 1)
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # where the tests run in the background, ^C is ignored
            os.chdir(folder)
            os.execve(command[0], list(command), environ)
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        os.close(ready)
        os.close(told)
        self.seen = ""

    def take(self, piece: bytes) -> None:
        """Take in what the command has printed."""
        self.seen += piece.decode(errors="replace")

    @property
    def text(self) -> str:
        """What is waited for, and told in failures."""
        return self.seen

    def until(self, text: str, *, seconds: float = 60) -> None:
        """Return when that was printed; fails at the command's end."""
        deadline = time.monotonic() + seconds
        while text not in self.text:
            assert self._read(deadline), f"it ended: {self.text}"

    def press(self, keys: bytes) -> None:
        """As if typed."""
        os.write(self._fd, keys)

    def close(self) -> int:
        """Close the terminal while the command lives; returns its exit status."""
        os.close(self._fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def end(self, *, seconds: float = 60) -> int:
        """The exit status."""
        deadline = time.monotonic() + seconds
        while self._read(deadline):
            continue
        return self.close()

    def _read(self, deadline: float) -> bool:
        """Take in what comes before the deadline, or fail; False at the end."""
        assert select.select([self._fd], [], [], max(0.0, deadline - time.monotonic()))[0], f"nothing more comes: {self.text}"
        try:
            piece = os.read(self._fd, 65536)
        except OSError:  # how Linux ends a terminal
            return False
        self.take(piece)
        return bool(piece)
