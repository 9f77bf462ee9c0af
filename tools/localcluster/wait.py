"""Waiting for a condition with a deadline. Nothing here sleeps for a fixed time."""

import time
from collections.abc import Callable

from localcluster.say import progress


def until(condition: Callable[[], bool], *, seconds: float, every: float = 0.05, saying: str = "") -> bool:
    """Return whether the condition became true in time. With `saying`, tell the person every ten seconds what the wait is for.

    An exception in the condition ends the wait, e.g. because a program died.
    """
    deadline = time.monotonic() + seconds
    next_word = time.monotonic() + 10
    while not condition():
        now = time.monotonic()
        if now >= deadline:
            return False
        if saying and now >= next_word:
            progress(f"still waiting for {saying}")
            next_word = now + 10
        time.sleep(every)
    return True
