"""Resolving in a worker: the results are the same as without one, and a crash, endless CPU use or full memory affects one environment."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from flowsession.engine.resolutions import Resolutions, WorkerResolutions
from flowsession.engine.resolve_worker import CPU_SECONDS, MEMORY
from flowsession.engine.store import objects
from flowsession.model.resolved import Resolved, Unresolved
from flowsession.reconcile.environment.sources import ConfigMapView
from flowsession.settings import Settings
from unit.builders import NAMESPACE, NOW

KEY = (NAMESPACE, "flow-env")
SPOILT = """
import os, signal, time
from flowsession.engine import resolve_worker
from flowsession.reconcile.environment import resolve
whole = resolve.resolve
def spoilt(spec, config_maps, *rest):
    text = config_maps["flow"].files["flow.dag.yaml"].decode()
    if "burn" in text:
        while True: pass
    if "fill" in text:
        held = [bytearray(1 << 24) for _ in range(1 << 10)]
    if "die" in text:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "slow" in text:
        os.close(1)
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGPROF)
    if "stuck" in text:
        os.close(1)
        time.sleep(600)
    return whole(spec, config_maps, *rest)
resolve.resolve = spoilt
resolve_worker.main()
"""


def environment(generation: int = 1, **spec: Any) -> objects.EnvironmentEntry:
    meta = {"name": KEY[1], "namespace": NAMESPACE, "uid": "e", "resourceVersion": "1", "generation": generation}
    return objects.environment({"metadata": meta, "spec": spec or {"source": {"configMap": {"name": "flow"}}}})


def views(text: str = "nodes: []\n") -> dict[str, ConfigMapView]:
    return {"flow": ConfigMapView("flow", {"flow.dag.yaml": text.encode(), "a.py": b"x" * 5000}, NOW, watched=True)}


@dataclass
class Recording:
    """Resolutions with the keys that they reported as changed."""

    resolutions: WorkerResolutions
    told: list[tuple[str, str]] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self, key: tuple[str, str]) -> None:
        self.told.append(key)
        self._news.set()

    async def found(self, entry: objects.EnvironmentEntry, seen: dict[str, ConfigMapView], key: tuple[str, str] = KEY) -> Any:
        self._news.clear()
        assert self.resolutions.of(key, entry, seen) is None
        async with asyncio.timeout(60):
            await self._news.wait()
        return self.resolutions.of(key, entry, seen)


@pytest.fixture
async def serve() -> AsyncIterator[Callable[..., Recording]]:
    tasks = []

    def serving(**more: Any) -> Recording:
        desk = Recording(WorkerResolutions(Settings(), **more))
        desk.resolutions.changed = desk.tell
        tasks.append(asyncio.ensure_future(desk.resolutions.serve_forever()))
        return desk

    yield serving
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_worker_answers_as_one_would_oneself(serve):
    desk = serve()
    found = await desk.found(environment(), views())
    assert isinstance(found, Resolved) and dict(found.files) == views()["flow"].files
    assert found == Resolutions(Settings()).of(KEY, environment(), views())
    assert desk.resolutions.of(KEY, environment(), views()) is found, "each state once"
    broken = await desk.found(environment(), views("nodes: [1"))
    assert isinstance(broken, Unresolved) and "flow.dag.yaml line" in broken.message


async def test_what_has_nothing_to_parse_needs_no_worker(serve):
    desk = serve(command=["/bin/false"])
    found = desk.resolutions.of(KEY, environment(baseImage="team:1"), {})
    assert isinstance(found, Resolved) and found.base_image == "team:1"


async def test_environments_share_what_is_the_same(serve):
    desk = serve()
    first = await desk.found(environment(), views())
    second = await desk.found(environment(), views(), (NAMESPACE, "other"))
    assert first.files.blobs()["a.py"] is second.files.blobs()["a.py"]


@pytest.mark.parametrize(
    ("text", "says"),
    [("burn", f"more than {CPU_SECONDS:.0f} s of processor"), ("fill", "MemoryError"), ("die", "the operator's parser dies")],
)
async def test_content_that_spoils_its_worker_costs_its_environment_alone(serve, text, says):
    desk = serve(command=[sys.executable, "-c", SPOILT])
    found = await desk.found(environment(), views(f"nodes: [] # {text}\n"))
    assert isinstance(found, Unresolved) and found.reason == "Unreadable" and says in found.message
    assert isinstance(await desk.found(environment(), views(), (NAMESPACE, "other")), Resolved)
    assert MEMORY < 1 << 34, "what the test fills"


async def test_a_worker_that_is_slow_to_end_on_a_busy_node_says_why_it_ended(serve):
    found = await serve(command=[sys.executable, "-c", SPOILT]).found(environment(), views("nodes: [] # slow\n"))
    assert "more than 2 s of processor" in found.message


async def test_a_worker_that_does_not_end_by_itself_is_killed(serve, monkeypatch):
    monkeypatch.setattr("flowsession.engine.resolutions.END_SECONDS", 0.1)
    found = await serve(command=[sys.executable, "-c", SPOILT]).found(environment(), views("nodes: [] # stuck\n"))
    assert "the operator's parser dies" in found.message


async def test_a_worker_that_somebody_else_has_killed_is_replaced(serve):
    desk = serve()
    await desk.found(environment(), views())
    os.kill(desk.resolutions._worker.pid, signal.SIGKILL)
    assert isinstance(await desk.found(environment(2), views("nodes: []\n\n")), Resolved)


async def test_of_two_states_in_a_row_only_the_later_is_told(serve):
    desk = serve()
    assert desk.resolutions.of(KEY, environment(), views("nodes: [1")) is None
    found = await desk.found(environment(2), views())
    assert isinstance(found, Resolved) and desk.told == [KEY]
    desk.resolutions.of(KEY, environment(3), views("nodes: []\n\n"))
    desk.resolutions.forget(KEY)
    await desk.found(environment(), views(), (NAMESPACE, "other"))
    assert desk.told == [KEY, (NAMESPACE, "other")]
