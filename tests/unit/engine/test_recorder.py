"""The recorder of Events: an Event that can't be written blocks nothing, and is retried."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from flowsession.cluster import errors
from flowsession.cluster.gateway import KubernetesCluster
from flowsession.engine import recorder
from flowsession.engine.recorder import MOST_DEFERRED, RETRIED_SECONDS, Recorder
from flowsession.engine.store.keys import Key
from flowsession.model.plan import Event
from unit.builders import NAME, NAMESPACE, NOW, stamp

KEY = Key("ComputeSession", NAMESPACE, NAME)
WARNING = Event(True, "IdleSoon", "in a minute")


class Server:
    def __init__(self) -> None:
        self.failure: errors.ClusterError | None = None
        self.written: list[dict[str, Any]] = []
        self.asked = 0

    async def create(self, manifest: dict[str, Any]) -> dict[str, Any]:
        self.asked += 1
        if self.failure:
            raise self.failure
        self.written.append(manifest)
        return manifest


@pytest.fixture
def clock(monkeypatch) -> SimpleNamespace:
    clock = SimpleNamespace(now=1000.0)
    clock.monotonic, clock.time, clock.time_ns = lambda: clock.now, lambda: NOW, lambda: int(NOW * 1e9)
    monkeypatch.setattr(recorder, "time", clock)
    return clock


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def events(server, clock) -> Recorder:
    return Recorder(cast(KubernetesCluster, server), "test")


async def test_a_warning_is_told_as_one(events, server):
    await events.record(KEY, "u", WARNING)
    await events.record(KEY, "u", Event(False, "Running", "since a second ago"))
    assert [(event["type"], event["reason"]) for event in server.written] == [("Warning", "IdleSoon"), ("Normal", "Running")]


@pytest.mark.parametrize("failure", [errors.Unavailable("no answer"), errors.Throttled("too many", status=429)])
async def test_what_was_not_taken_for_now_is_written_later_and_once(events, server, failure):
    server.failure = failure
    for _ in range(3):
        await events.record(KEY, "u", WARNING)
    await events.write_late()
    assert server.written == []
    server.failure = None
    await events.write_late()
    await events.write_late()
    assert [event["reason"] for event in server.written] == ["IdleSoon"]


async def test_what_is_deferred_is_written_with_the_time_at_which_it_happened(events, server, clock):
    ready = Event(False, "Ready", "it runs")
    assert events.defer(KEY, "u", ready)
    assert server.written == []
    clock.now += 7.0
    await events.write_late()
    await events.write_late()
    assert [(event["reason"], event["firstTimestamp"]) for event in server.written] == [("Ready", stamp(NOW - 7.0))]


async def test_only_so_many_are_deferred(events):
    deferred = [events.defer(KEY, f"u{number}", WARNING) for number in range(MOST_DEFERRED + 1)]
    assert deferred == [True] * MOST_DEFERRED + [False]


async def test_what_was_refused_is_not_tried_again(events, server):
    server.failure = errors.Rejected("events are over quota", status=403)
    await events.record(KEY, "u", WARNING)
    await events.write_late()
    assert server.asked == 1


async def test_what_is_no_news_any_more_is_dropped(events, server, clock):
    server.failure = errors.Unavailable("no answer")
    await events.record(KEY, "u", WARNING)
    clock.now += RETRIED_SECONDS - 1
    await events.write_late()
    assert server.asked == 2
    clock.now += 1
    await events.write_late()
    assert server.asked == 2


async def test_an_event_about_what_lies_in_no_namespace_lies_in_default(events, server):
    await events.record(Key("VMSize", "", "small"), "u", WARNING)
    assert server.written[0]["metadata"]["namespace"] == "default"
    assert server.written[0]["involvedObject"]["namespace"] == ""
