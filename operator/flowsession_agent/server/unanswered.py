"""What an end of the agent waits for."""

from __future__ import annotations

import threading


class Unanswered:
    """The calls that change something and whose answers aren't sent yet: the agent doesn't end between a deed and its answer."""

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
        """Whether there are none, within so long."""
        with self._changed:
            return self._changed.wait_for(lambda: self._calls == 0, timeout=seconds)
