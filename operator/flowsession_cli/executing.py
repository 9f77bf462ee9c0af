"""Run kubectl exec in place of this program. kubectl's own line about a failed command is dropped, since the command has printed what is
wrong. kubectl's message about a command that could not run becomes one sentence."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from types import FrameType

from flowsession_cli.errors import INTERRUPTED, CliError
from flowsession_cli.failures import failure

NO_PROGRAM, NOT_TO_BE_RUN = 127, 126
"""Exit statuses of shells for a program that doesn't exist, and for one that may not be executed."""

_FAILED = b"command terminated with exit code "
"""How kubectl's last line begins if the command failed. Digits follow."""

_REFUSED = (b"error: unable to upgrade connection: ", b"error: Internal error occurred: ", b"Error from server (")
"""How kubectl's last line begins if no command ran."""

_ENV = b"env: "
"""How the only line of env begins if it can't run the command."""

_OWN = (_FAILED, *_REFUSED)
_PROGRAM = re.compile(r'exec: "([^"]*)": (?:(permission denied)|executable file not found|stat .{1,999}: no such file)')

_PIECE = 65536


def run(command: Sequence[str], ended: Callable[[int], object] = lambda _: None) -> int:
    """Run the command with this program's standard input, output and signals, and return its exit status. `ended` gets the first signal
    that this program received, once kubectl has ended. Raises FileNotFoundError without kubectl, CliError if the command could not run."""
    early: list[int] = []
    signals: list[int] = []
    process: subprocess.Popen[bytes] | None = None

    def hand_on(number: int, _frame: FrameType | None) -> None:
        signals.append(number)
        if process is None:
            early.append(number)
        else:
            process.send_signal(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # kubectl gets a terminal's signals directly as well
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, hand_on)
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    for missed in early:
        process.send_signal(missed)
    assert process.stderr
    held, silent = b"", True
    while piece := os.read(process.stderr.fileno(), _PIECE):
        text = held + piece
        held = _own_end(text, first=(*_OWN, _ENV) if silent else _OWN)
        _write(text[: len(text) - len(held)])
        silent = silent and held == text
    status = process.wait()
    if signals:
        ended(signals[0])
    if signal.SIGINT in signals and status == 1:
        return INTERRUPTED  # kubectl's status after a second ^C: the terminal and this program send one each
    said = b"".join(line for line in held.splitlines(keepends=True) if not line.startswith(_FAILED))
    ran = said != held
    if status and ((said.startswith(_REFUSED) and not ran) or (said.startswith(_ENV) and status in (NO_PROGRAM, NOT_TO_BE_RUN))):
        raise _sentence(said.decode(errors="replace"))
    _write(said)
    return status if status >= 0 else 128 - status


def _sentence(words: str) -> CliError:
    if words.startswith(_ENV.decode()):
        what, _, reason = words.strip().rpartition(": ")
        return _no_program(what.removeprefix("env: ").removeprefix("can't execute ").strip("‘’'\""), denied=reason == "Permission denied")
    if program := _PROGRAM.search(words):
        return _no_program(program[1], denied=bool(program[2]))
    return failure(words)


def _no_program(name: str, *, denied: bool) -> CliError:
    if denied:
        return CliError(f"the session may not run {name}: chmod +x makes a file a program, where it is yours", code=NOT_TO_BE_RUN)
    return CliError(f"the session has no program {name}: kubectl flow sh opens a terminal to look for it", code=NO_PROGRAM)


def _own_end(text: bytes, *, first: Sequence[bytes]) -> bytes:
    """Return the last lines of a text that may be kubectl's own. `first`: how such a line may begin if it is the first of the output."""
    start = len(text)
    while start:
        before = text.rfind(b"\n", 0, start - 1) + 1
        if not _may_begin(text[before:start], _OWN if before else first):
            break
        start = before
    return text[start:]


def _may_begin(line: bytes, beginnings: Sequence[bytes]) -> bool:
    return any(line.startswith(own) or own.startswith(line) for own in beginnings)


def _write(text: bytes) -> None:
    with contextlib.suppress(OSError):  # the terminal is closed
        sys.stderr.buffer.write(text)
        sys.stderr.flush()
