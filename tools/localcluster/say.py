"""The tool's messages to the person at the terminal: progress lines, and one sentence if it can't continue."""

import sys
import time

_started = time.monotonic()


class CannotContinue(Exception):
    """Carries one sentence for the person, with a remedy. The command prints it and exits 1."""


def progress(message: str) -> None:
    """Print one line of progress with the seconds since the command started."""
    print(f"[{time.monotonic() - _started:6.1f} s] {message}", file=sys.stderr, flush=True)
