"""The numbered stages of the walk-through, each with its time."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stages:
    """Prints a heading per stage and how long it took; `summary` has them all."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done: list[tuple[str, float]] = []
        self._started = time.monotonic()

    @contextmanager
    def stage(self, title: str) -> Iterator[None]:
        """Times what happens inside; a stage that raises is not counted."""
        print(f"\n[{len(self._done) + 1}/{self._total}] {title}", flush=True)
        started = time.monotonic()
        yield
        seconds = time.monotonic() - started
        self._done.append((title, seconds))
        # Progress of the tools below goes to stderr; in a log that holds both, the order should stay.
        sys.stderr.flush()
        print(f"    {seconds:.1f} s", flush=True)

    def summary(self) -> str:
        """All stages and the whole, one a line."""
        lines = [f"    {title:<58}{seconds:8.1f} s" for title, seconds in self._done]
        return "\n".join([*lines, f"    {'all of it':<58}{time.monotonic() - self._started:8.1f} s"])
