"""Every test here gets its own loop, whose simulated time begins at 0."""

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
    """An empty cluster, with an operator that starts with the first session."""
    caplog.set_level(logging.ERROR)  # each retry logs a warning
    monkeypatch.setattr(nodes, "COUNT_SECONDS", nodes.LIST_SECONDS * 10)  # without a VMSize it would only wake up, 60,000 times a week
    random.seed(4)  # the same jitter of back-offs in every run
    world = LongRun(clocks.install(monkeypatch))
    yield world
    await world.stop_operator()
    broken = [record.getMessage() for record in caplog.get_records("call") if record.levelno >= logging.ERROR]
    assert not broken, "a decision, a call or a callback broke"
