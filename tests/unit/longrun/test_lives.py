"""Lives of many hours: lifetimes, pods that are lost repeatedly, overtaken installs, and how few Events these cause."""

import asyncio

import pytest

from unit.longrun.agent import Agent
from unit.longrun.clocks import elapsed
from unit.longrun.run import LongRun, Session, at

pytestmark = [pytest.mark.looptime(start=0, noop_cycles=2), pytest.mark.asyncio(loop_scope="function")]

HOUR, DAY = 3600.0, 86_400.0
SETTLED = 600.0
"""Seconds after which a pod that ends does not count as a crash."""


# -- lifetimes


async def test_a_lifetime_of_a_day_ends_in_suspension_used_or_not(run: LongRun):
    session = await run.session(timeout=3600, maxLifetimeSeconds=86_400)
    began = session.at("activatedAt")
    session.agent.work()
    ended = await run.until(lambda: session.status.get("suspended"), within=2 * DAY)
    assert session.status["suspended"]["by"] == "Lifetime"
    assert began + DAY <= ended <= began + DAY + 1
    await asyncio.sleep(60)
    assert not session.pods
    assert [told.reason for told in session.told()] == ["Running", "Suspended"]
    await asyncio.sleep(7 * DAY)
    assert session.body is not None
    assert session.says("Ready") == ("False", "Suspended")


async def test_after_a_resume_it_lives_for_another_day(run: LongRun):
    session = await run.session(timeout=3600, maxLifetimeSeconds=86_400)
    session.agent.work()
    await at(DAY + HOUR)
    session.ask("resume")
    await run.until(lambda: session.ready, within=10)
    again = elapsed()
    session.agent.work()
    await run.until(lambda: session.status.get("suspended"), within=2 * DAY)
    assert again + DAY - 2 <= elapsed() <= again + DAY + 2


async def test_a_lifetime_counts_on_while_the_operator_is_away_and_through_lost_pods(run: LongRun):
    session = await run.session(timeout=86_400 * 2, maxLifetimeSeconds=86_400)
    began = session.at("activatedAt")
    await at(HOUR)
    run.node.lose(session.pod)
    await at(2 * HOUR)
    await run.stop_operator()
    await at(3 * HOUR)
    await run.start_operator()
    ended = await run.until(lambda: session.status.get("suspended"), within=2 * DAY)
    assert began + DAY <= ended <= began + DAY + 1


async def test_idleness_ends_it_before_its_lifetime(run: LongRun):
    session = await run.session(timeout=3600, maxLifetimeSeconds=86_400, action="Suspend")
    ended = await run.until(lambda: session.status.get("suspended"), within=2 * HOUR)
    assert session.status["suspended"]["by"] == "Idle"
    assert 3600 <= ended <= 3603


# -- lost pods


async def _lose_when_ready(run: LongRun, session: Session) -> float:
    """Lose the pod when it becomes Ready. Return the seconds until the next pod is created."""
    await run.until(lambda: session.ready, within=400)
    run.node.lose(session.pod)
    lost, count = elapsed(), len(_starts(run))
    await run.until(lambda: len(_starts(run)) > count, within=400)
    return _starts(run)[-1] - lost


def _starts(run: LongRun) -> list[float]:
    return [request.at for request in run.api.requests if (request.verb, request.kind) == ("POST", "Pod")]


async def test_a_pod_that_is_lost_again_and_again_comes_back_ever_more_slowly(run: LongRun):
    session = await run.session(timeout=86_400)
    pauses = [await _lose_when_ready(run, session) for _ in range(12)]
    for pause, expected in zip(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300], strict=True):
        assert expected - 1 <= pause <= expected + 1.5, pauses
    await run.until(lambda: session.ready, within=10)
    assert session.status["restarts"] == 12
    assert session.status["incarnation"] == 13


async def test_losses_are_told_once_each_and_no_pod_is_left_behind(run: LongRun):
    session = await run.session(timeout=86_400)
    for _ in range(8):
        await _lose_when_ready(run, session)
    await run.until(lambda: session.ready, within=10)
    assert len(session.told("Evicted")) == 8
    assert len(session.told()) <= 2 * 8 + 1
    await asyncio.sleep(60)
    assert len(session.pods) == 1


async def test_after_a_settled_life_the_next_pod_comes_at_once(run: LongRun):
    session = await run.session(timeout=86_400)
    for _ in range(5):
        await _lose_when_ready(run, session)
    await run.until(lambda: session.ready, within=400)
    await asyncio.sleep(SETTLED + 1)
    assert await _lose_when_ready(run, session) < 1


async def test_after_a_settled_life_the_back_off_begins_anew(run: LongRun):
    session = await run.session(timeout=86_400)
    for _ in range(6):
        await _lose_when_ready(run, session)
    await run.until(lambda: session.ready, within=400)
    await asyncio.sleep(SETTLED + 1)
    await _lose_when_ready(run, session)
    assert await _lose_when_ready(run, session) <= 2.5


async def test_a_pod_that_is_lost_once_a_day_for_a_week_comes_back_at_once_each_time(run: LongRun):
    session = await run.session(timeout=86_400 * 30)
    for day in range(1, 8):
        await at(day * DAY)
        assert await _lose_when_ready(run, session) < 1
    assert session.status["restarts"] == 7


# -- installs


def _slow(agent: Agent) -> None:
    agent.install_seconds = 120.0


async def test_a_change_in_the_middle_of_an_install_stops_it_and_the_last_one_is_installed(run: LongRun):
    run.node.prepare = _slow
    run.change_environment(requirementsText="pandas\n")
    session = await _installed(run, onChange="Install")
    for text in ("numpy\n", "scipy\n", "sympy\n"):
        run.change_environment(requirementsText=text)
        await asyncio.sleep(30)
        assert session.says("PackagesInstalled") == ("False", "Installing")
        assert session.ready, "it serves with what it had"
    changed = elapsed() - 30
    await run.until(lambda: session.says("InSync")[0] == "True", within=200)
    assert elapsed() == pytest.approx(changed + 120, abs=2)
    assert session.agent.installs == ["pandas\n", "numpy\n", "scipy\n", "sympy\n"]
    assert session.status["packagesRevision"] == session.agent.volume["packages"]
    assert session.status["install"]["revision"] == session.agent.volume["packages"]


async def test_a_change_back_to_what_is_installed_ends_the_install_at_once(run: LongRun):
    run.node.prepare = _slow
    run.change_environment(requirementsText="pandas\n")
    session = await _installed(run, onChange="Install")
    run.change_environment(requirementsText="numpy\n")
    await asyncio.sleep(30)
    run.change_environment(requirementsText="pandas\n")
    await run.until(lambda: session.says("InSync")[0] == "True", within=2)
    assert session.agent.installs == ["pandas\n", "numpy\n"]


async def test_a_change_back_ends_in_what_was_wanted_last(run: LongRun):
    run.node.prepare = _slow
    run.change_environment(requirementsText="pandas\n")
    session = await _installed(run, onChange="Install")
    first = session.status["packagesRevision"]
    run.change_environment(requirementsText="numpy\n")
    await asyncio.sleep(30)
    run.change_environment(requirementsText="pandas\n")
    await asyncio.sleep(300)
    assert session.says("InSync") == ("True", "InSync")
    assert session.agent.volume["packages"] == session.status["packagesRevision"] == first


async def test_with_wait_nothing_is_installed_for_days_until_it_is_asked_for(run: LongRun):
    run.change_environment(requirementsText="pandas\n")
    session = await _installed(run, onChange="Wait", timeout=86_400 * 30)
    await asyncio.sleep(60)
    run.change_environment(requirementsText="numpy\n")
    await asyncio.sleep(3 * DAY)
    assert session.says("InSync") == ("False", "RequirementsChanged")
    assert session.agent.installs == ["pandas\n"]
    assert len(run.api.writes(since=60, name="alice")) == 1
    session.ask("install")
    await run.until(lambda: session.says("InSync")[0] == "True", within=30)
    assert session.agent.installs == ["pandas\n", "numpy\n"]


async def test_with_wait_changes_during_an_install_that_was_asked_for_end_in_the_last_one(run: LongRun):
    """The request is handled only when an install has ended: changes until then are part of it."""
    run.node.prepare = _slow
    run.change_environment(requirementsText="pandas\n")
    session = await _installed(run, onChange="Wait")
    run.change_environment(requirementsText="numpy\n")
    await asyncio.sleep(1)  # each kind has its own watch, so the request may arrive before the change
    session.ask("install")
    await asyncio.sleep(30)
    run.change_environment(requirementsText="scipy\n")
    await asyncio.sleep(30)
    run.change_environment(requirementsText="sympy\n")
    await run.until(lambda: session.says("InSync")[0] == "True", within=200)
    assert session.agent.installs[-1] == "sympy\n"
    run.change_environment(requirementsText="attrs\n")
    await asyncio.sleep(HOUR / 2)
    assert session.agent.installs[-1] == "sympy\n", "that one was not asked for"
    assert session.says("InSync") == ("False", "RequirementsChanged")


async def test_an_install_of_an_hour_is_work_and_costs_no_writes(run: LongRun):
    run.node.prepare = lambda agent: setattr(agent, "install_seconds", HOUR)
    run.change_environment(requirementsText="pandas\n", installer={"timeoutSeconds": 7200})
    await run.start_operator()
    session = run.create(timeout=600, startTimeoutSeconds=7200)
    await run.until(lambda: session.ready, within=2 * HOUR)
    assert elapsed() == pytest.approx(HOUR, abs=3)
    assert len(run.api.writes(since=10, before=HOUR - 10, name="alice")) == 0
    assert not session.told("IdleSoon")
    polls = [call for call in run.client.calls if call.what == "Follow"]
    assert len(polls) <= HOUR / 30 + 10, "a long poll of half a minute each"
    assert await session.ended(within=700) >= HOUR + 600


async def test_a_failed_install_is_not_tried_again_for_days_without_being_asked(run: LongRun):
    run.change_environment(requirementsText="pandas\n")
    session = await _installed(run, timeout=86_400 * 30)
    session.agent.install_ends = "NoMatchingDistribution"
    run.change_environment(requirementsText="no-such-thing\n")
    await run.until(lambda: session.says("PackagesInstalled") == ("False", "InstallFailed"), within=30)
    await asyncio.sleep(3 * DAY)
    assert session.agent.installs == ["pandas\n", "no-such-thing\n"]
    assert session.ready
    assert len(session.told("InstallFailed")) == 1
    session.ask("install")
    await asyncio.sleep(30)
    assert session.agent.installs == ["pandas\n", "no-such-thing\n", "no-such-thing\n"]


async def _installed(run: LongRun, **fields: object) -> Session:
    await run.start_operator()
    session = run.create(**fields)  # type: ignore[arg-type]
    await run.until(lambda: session.ready, within=200)
    return session


# -- Events


async def test_a_week_of_use_is_told_in_a_few_events_a_day(run: LongRun):
    """Each day: resumed at nine, used, idle three times for long enough to be warned, and suspended in the evening."""
    session = await run.session(timeout=3600, action="Suspend")
    for day in range(7):
        await at(day * DAY + 9 * HOUR)
        if session.status.get("suspended"):
            session.ask("resume")
            await run.until(lambda: session.ready, within=30)
        for _ in range(3):
            await session.agent.work_for(1.5 * HOUR)
            await asyncio.sleep(57 * 60)
        await session.agent.work_for(600)
    await at(7 * DAY + 12 * HOUR)
    told = [event for event in session.told() if event.at > 1]
    counts = {reason: sum(event.reason == reason for event in told) for reason in {event.reason for event in told}}
    evenings = 8
    assert counts == {"IdleSoon": 3 * 7 + evenings, "Idle": evenings, "Suspended": evenings, "Resumed": 7, "Running": 7}
    writes = run.api.writes(since=5, name="alice")
    marks = [write for write in writes if (write.verb, write.kind) == ("PATCH", "Pod")]
    assert len(writes) - len(marks) <= 20 * evenings
    assert len(marks) == 2 * 3 * 7 + evenings, "autoscalers may have the node from the warning on, and no more once there is work again"
    assert len(run.calls(since=5)) <= 20 * evenings


async def test_a_week_of_operator_restarts_tells_nothing_twice(run: LongRun):
    session = await run.session(timeout=86_400 * 30)
    for hour in range(1, 7 * 24):
        await at(hour * HOUR)
        await run.stop_operator()
        await run.start_operator()
    assert [told.reason for told in session.told()] == ["Running"]
    assert not run.api.writes(since=5)
