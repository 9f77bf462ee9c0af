"""Agents that don't respond: they are polled at growing intervals, never taken for idle, and not kept forever."""

import asyncio
from itertools import pairwise

import pytest

from unit.longrun.agent import Agent
from unit.longrun.clocks import elapsed
from unit.longrun.run import LongRun, at

pytestmark = [pytest.mark.looptime(start=0, noop_cycles=2), pytest.mark.asyncio(loop_scope="function")]

HOUR = 3600.0
UNREACHABLE = 3600.0
"""settings.session.unreachable_seconds, by default."""


@pytest.mark.parametrize("idle_for", [60, 3600])
async def test_a_session_that_can_t_be_asked_ends_after_three_timeouts_and_an_hour_and_not_as_idle(run: LongRun, idle_for: int):
    session = await run.session(timeout=idle_for)
    await at(10)
    session.agent.silent = True
    limit = max(3 * idle_for, UNREACHABLE)
    ended = await session.ended(within=10 * HOUR)
    silent = run.calls(since=10)[0].at
    assert silent + limit <= ended <= silent + limit + 70
    (told,) = session.told("ProbeFailed")
    assert told.type == "Warning"
    assert "has not answered for" in told.message
    assert not session.told("Idle")
    assert not session.told("IdleSoon")


async def test_the_back_off_towards_a_silent_agent_grows_to_a_minute(run: LongRun):
    session = await run.session(timeout=3600)
    await at(3500)
    session.agent.silent = True
    await at(3600 + 2 * HOUR)
    asked = [call.at for call in run.calls(since=3500)]
    pauses = [later - earlier for earlier, later in pairwise(asked)]
    assert all(later >= earlier - 0.1 for earlier, later in pairwise(pauses))
    assert max(pauses) == pytest.approx(63, abs=1), "a minute, and three seconds for nothing"
    assert len(asked) <= 2 * 60 + 10
    assert session.says("Active") == ("Unknown", "ProbeFailed")
    assert [write.kind for write in run.api.writes(since=3501)] == ["ComputeSession", "Pod"], "its word, and the marks for autoscalers"
    (told,) = [told for told in session.told() if told.at > 3500]
    assert (told.type, told.reason) == ("Warning", "AgentUnreachable")
    assert told.at <= 3600 + 60, "within a minute of the moment at which it could not be asked"


async def test_an_agent_that_answers_again_starts_the_count_of_its_silence_anew(run: LongRun):
    session = await run.session(timeout=3600)
    await at(3500)
    session.agent.work("run r1")
    session.agent.silent = True
    await at(3600 + 2.9 * HOUR)
    session.agent.silent = False
    await asyncio.sleep(70)
    assert session.says("Active") == ("True", "InUse")
    await asyncio.sleep(HOUR)
    session.agent.silent = True
    again = elapsed()
    ended = await session.ended(within=5 * HOUR)
    assert ended >= again + 3 * HOUR
    assert len(session.told("ProbeFailed")) == 1


async def test_with_action_suspend_a_silent_session_is_suspended_and_can_be_resumed(run: LongRun):
    session = await run.session(timeout=600, action="Suspend")
    await at(100)
    session.agent.silent = True
    suspended = await run.until(lambda: session.status.get("suspended"), within=2 * HOUR)
    assert 540 + UNREACHABLE <= suspended <= 540 + UNREACHABLE + 70
    await at(suspended + 100)
    assert session.status["suspended"]["by"] == "Idle"
    assert len(session.told("ProbeFailed")) == 1
    assert not session.pods
    session.ask("resume")
    await run.until(lambda: session.ready, within=60)


async def test_with_action_none_a_silent_session_is_started_again_and_never_ended(run: LongRun):
    session = await run.session(timeout=600, action="None")
    first = session.pod["metadata"]["name"]
    session.agent.silent = True
    await run.until(lambda: session.pods and session.status.get("incarnation") == 2 and session.ready, within=3 * HOUR)
    assert 600 + UNREACHABLE <= elapsed() <= 600 + UNREACHABLE + 80
    assert session.pod["metadata"]["name"] != first
    assert len(session.told("ProbeFailed")) == 1
    await asyncio.sleep(24 * HOUR)
    assert session.ready
    assert session.status["incarnation"] == 2


async def test_with_action_none_a_session_is_asked_once_in_a_timeout_and_never_written_to(run: LongRun):
    session = await run.session(timeout=3600, action="None")
    await asyncio.sleep(5)
    await at(7 * 24 * HOUR)
    assert session.ready
    assert len(run.calls(since=5)) == 7 * 24 - 1
    assert not run.api.writes(since=5)
    assert len(run.api.told) == 1


async def test_silence_is_not_made_longer_by_a_clock_that_jumps(run: LongRun):
    """Silence of twenty-five minutes during which the operator's clock is set ahead by an hour does not count as an hour."""
    session = await run.session(timeout=600)
    await at(500)
    session.agent.silent = True
    await at(2000)
    run.clock.ahead = HOUR
    await at(2200)
    assert session.body is not None, session.told("ProbeFailed")
    session.agent.silent = False
    await session.ended(within=2 * HOUR)
    assert not session.told("ProbeFailed")


@pytest.mark.parametrize("idle_for", [60, 3600])
async def test_a_session_whose_agent_never_answered_ends_as_probe_failed(run: LongRun, idle_for: int):
    run.node.prepare = _silent
    await run.start_operator()
    session = run.create(timeout=idle_for, startTimeoutSeconds=600)
    ended = await session.ended(within=2 * max(3 * idle_for, UNREACHABLE))
    assert ended >= max(3 * idle_for, UNREACHABLE)
    assert len(session.told("ProbeFailed")) == 1


async def test_a_session_whose_container_came_back_silent_ends_as_probe_failed(run: LongRun):
    session = await run.session(timeout=600)
    await at(100)
    run.node.prepare = _silent
    run.node.restart_container(session.pod)
    ended = await session.ended(within=4 * HOUR)
    assert 100 + UNREACHABLE <= ended <= 100 + UNREACHABLE + 700
    assert len(session.told("ProbeFailed")) == 1


async def test_with_action_none_a_session_whose_agent_never_answered_is_started_again(run: LongRun):
    run.node.prepare = _silent
    await run.start_operator()
    session = run.create(timeout=600, action="None")
    await at(UNREACHABLE / 2)
    run.node.prepare = lambda agent: None
    await run.until(lambda: session.ready, within=2 * HOUR)
    assert len(session.told("ProbeFailed")) == 1


async def test_a_silent_start_is_told_of_and_is_not_asked_in_a_storm(run: LongRun):
    run.node.prepare = _silent
    await run.start_operator()
    session = run.create(timeout=86_400, startTimeoutSeconds=600)
    await at(100)
    assert session.says("Ready") == ("False", "AgentUnreachable")
    await at(700)
    assert session.says("Ready") == ("False", "StartTimeout")
    await at(HOUR)
    assert len(run.calls()) <= HOUR / 8 + 20, "every 5 s, and 3 s for nothing"
    assert len(run.api.writes(since=1, name="alice")) <= 5
    assert len(session.told()) <= 3
    session.agent.silent = False
    await run.until(lambda: session.ready, within=10)


def _silent(agent: Agent) -> None:
    agent.silent = True
