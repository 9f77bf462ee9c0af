"""The calls in flight that the agent waits for before it exits."""

from __future__ import annotations

import threading


class CallsInFlight:
    """The calls that change something and whose responses aren't sent yet. The agent doesn't exit between a change and its response."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._calls = 0

    def __enter__(self) -> None:
        with self._changed:
            self._calls += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._calls -= 1
            self._changed.notify_all()

    def wait(self, *, seconds: float) -> bool:
        """Wait until no call is left, but at most `seconds`; return whether that was reached."""
        with self._changed:
            return self._changed.wait_for(lambda: self._calls == 0, timeout=seconds)
