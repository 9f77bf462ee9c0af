"""The cluster as a whole: its API server is unavailable, a namespace is deleted, a thousand sessions reach their end in the same second."""

import asyncio
from typing import cast

import pytest

from flowsession import metrics
from flowsession.cluster.gateway import KubernetesCluster
from flowsession.engine.recorder import Recorder
from flowsession.engine.store.keys import Key
from flowsession.model.plan import Event
from unit.builders import NAMESPACE
from unit.longrun.clocks import elapsed
from unit.longrun.run import LongRun, Session, at

pytestmark = [pytest.mark.looptime(start=0, noop_cycles=2), pytest.mark.asyncio(loop_scope="function")]

HOUR = 3600.0


async def _many(run: LongRun, count: int, *, idle_for: int, name: str = "user") -> list[Session]:
    """Create that many sessions, and wait until all are Ready."""
    if run.engine is None:
        await run.start_operator()
    sessions = [run.create(f"{name}-{number}", environment=f"flow-{number % 20}", timeout=idle_for) for number in range(count)]
    for session in sessions:
        await run.until(lambda: session.ready, within=300)  # noqa: B023 - at once
    return sessions


# -- the API server is unavailable: before people are warned of an end after 600 s, or between the warning and the end

AWAY = pytest.mark.parametrize("away_at", [300, 560])


@AWAY
async def test_while_the_api_server_is_away_nobody_storms(run: LongRun, away_at: int):
    await _many(run, 10, idle_for=600)
    await at(away_at)
    run.api.away = True
    for minutes in range(5, 61, 5):
        await at(away_at + minutes * 60)
        requests = [request for request in run.api.requests if request.at > away_at and request.verb != "LIST"]
        tries = 10 * (12 + minutes * 60 / 24)
        others = 10 * 2 + 2 * minutes
        assert len(requests) <= tries + others, "failing writes back off to half a minute; other Events are tried a minute apart"
        assert len(run.calls(since=away_at)) <= 2 * tries, "a try of the end retires the session and reopens it"
    assert len([request for request in run.api.requests if request.verb == "LIST"]) <= 4 * 15


@AWAY
async def test_after_an_hour_without_the_api_server_all_is_as_it_shall_be_within_a_minute(run: LongRun, away_at: int):
    workers, idlers = await _many(run, 2, idle_for=600, name="worker"), await _many(run, 2, idle_for=600)
    for session in workers:
        session.agent.work()
    await at(away_at)
    run.api.away = True
    await at(away_at + HOUR)
    assert all(session.body is not None for session in [*workers, *idlers])
    run.api.come_back()
    for session in idlers:
        await run.until(lambda: session.told("IdleSoon"), within=60 - (elapsed() - away_at - HOUR))  # noqa: B023 - at once
        late = 60 if away_at == 300 else 0  # a tenth of the timeout, for those who could not be warned before
        await run.until(lambda: session.body is None, within=60 + late - (elapsed() - away_at - HOUR))  # noqa: B023 - at once
        assert (session.deleted_at or 0.0) >= session.told("IdleSoon")[0].at + 59
    await asyncio.sleep(600)
    assert all(session.says("Active") == ("True", "InUse") for session in workers)


async def test_who_works_when_the_api_server_comes_back_is_kept(run: LongRun):
    """It is idle for hours during an outage of the API server, and at work again a minute before the outage ends."""
    session = await run.session(timeout=600)
    await at(300)
    run.api.away = True
    await at(300 + HOUR)
    session.agent.retired_at = None  # whether it is retired is the subject of another test
    session.agent.work()
    await asyncio.sleep(60)
    run.api.come_back()
    await asyncio.sleep(HOUR)
    assert session.says("Active") == ("True", "InUse")


async def test_what_was_changed_right_after_an_outage_is_seen_at_once(run: LongRun):
    session = await run.session(timeout=86_400)
    await at(300)
    run.api.away = True
    await at(300 + HOUR)
    run.api.come_back()
    session.change(suspend=True)
    await run.until(lambda: session.says("Ready") == ("False", "Suspended"), within=3)


async def test_what_was_deleted_during_an_outage_is_noticed_by_the_next_list(run: LongRun):
    session = await run.session(timeout=86_400)
    await at(300)
    run.api.away = True
    await asyncio.sleep(10)
    run.api.remove(session.pod)
    await asyncio.sleep(20)
    run.api.come_back()
    await run.until(lambda: session.status.get("incarnation") == 2 and session.ready, within=310)


@AWAY
async def test_who_works_during_an_outage_meets_an_open_door(run: LongRun, away_at: int):
    """A session may be retired just before a deletion that then fails. That must not keep users out for more than half a minute."""
    session = await run.session(timeout=600)
    await at(away_at)
    run.api.away = True
    refused = 0.0
    while elapsed() < away_at + HOUR:
        await asyncio.sleep(5)
        refused = refused + 5 if session.agent.retired else 0.0
        assert refused <= 35


async def test_events_that_an_outage_swallowed_leave_room_for_the_one_that_can_be_written(run: LongRun):
    session = await run.session(timeout=86_400)
    recorder = Recorder(cast(KubernetesCluster, run.api), "operator-0")
    key, uid = Key("ComputeSession", NAMESPACE, session.name), str(session.body and session.body["metadata"]["uid"])
    run.api.away = True
    for _ in range(60):
        await asyncio.sleep(120)
        await recorder.record(key, uid, Event(warning=False, reason="Idle", message="the session is being deleted"))
    run.api.come_back()
    await recorder.record(key, uid, Event(warning=False, reason="Idle", message="the session is being deleted"))
    assert len(session.told("Idle")) == 1


async def test_an_operator_that_starts_while_the_api_server_is_away_fails_and_the_next_one_goes_on(run: LongRun):
    session = await run.session(timeout=600)
    await run.stop_operator()
    run.api.away = True
    with pytest.raises(Exception, match="connection refused"):
        await run.start_operator()
    run.api.come_back()
    await run.start_operator()
    assert 600 <= await session.ended(within=700) <= 602


# -- a namespace that is being deleted


async def test_in_a_namespace_that_is_ending_nothing_is_created_and_hardly_tried(run: LongRun):
    sessions = await _many(run, 5, idle_for=86_400)
    await at(60)
    run.api.ending.add(NAMESPACE)
    for session in sessions:
        run.api.begin_deletion(session.pod)  # the namespace's content is deleted, pods among the first
    await at(60 + 600)
    tried = [request for request in run.api.requests if request.at > 60 and request.verb == "POST" and request.kind != "Event"]
    assert len(tried) <= 2 * 5
    assert not run.api.of("Pod")
    for session in sessions:
        assert session.body is not None
        run.api.remove(session.body)
    for config_map in run.api.of("ConfigMap"):
        run.api.remove(config_map)
    await asyncio.sleep(60)
    gone = elapsed()
    await asyncio.sleep(HOUR)
    assert not [request for request in run.api.requests if request.at > gone and request.verb not in ("LIST", "GET")]


async def test_a_namespace_that_is_made_anew_is_served_within_half_a_minute(run: LongRun):
    session = await run.session(timeout=86_400)
    run.api.ending.add(NAMESPACE)
    run.api.begin_deletion(session.pod)
    await asyncio.sleep(10)
    for body in list(run.api.objects.values()):
        run.api.remove(body)
    run.api.ending.clear()
    again = run.create(timeout=86_400)
    await run.until(lambda: again.ready, within=35)


# -- a thousand sessions


async def test_a_thousand_sessions_that_are_idle_at_the_same_second_are_all_ended_and_none_early(run: LongRun):
    sessions = await _many(run, 1000, idle_for=600)
    started = {pod["metadata"]["labels"]["flowsession.dev/session"]: run.node.agent(pod).last_work for pod in run.api.of("Pod")}
    shown = {session.name: session.at("expiresAt") for session in sessions}
    await asyncio.sleep(5)
    settled, before = elapsed(), _reconciles()
    calls = len(run.calls())
    for session in sessions:
        await run.until(lambda: session.body is None, within=700)  # noqa: B023 - at once
    late = sorted((session.deleted_at or 0.0) - shown[session.name] for session in sessions)
    assert all((session.deleted_at or 0.0) >= started[session.name] + 600 for session in sessions)
    assert late[0] >= 0
    assert late[989] <= 1.5, "p99, with 16 writes at once of 4 ms each"
    assert len(run.calls()) - calls == 2 * 1000
    assert len(run.api.writes(since=settled, name="user-")) == 3 * 1000, "the warning, the marks for autoscalers, the end"
    assert _reconciles() - before <= 12 * 1000


def _reconciles() -> float:
    return sum(
        sample.value
        for metric in metrics.reconciles.collect()
        for sample in metric.samples
        if sample.name.endswith("_total") and sample.labels["kind"] == "ComputeSession"
    )
