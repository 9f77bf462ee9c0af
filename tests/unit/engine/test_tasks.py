"""Background tasks: one that dies is logged, counted and restarted. One that stays dead makes /healthz fail."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import REGISTRY

from flowsession.engine import tasks
from flowsession.engine.loop import Engine
from flowsession.engine.tasks import Tasks
from flowsession.probes import application


def deaths(task: str) -> float:
    return REGISTRY.get_sample_value("flowsession_task_deaths_total", {"task": task}) or 0.0


class Mortal:
    """Dies once for each of `ends`, then lives on."""

    def __init__(self, *ends: BaseException | None) -> None:
        self.ends = list(ends)
        self.living = asyncio.Event()

    async def work(self) -> None:
        if self.ends:
            end = self.ends.pop(0)
            if end is not None:
                raise end
            return
        self.living.set()
        await asyncio.Event().wait()


@pytest.fixture
def at_once(monkeypatch):
    monkeypatch.setattr(tasks, "FIRST_PAUSE", 0.0)


async def test_a_task_that_dies_or_just_ends_is_started_again(at_once, caplog):
    found, mortal, before = Tasks(), Mortal(ValueError("Expecting value"), RecursionError(), None), deaths("resync")
    found.start("resync", mortal.work)
    await asyncio.wait_for(mortal.living.wait(), 5)
    assert (found.dead, deaths("resync") - before) == ([], 3)
    assert [record.task for record in caplog.records] == ["resync"] * 3
    assert "Expecting value" in caplog.text
    await found.close()


async def test_the_pause_before_a_task_is_started_again_grows(monkeypatch):
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(tasks.asyncio, "sleep", sleep)
    found, mortal = Tasks(), Mortal(*[ValueError()] * 9)
    found.start("nodes", mortal.work)
    await asyncio.wait_for(mortal.living.wait(), 5)
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]
    await found.close()


async def test_what_stays_dead_makes_healthz_fail(at_once):
    found, alive, dead = Tasks(), Mortal(), Mortal(asyncio.CancelledError())
    found.start("worker-1", alive.work)
    found.start("worker-2", dead.work)
    await asyncio.wait_for(alive.living.wait(), 5)
    probes = application(cast(Engine, SimpleNamespace(dead=found.dead, primed=True)))
    async with TestClient(TestServer(probes)) as client:
        answer = await client.get("/healthz")
        assert (answer.status, await answer.text()) == (503, "ended: worker-2\n")
        probes_fine: Any = application(cast(Engine, SimpleNamespace(dead=[], primed=True)))
    async with TestClient(TestServer(probes_fine)) as client:
        assert (await client.get("/healthz")).status == 200
    await found.close()
    assert found.dead == [], "what was ended on purpose is not dead"
