"""What must not end a session early, and what must not keep it forever: absent operators and wrong clocks."""

import asyncio

import pytest

from unit.longrun.clocks import elapsed
from unit.longrun.run import LongRun, Session, at

pytestmark = [pytest.mark.looptime(start=0, noop_cycles=2), pytest.mark.asyncio(loop_scope="function")]

HOUR = 3600.0


# -- the operator is down


async def test_after_two_hours_without_an_operator_a_session_is_asked_before_it_is_ended(run: LongRun):
    session = await run.session(timeout=3600)
    back = await _without_operator(run, since=3000, until=3601 + 2 * HOUR)
    ended = await session.ended(within=4000)
    asked = run.calls(since=back)[-1]
    assert asked.what == "Retire"
    assert back <= asked.at < ended
    assert "no work for" in session.told("Idle")[0].message


async def test_after_two_hours_without_an_operator_people_are_warned_before_the_end(run: LongRun):
    session = await run.session(timeout=3600)
    back = await _without_operator(run, since=3000, until=3601 + 2 * HOUR)
    ended = await session.ended(within=4000)
    (told,) = session.told("IdleSoon")
    assert back <= told.at
    assert ended >= told.at + 299


@pytest.mark.parametrize("until", [9000.0, 10_801.0])
async def test_who_worked_while_the_operator_was_away_is_kept_for_a_whole_timeout_after_it(run: LongRun, until: float):
    session = await run.session(timeout=3600)
    await at(3000)
    await run.stop_operator()
    await at(7000)
    await session.agent.work_for(until - 7000 - 1200)
    back = await _without_operator(run, since=elapsed(), until=until)
    worked = back - 1200
    ended = await session.ended(within=8000)
    assert worked + 3600 <= ended <= worked + 3602
    assert len(session.told("IdleSoon")) == 1


async def test_who_works_when_the_operator_comes_back_is_kept(run: LongRun):
    session = await run.session(timeout=60)
    await at(30)
    await run.stop_operator()
    session.agent.work()
    await at(7200)
    await run.start_operator()
    await at(9000)
    assert session.says("Active") == ("True", "InUse")
    assert not session.told("IdleSoon")


async def test_a_session_that_sits_there_costs_a_new_operator_neither_calls_nor_writes(run: LongRun):
    session = await run.session(timeout=86_400)
    await asyncio.sleep(5)
    for hour in range(1, 20):
        await at(hour * HOUR)
        await run.stop_operator()
        await run.start_operator()
    assert not run.calls(since=5)
    assert not run.api.writes(since=5)
    assert session.at("expiresAt") == pytest.approx(86_401, abs=1)
    assert 86_400.5 <= await session.ended(within=86_400) <= 86_402


@pytest.mark.parametrize("moment", [3599.0, 3601.001, 3601.003, 3601.006, 3601.010])
async def test_an_operator_that_dies_during_the_end_leaves_no_door_closed_and_the_next_one_ends_it(run: LongRun, moment: float):
    session = await run.session(timeout=3600)
    await at(moment)
    await run.stop_operator()
    await asyncio.sleep(40)
    assert session.body is None or not session.agent.retired
    await run.start_operator()
    await run.until(lambda: session.body is None, within=5)


# -- clocks


async def _skewed(run: LongRun, ahead: float, idle_for: int) -> tuple[Session, float]:
    session = await run.session(timeout=idle_for)
    await at(idle_for / 2)
    run.clock.ahead = ahead
    return session, await session.ended(within=HOUR * 3)


@pytest.mark.parametrize("ahead", [HOUR, -HOUR])
@pytest.mark.parametrize("idle_for", [60, 3600, 7200])
async def test_nobody_is_ended_early_when_the_operators_clock_jumps(run: LongRun, ahead: float, idle_for: int):
    _, ended = await _skewed(run, ahead, idle_for)
    assert ended >= idle_for


@pytest.mark.parametrize("idle_for", [60, 3600, 7200])
async def test_nobody_lives_for_more_than_one_extra_timeout_when_the_operators_clock_is_set_back(run: LongRun, idle_for: int):
    _, ended = await _skewed(run, -HOUR, idle_for)
    assert ended <= 2 * idle_for + 5


@pytest.mark.parametrize("idle_for", [60, 3600, 7200])
async def test_the_end_comes_on_time_when_the_operators_clock_jumps_ahead(run: LongRun, idle_for: int):
    session, ended = await _skewed(run, HOUR, idle_for)
    assert ended <= idle_for + 5
    assert [told.reason for told in session.told()] == ["Running", "IdleSoon", "Idle"], "no end was begun too early and called off"


async def test_a_clock_that_is_set_right_again_ends_nobody_early(run: LongRun):
    run.clock.ahead = -HOUR
    session = await run.session(timeout=3600)
    await at(1000)
    await session.agent.work_for(500)
    await at(3300)
    run.clock.ahead = 0.0
    assert 5100 <= await session.ended(within=9000) <= 5100 + 3600 + 5


async def test_a_new_operator_with_a_wrong_clock_ends_nobody_who_works(run: LongRun):
    session = await run.session(timeout=600)
    session.agent.work()
    for ahead in (HOUR, -HOUR, 0.0):
        await run.stop_operator()
        run.clock.ahead = ahead
        await run.start_operator()
        await asyncio.sleep(2000)
    assert session.body is not None
    session.agent.rest()
    worked = elapsed()
    assert worked + 600 <= await session.ended(within=2 * HOUR)


async def _without_operator(run: LongRun, *, since: float, until: float) -> float:
    await at(since)
    await run.stop_operator()
    await at(until)
    await run.start_operator()
    return until
