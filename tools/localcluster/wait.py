"""Waiting for a condition with a deadline; nothing here sleeps for its own sake."""

import time
from collections.abc import Callable

from localcluster.say import progress


def until(condition: Callable[[], bool], *, seconds: float, every: float = 0.05, saying: str = "") -> bool:
    """Whether the condition came true in time. With `saying`, tells the person every ten seconds what is being waited for.

    What the condition raises ends the wait: a program that died won't come up any more.
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
