"""The idle rule over its full length: one warning, an end on time and never early, and no calls in between."""

import asyncio
from itertools import pairwise

import pytest

from flowsession.reconcile.session.autoscaler import WORTH_SECONDS
from unit.longrun.clocks import elapsed
from unit.longrun.run import LongRun, at

pytestmark = [pytest.mark.looptime(start=0, noop_cycles=2), pytest.mark.asyncio(loop_scope="function")]

TIMEOUTS = pytest.mark.parametrize("idle_for", [60, 3600, 86_400])


def warning(idle_for: float) -> float:
    """Return the seconds before the end at which people are warned: a tenth of the timeout or five minutes, whichever is less."""
    return min(idle_for / 10, 300.0)


@TIMEOUTS
async def test_an_unused_session_ends_when_its_timeout_has_passed_and_never_earlier(run: LongRun, idle_for: int):
    session = await run.session(timeout=idle_for)
    ready, shown = elapsed(), session.at("expiresAt")
    ended = await session.ended(within=idle_for + 10)
    assert ended >= ready + idle_for
    assert shown <= ended <= shown + 1.0
    assert [told.type for told in session.told("Idle")] == ["Normal"]
    assert f"(limit {idle_for} s)" in session.told("Idle")[0].message


@TIMEOUTS
async def test_people_are_warned_once_and_in_time(run: LongRun, idle_for: int):
    session = await run.session(timeout=idle_for)
    end = session.at("expiresAt")
    await at(end - warning(idle_for) - 2)
    assert session.says("Active") == ("False", "Idle")
    await at(end - warning(idle_for) + 1)
    assert session.says("Active") == ("False", "IdleSoon")
    await session.ended(within=idle_for)
    (told,) = session.told("IdleSoon")
    assert told.type == "Warning"
    assert end - warning(idle_for) <= told.at <= end - warning(idle_for) + 1
    assert "keep-alive-requested-at" in told.message
    assert {told.reason for told in session.told()} == {"Running", "IdleSoon", "Idle"}


@TIMEOUTS
async def test_it_is_asked_twice_in_the_whole_timeout_and_not_at_all_in_between(run: LongRun, idle_for: int):
    session = await run.session(timeout=idle_for)
    await asyncio.sleep(1)
    settled, end = elapsed(), session.at("expiresAt")
    await session.ended(within=idle_for + 10)
    look, retire = run.calls(since=settled)
    assert (look.what, retire.what) == ("Probe", "Retire")
    assert look.at == pytest.approx(end - warning(idle_for), abs=1)
    assert retire.at == pytest.approx(end, abs=1)


@TIMEOUTS
async def test_its_whole_life_takes_a_handful_of_writes_and_none_while_it_sits_there(run: LongRun, idle_for: int):
    session = await run.session(timeout=idle_for)
    await asyncio.sleep(1)
    settled, end = elapsed(), session.at("expiresAt")
    assert [write.verb for write in run.api.writes(name="alice")] == ["POST", "PATCH"], "the pod; Ready, and where its packages are"
    await session.ended(within=idle_for + 10)
    warned, *let_go, deleted = run.api.writes(since=settled, name="alice")
    assert (warned.verb, deleted.verb) == ("PATCH", "DELETE")
    assert warned.at > end - warning(idle_for) - 1
    marks = [("PATCH", "Pod")] if warning(idle_for) >= WORTH_SECONDS else []
    assert [(write.verb, write.kind) for write in let_go] == marks, "autoscalers may have the node, where there is time for that"
    assert len(run.api.told) == 3


@TIMEOUTS
async def test_a_keep_alive_defers_the_end_by_one_full_timeout(run: LongRun, idle_for: int):
    session = await run.session(timeout=idle_for)
    asked = await _later(idle_for * 0.5)
    session.ask("keepAlive")
    await run.until(lambda: session.status.get("handledRequests", {}).get("keepAlive"), within=2)
    assert session.at("expiresAt") == pytest.approx(asked + idle_for, abs=2)
    ended = await session.ended(within=2 * idle_for)
    assert asked + idle_for <= ended <= asked + idle_for + 2
    assert len(session.told("IdleSoon")) == 1


async def test_a_keep_alive_after_the_warning_takes_it_back_and_the_next_end_is_warned_of_again(run: LongRun):
    session = await run.session(timeout=3600)
    await at(3400)
    session.ask("keepAlive")
    await asyncio.sleep(1)
    assert session.says("Active") == ("True", "KeptAlive")
    ended = await session.ended(within=4000)
    assert 7000 <= ended <= 7002
    assert [round(told.at) for told in session.told("IdleSoon")] == [3301, 6700]


async def test_a_keep_alive_that_comes_while_the_door_is_closed_wins(run: LongRun):
    session = await run.session(timeout=3600)
    await at(session.at("expiresAt") - 0.5)
    while session.agent.retired_at is None:  # noqa: ASYNC110 - an agent tells nobody that it retires
        await asyncio.sleep(0.001)
    session.ask("keepAlive")
    await asyncio.sleep(2)
    assert session.body is not None
    assert session.says("Active") == ("True", "KeptAlive")
    assert not session.agent.retired
    assert await session.ended(within=4000) >= 7200


async def test_every_keep_alive_counts_and_ten_of_them_are_ten_timeouts(run: LongRun):
    session = await run.session(timeout=60)
    for _ in range(10):
        await asyncio.sleep(58)
        session.ask("keepAlive")
    last = elapsed()
    assert last == pytest.approx(580, abs=2)
    assert last + 60 <= await session.ended(within=70) <= last + 62
    assert len(session.told("IdleSoon")) == 11


@pytest.mark.parametrize("start", ["container", "reset", "pod"])
async def test_a_fresh_start_counts_as_activity(run: LongRun, start: str):
    session = await run.session(timeout=3600)
    await at(3000)
    match start:
        case "container":
            run.node.restart_container(session.pod)
        case "reset":
            session.ask("reset")
        case "pod":
            run.node.lose(session.pod)
    await at(3030)
    assert session.ready
    again = run.node.starts[-1][0]
    assert 3000 <= again < 3010
    ended = await session.ended(within=5000)
    assert again + 3600 <= ended <= again + 3603


async def test_work_that_nobody_had_asked_about_moves_the_end_when_it_is_seen(run: LongRun):
    session = await run.session(timeout=3600)
    await at(1000)
    await session.agent.work_for(1000)
    await at(3310)
    assert session.at("lastActivity", "at") == pytest.approx(2000, abs=1)
    assert session.at("expiresAt") == pytest.approx(5600, abs=1)
    assert session.says("Active") == ("False", "Idle")
    assert not session.told("IdleSoon")
    assert 5600 <= await session.ended(within=4000) <= 5601.1
    assert [round(told.at) for told in session.told("IdleSoon")] == [5300]


async def test_a_session_at_work_all_day_is_kept_and_hardly_asked(run: LongRun):
    session = await run.session(timeout=3600)
    await at(100)
    await session.agent.work_for(86_400)
    assert session.says("Active") == ("True", "InUse")
    assert session.status["lastActivity"]["what"] == "exec python train.py"
    timeouts = 86_500 / 3600
    assert len(run.calls(since=2)) <= 2 * timeouts
    assert len(run.api.writes(since=2, name="alice")) <= 2 * timeouts
    assert not session.told("IdleSoon")
    assert 90_100 <= await session.ended(within=4000) <= 90_101.1


async def test_work_that_begins_after_the_warning_calls_the_end_off(run: LongRun):
    session = await run.session(timeout=3600)
    await at(3500)
    assert session.says("Active")[1] == "IdleSoon"
    session.agent.work()
    await at(3700)
    assert session.says("Active") == ("True", "InUse")
    session.agent.rest()
    assert 7300 <= await session.ended(within=4000) <= 7301.1


@pytest.mark.parametrize("idle_for", [30, 60, 600, 3600])
@pytest.mark.parametrize("work", [10, 20])
async def test_apart_from_the_warning_active_flaps_no_faster_than_once_a_minute_while_work_comes_and_goes(
    run: LongRun, idle_for: int, work: int
):
    session = await run.session(timeout=idle_for)
    for _ in range(90):
        await session.agent.work_for(work)
        await asyncio.sleep(20)
    turns = session.transitions("Active", of=1)
    assert not [(a, b) for a, b in pairwise(turns) if b[1] == "Idle" and b[0] - a[0] < 59], "the status keeps whole seconds"
    assert len(run.api.writes(since=5, name="alice")) <= len(run.calls(since=5)) <= 2 * 3600 / idle_for + 2
    assert session.body is not None
    worked = session.agent.last_work
    assert worked + idle_for <= await session.ended(within=idle_for + 60) <= worked + idle_for + 2
    (*_, (rested, status)) = session.transitions("Active")
    assert status == "False"
    assert rested <= worked + 0.9 * idle_for + 60, "a minute after it was asked, if not before"


async def _later(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return elapsed()
