"""The clocks of a long run: the cluster's correct one, and the operator's, which may be set wrong."""

import asyncio
import itertools
import sys
import time

import pytest

from unit.builders import NOW


def elapsed() -> float:
    """Return the seconds since the test began, by the loop."""
    return asyncio.get_running_loop().time()


def true_time() -> float:
    """Return the time on the clocks of the API server, the nodes and the agents, in seconds since 1970."""
    return NOW + elapsed()


class OperatorTime:
    """Stands in for the module `time` in the operator's modules. All of it follows the loop, the wall clock with an error."""

    def __init__(self) -> None:
        self.ahead = 0.0
        """Seconds by which the operator's wall clock is ahead."""
        self._distinct = itertools.count()

    def time(self) -> float:
        return true_time() + self.ahead

    def time_ns(self) -> int:
        """Return the time, never the same twice: real clocks advance between two Events."""
        return int(self.time() * 1e9) + next(self._distinct)

    def monotonic(self) -> float:
        return elapsed()

    def perf_counter(self) -> float:
        return elapsed()


def install(monkeypatch: pytest.MonkeyPatch) -> OperatorTime:
    """Put the simulated clock into every operator module that uses `time`."""
    clock = OperatorTime()
    for name, module in list(sys.modules.items()):
        if name.startswith("flowsession.") and getattr(module, "time", None) is time:
            monkeypatch.setattr(module, "time", clock)
    return clock
