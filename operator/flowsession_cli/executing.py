"""Running kubectl in this program's place, without its own word on a command that failed: that has said itself what is wrong."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from types import FrameType

_FAILED = b"command terminated with exit code "
"""How kubectl begins its last line then. Digits follow."""

_PIECE = 65536


def run(command: Sequence[str]) -> int:
    """The exit status; standard input, output and signals are the command's own. Raises FileNotFoundError without kubectl."""
    early: list[int] = []
    process: subprocess.Popen[bytes] | None = None

    def hand_on(number: int, _frame: FrameType | None) -> None:
        if process is None:
            early.append(number)
        else:
            process.send_signal(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # of a terminal's they come to both
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, hand_on)
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    for missed in early:
        process.send_signal(missed)
    assert process.stderr
    held = b""
    while piece := os.read(process.stderr.fileno(), _PIECE):
        held = _passed_on(held + piece)
    if not held.startswith(_FAILED):
        _write(held)
    status = process.wait()
    return status if status >= 0 else 128 - status


def _passed_on(text: bytes) -> bytes:
    """Write a text but for a last line that may be kubectl's own; returns that."""
    start = text.rstrip(b"\n").rfind(b"\n") + 1
    last = text[start:]
    if not (last.startswith(_FAILED) or (last and _FAILED.startswith(last))):
        start = len(text)
    _write(text[:start])
    return text[start:]


def _write(text: bytes) -> None:
    sys.stderr.buffer.write(text)
    sys.stderr.flush()
