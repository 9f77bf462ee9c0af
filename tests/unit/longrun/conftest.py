"""Every test here gets a loop of its own, whose time is made up and begins at 0."""

import logging
import random
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from flowsession.engine import nodes
from unit.longrun import clocks
from unit.longrun.run import LongRun


@pytest_asyncio.fixture(loop_scope="function")
async def run(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> AsyncIterator[LongRun]:
    """An empty cluster, and an operator that starts with the first session."""
    caplog.set_level(logging.ERROR)  # what is tried again is warned of each time
    monkeypatch.setattr(nodes, "COUNT_SECONDS", nodes.LIST_SECONDS * 10)  # without a VMSize it only wakes up, 60,000 times a week
    random.seed(4)  # the jitter of back-offs: the same in every run
    world = LongRun(clocks.install(monkeypatch))
    yield world
    await world.stop_operator()
    broken = [record.getMessage() for record in caplog.get_records("call") if record.levelno >= logging.ERROR]
    assert not broken, "a decision, a call or a callback broke"
