"""What the tool tells the person at the terminal: progress lines, and one sentence when it can't go on."""

import sys
import time

_started = time.monotonic()


class CannotContinue(Exception):
    """The one sentence that the person gets, with the way out; the command exits 1 after it."""


def progress(message: str) -> None:
    """One line of progress with the seconds since the command started."""
    print(f"[{time.monotonic() - _started:6.1f} s] {message}", file=sys.stderr, flush=True)
