"""kopf is used only for watching and for logging in: everything else costs hidden writes (see the design's facts)."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import kopf
import pytest

from flowsession import handlers
from flowsession.engine.loop import SELECTORS


class FakeEngine:
    """Stands in for the engine."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str, bool]] = []

    def observe(self, kind: str, body: Any, *, deleted: bool = False) -> None:
        self.heard.append((kind, body["metadata"]["name"], deleted))


@pytest.fixture
def registry() -> kopf.OperatorRegistry:
    return handlers.registry(FakeEngine())


def test_only_events_and_the_login_are_handled(registry):
    assert len(registry._watching._handlers) == 8
    assert len(registry._activities._handlers) == 1
    assert registry._activities._handlers[0].activity.value == "authentication"
    for kind in ("_changing", "_spawning", "_indexing", "_webhooks"):
        assert getattr(registry, kind)._handlers == [], f"{kind} handlers cost writes, tasks or a quadratic start"


def test_every_kind_that_is_listed_is_heard(registry):
    assert {handler.id for handler in registry._watching._handlers} == set(SELECTORS)


@pytest.mark.parametrize(("type_", "deleted"), [(None, False), ("ADDED", False), ("MODIFIED", False), ("DELETED", True)])
async def test_an_event_goes_straight_into_the_engine(type_, deleted):
    ear = FakeEngine()
    for handler in handlers.registry(ear)._watching._handlers:
        assert asyncio.iscoroutinefunction(handler.fn), "kopf calls plain functions in threads; the cache is of one"
        await handler.fn(event={"type": type_, "object": {"metadata": {"name": "x"}}}, logger=None)
    assert set(ear.heard) == {(kind, "x", deleted) for kind in SELECTORS}


def test_the_handlers_are_few():
    assert len(Path(handlers.__file__).read_text().splitlines()) < 120


@pytest.fixture
def settings():
    level = logging.getLogger("kopf.objects").level
    yield handlers.settings()
    logging.getLogger("kopf.objects").setLevel(level)


def test_kopf_writes_nothing_of_its_own(settings):
    assert settings.peering.standalone
    assert settings.scanning.disabled
    assert not settings.posting.enabled
    body = kopf.Body({"metadata": {"name": "x"}, "spec": {"a": 1}, "status": {}})
    patch = kopf.Patch({})
    diffbase, progress = settings.persistence.diffbase_storage, settings.persistence.progress_storage
    diffbase.store(body=body, patch=patch, essence={})
    progress.store(key="k", record={}, body=body, patch=patch)
    progress.purge(key="k", body=body, patch=patch)
    progress.touch(body=body, patch=patch, value="now")
    assert patch == {}
    assert diffbase.build(body=body) == {}
    assert diffbase.fetch(body=body) is None
    assert progress.fetch(key="k", body=body) is None
    assert progress.clear(essence={"a": 1}) == {"a": 1}


def test_the_rest_of_the_cluster_is_kept_out_by_the_server(settings):
    assert settings.watching.label_selectors["pods"] == "app.kubernetes.io/managed-by=flowsession"
    assert settings.watching.label_selectors["configmaps"] == "flowsession.dev/source=true"
