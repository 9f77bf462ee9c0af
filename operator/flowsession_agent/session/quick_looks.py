"""Runs in the session's Python, not in the agent's: has prompt flow's batch engine look soon whether something has happened.

It looks once a second whether the processes for the lines are there, whether all lines are done, and whether the task that waits for that
is: together two to three seconds of a run that takes one. Here each look comes after a twentieth of the time that the run has taken, so
that a short one is noticed at once, and a long one is looked at as seldom as before.
"""

from __future__ import annotations

import contextlib
import importlib
import time
from types import ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

LOOKS = {
    "promptflow.batch._batch_engine": "asyncio",
    "promptflow.executor._line_execution_process_pool": "asyncio",
    "promptflow.executor._process_manager": "time",
}
"""By prompt flow's module, the module whose `sleep` it waits by (1.18.5)."""

SHARE = 0.05
SHORTEST_SECONDS = 0.02


def shorten() -> None:
    """Shorten the waits of these modules from now on, in this process. Another version of prompt flow, without them, is left alone."""
    began = time.monotonic()

    def pause(seconds: float) -> float:
        return min(seconds, max(SHORTEST_SECONDS, SHARE * (time.monotonic() - began)))

    for name, used in LOOKS.items():
        with contextlib.suppress(ImportError):
            module = importlib.import_module(name)
            if isinstance(original := getattr(module, used, None), ModuleType):
                setattr(module, used, _like(original, pause))


def _like(original: ModuleType, pause: Callable[[float], float]) -> ModuleType:
    """Return a module that is that one but for its `sleep`."""
    sleep: Callable[..., Any] = original.sleep
    made = ModuleType(original.__name__)
    made.__dict__.update(vars(original))
    made.__dict__["sleep"] = lambda seconds, *rest: sleep(pause(seconds), *rest)
    return made
