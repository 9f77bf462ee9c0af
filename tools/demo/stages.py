"""The numbered stages of the walk-through, each with its time."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stages:
    """Prints a heading for each stage and how long it took. `summary` has all of them."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done: list[tuple[str, float]] = []
        self._started = time.monotonic()

    @contextmanager
    def stage(self, title: str) -> Iterator[None]:
        """Time the block. A stage that raises is not counted."""
        print(f"\n[{len(self._done) + 1}/{self._total}] {title}", flush=True)
        started = time.monotonic()
        yield
        seconds = time.monotonic() - started
        self._done.append((title, seconds))
        # The tools' progress goes to stderr. Flushing keeps the order in a log with both streams.
        sys.stderr.flush()
        print(f"    {seconds:.1f} s", flush=True)

    def summary(self) -> str:
        """Return all stages and the total, one a line."""
        lines = [f"    {title:<58}{seconds:8.1f} s" for title, seconds in self._done]
        return "\n".join([*lines, f"    {'all of it':<58}{time.monotonic() - self._started:8.1f} s"])
