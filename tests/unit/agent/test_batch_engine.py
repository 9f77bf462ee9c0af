"""Prompt flow's batch engine, which polls once a second, polls sooner in a short run and at the old rate in a long one."""

import asyncio
import sys
import time
from types import ModuleType

import pytest

from flowsession_agent.session import batch_engine


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    """Stubs of prompt flow's modules, each with the module by which it waits."""
    made = {}
    for name, used in batch_engine.LOOKS.items():
        parts = name.split(".")
        for number in range(1, len(parts) + 1):
            monkeypatch.setitem(sys.modules, ".".join(parts[:number]), ModuleType(".".join(parts[:number])))
        made[name] = sys.modules[name]
        made[name].__dict__[used] = sys.modules[used]
    return made


def waits(monkeypatch: pytest.MonkeyPatch, engine: dict[str, ModuleType], *, ran: float) -> list[float]:
    """Return how long each module waits if it asks for a second when the run has taken `ran` seconds."""
    asked: list[float] = []

    async def sleep(seconds: float) -> None:
        asked.append(seconds)

    now = [1000.0]
    monkeypatch.setattr(time, "sleep", asked.append)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    batch_engine.poll_sooner()
    now[0] += ran
    for name, used in batch_engine.LOOKS.items():
        waited = engine[name].__dict__[used].sleep(1)
        if waited is not None:
            with pytest.raises(StopIteration):
                waited.send(None)
    return asked


@pytest.mark.parametrize(("ran", "wait"), [(0.0, 0.02), (2.0, 0.1), (10.0, 0.5), (3600.0, 1.0)])
def test_a_look_comes_after_a_twentieth_of_the_run(
    monkeypatch: pytest.MonkeyPatch, engine: dict[str, ModuleType], ran: float, wait: float
) -> None:
    assert waits(monkeypatch, engine, ran=ran) == [pytest.approx(wait)] * len(batch_engine.LOOKS)


def test_all_else_of_the_modules_is_as_it_was(engine: dict[str, ModuleType]) -> None:
    batch_engine.poll_sooner()
    (batch, *_) = engine.values()
    assert batch.__dict__["asyncio"].create_task is asyncio.create_task
    assert "flowsession" not in (asyncio.sleep.__module__, time.sleep.__module__)


def test_another_version_of_prompt_flow_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "promptflow", None)  # importing it fails
    batch_engine.poll_sooner()
