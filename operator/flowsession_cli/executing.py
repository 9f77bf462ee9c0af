"""Running kubectl in this program's place, without its own word on a command that failed: that has said itself what is wrong. What kubectl
says where the command could not run becomes a sentence."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from types import FrameType

from flowsession_cli.errors import INTERRUPTED, CliError
from flowsession_cli.failures import failure

NO_PROGRAM, NOT_TO_BE_RUN = 127, 126
"""How shells exit where there is no such program, or none that may be run."""

_FAILED = b"command terminated with exit code "
"""How kubectl begins its last line then. Digits follow."""

_REFUSED = (b"error: unable to upgrade connection: ", b"error: Internal error occurred: ", b"Error from server (")
"""How it begins its last line where no command ran."""

_OWN = (_FAILED, *_REFUSED)
_PROGRAM = re.compile(r'exec: "([^"]*)": (?:(permission denied)|executable file not found|stat .{1,999}: no such file)')

_PIECE = 65536


def run(command: Sequence[str]) -> int:
    """The exit status; standard input, output and signals are the command's own. Raises FileNotFoundError without kubectl, and CliError
    where the command could not run."""
    early: list[int] = []
    interrupted = False
    process: subprocess.Popen[bytes] | None = None

    def hand_on(number: int, _frame: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = interrupted or number == signal.SIGINT
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
    status = process.wait()
    if interrupted and status == 1:
        return INTERRUPTED  # kubectl's status at its second ^C, which the terminal and this program send
    if status and held.startswith(_REFUSED):
        raise _sentence(held.decode(errors="replace"))
    if not held.startswith(_FAILED):
        _write(held)
    return status if status >= 0 else 128 - status


def _sentence(words: str) -> CliError:
    if program := _PROGRAM.search(words):
        if program[2]:
            return CliError(f"the session may not run {program[1]}: chmod +x makes a file a program, where it is yours", code=NOT_TO_BE_RUN)
        return CliError(f"the session has no program {program[1]}: kubectl flow sh opens a terminal to look for it", code=NO_PROGRAM)
    return failure(words)


def _passed_on(text: bytes) -> bytes:
    """Write a text but for a last line that may be kubectl's own; returns that."""
    start = text.rstrip(b"\n").rfind(b"\n") + 1
    last = text[start:]
    if not (last.startswith(_OWN) or (last and any(own.startswith(last) for own in _OWN))):
        start = len(text)
    _write(text[:start])
    return text[start:]


def _write(text: bytes) -> None:
    sys.stderr.buffer.write(text)
    sys.stderr.flush()
