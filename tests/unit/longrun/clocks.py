"""The clocks of a long run: the cluster's true one, and the operator's, which somebody may set wrong."""

import asyncio
import itertools
import sys
import time

import pytest

from unit.builders import NOW


def elapsed() -> float:
    """Seconds since the test began, as the loop counts them."""
    return asyncio.get_running_loop().time()


def true_time() -> float:
    """What the clocks of the API server, the nodes and the agents show, in seconds since 1970."""
    return NOW + elapsed()


class OperatorTime:
    """Stands for the module `time` in the operator's own modules: all of it follows the loop, the wall clock with an error."""

    def __init__(self) -> None:
        self.ahead = 0.0
        """Seconds by which the operator's wall clock is wrong."""
        self._distinct = itertools.count()

    def time(self) -> float:
        return true_time() + self.ahead

    def time_ns(self) -> int:
        """Never twice the same: real clocks move on between two Events."""
        return int(self.time() * 1e9) + next(self._distinct)

    def monotonic(self) -> float:
        return elapsed()

    def perf_counter(self) -> float:
        return elapsed()


def install(monkeypatch: pytest.MonkeyPatch) -> OperatorTime:
    """Puts the made-up clock into every module of the operator that asks one."""
    clock = OperatorTime()
    for name, module in list(sys.modules.items()):
        if name.startswith("flowsession.") and getattr(module, "time", None) is time:
            monkeypatch.setattr(module, "time", clock)
    return clock
