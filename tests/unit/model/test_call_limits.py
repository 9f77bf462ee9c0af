"""How soon an agent may be called again: each has counts of its calls and bad answers, which only time lowers."""

from dataclasses import replace

import pytest

from flowsession.model.agent_views import AgentView
from flowsession.model.call_limits import BAD_AT_ONCE, CALLS_AT_ONCE, LONGEST_BAD_PAUSE, SECONDS_PER_CALL, charged, limits_allow_at
from flowsession.model.plan import Follow, Probe
from unit.builders import NOW, agent, container, decide, installing, pod, resolved, session_snapshot, settled_snapshot


def asked(view: AgentView, seconds: float, *, bad: bool = False, every: float = 0.0) -> tuple[AgentView, int]:
    """Call the agent as soon as its limits allow, for this many seconds. Return the view afterwards and the number of calls."""
    end, calls, now = view.asked_at + seconds, 0, view.asked_at
    while (now := max(now + every, limits_allow_at(view))) <= end:
        view, calls = replace(charged(view, now, bad=bad), asked_at=now), calls + 1
    return view, calls


def test_a_start_is_not_held_up() -> None:
    _, calls = asked(AgentView(0, asked_at=NOW), 1.0, every=0.05)
    assert calls == 20
    assert calls <= CALLS_AT_ONCE


def test_an_agent_that_always_has_news_is_asked_every_two_seconds_in_the_long_run() -> None:
    _, calls = asked(AgentView(0, asked_at=NOW), 600.0, every=0.05)
    assert calls <= CALLS_AT_ONCE + 600.0 / SECONDS_PER_CALL + 1


def test_one_that_answers_nonsense_is_asked_every_quarter_of_a_minute() -> None:
    _, calls = asked(AgentView(0, asked_at=NOW), 600.0, bad=True, every=0.05)
    assert calls <= BAD_AT_ONCE + 8 + 600.0 / LONGEST_BAD_PAUSE


def test_a_good_answer_in_between_does_not_make_up_for_it() -> None:
    view, now = AgentView(0, asked_at=NOW), NOW
    for turn in range(40):
        now = max(now, limits_allow_at(view))
        view = replace(charged(view, now, bad=turn % 2 == 0), asked_at=now)
    assert limits_allow_at(view) - now > 5.0
    assert now - NOW > 60.0


def test_time_does() -> None:
    view, _ = asked(AgentView(0, asked_at=NOW), 600.0, bad=True)
    later = charged(view, view.asked_at + 3600.0, bad=False)
    assert (later.calls, later.bad_answers) == (1.0, 0.0)


def test_a_clock_that_is_set_back_costs_nobody_anything() -> None:
    view = charged(AgentView(0, asked_at=NOW, calls=3.0, bad_answers=2.0), NOW - 3600.0, bad=True)
    assert (view.calls, view.bad_answers) == (4.0, 3.0)


EXHAUSTED = {"calls": CALLS_AT_ONCE + 5.0}
YOUNG = {"created_at": NOW - 0.5, "container": container(running_since=NOW - 0.2)}


def test_a_long_poll_waits_for_its_turn() -> None:
    snapshot = session_snapshot(pod(**YOUNG), agent=agent(installing(), **EXHAUSTED))
    early = decide(snapshot, NOW + 9.9)
    assert (early.call, early.look_again_at) == (None, NOW + 10.0)
    assert decide(snapshot, NOW + 10.0).call == Follow(since=3)


def test_an_order_waits_for_its_turn() -> None:
    snapshot = session_snapshot(pod(**YOUNG), agent=AgentView(0, asked_at=NOW, bad_answers=BAD_AT_ONCE + 4.0))
    early = decide(snapshot, NOW + 7.9)
    assert early.call is None
    assert early.look_again_at is not None
    assert early.look_again_at <= NOW + 8.0
    assert decide(snapshot, NOW + 8.0).call is not None


@pytest.mark.parametrize(("seconds", "asks"), [(9.9, False), (10.0, True)])
def test_a_probe_waits_for_its_turn(seconds: float, asks: bool) -> None:
    environment = resolved()
    snapshot = settled_snapshot(environment, ready_at=NOW - 3600.0, agent=replace(agent(environment=environment), **EXHAUSTED))
    plan = decide(replace(snapshot, agent=replace(snapshot.agent, state=None)), NOW + seconds)
    assert (plan.call == Probe()) is asks, plan
