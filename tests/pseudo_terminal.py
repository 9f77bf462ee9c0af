"""A command in its own terminal, as its user has it."""

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
    """A command and its terminal. Every wait has a deadline, and its failure shows the output so far."""

    def __init__(self, command: Sequence[str], folder: Path, environ: Mapping[str, str], *, columns: int = 80, lines: int = 30) -> None:
        """Start the command once the terminal has its size."""
        ready, told = os.pipe()
        self.pid, self._fd = pty.fork()
        if not self.pid:
            os.close(told)
            os.read(ready, 1)
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # ^C is ignored where the tests run in the background
            os.chdir(folder)
            os.execve(command[0], list(command), environ)
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        os.close(ready)
        os.close(told)
        self.seen = ""

    def take(self, piece: bytes) -> None:
        """Add what the command has printed."""
        self.seen += piece.decode(errors="replace")

    @property
    def text(self) -> str:
        """The text in which `until` searches, and which failures show."""
        return self.seen

    def until(self, text: str, *, seconds: float = 60) -> None:
        """Wait until the text was printed. Fails if the command ends first."""
        deadline = time.monotonic() + seconds
        while text not in self.text:
            assert self._read(deadline), f"it ended: {self.text}"

    def press(self, keys: bytes) -> None:
        """Send keys as if typed."""
        os.write(self._fd, keys)

    def close(self) -> int:
        """Close the terminal while the command runs. Return the command's exit status."""
        os.close(self._fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def end(self, *, seconds: float = 60) -> int:
        """Wait for the command's end and return its exit status."""
        deadline = time.monotonic() + seconds
        while self._read(deadline):
            continue
        return self.close()

    def _read(self, deadline: float) -> bool:
        """Read what arrives before the deadline, or fail. Return False at the end."""
        assert select.select([self._fd], [], [], max(0.0, deadline - time.monotonic()))[0], f"nothing more comes: {self.text}"
        try:
            piece = os.read(self._fd, 65536)
        except OSError:  # how a terminal ends on Linux
            return False
        self.take(piece)
        return bool(piece)
