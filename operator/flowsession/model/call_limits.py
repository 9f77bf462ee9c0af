"""How soon an agent may be called again, by the cost of its recent calls, so that no session's agent starves the others.

Both counts are leaky buckets: they drain with time alone, and a good answer does not reset them.
"""

from dataclasses import replace

from flowsession.model.agent_views import AgentView
from flowsession.model.back_off import back_off

CALLS_AT_ONCE = 20.0
"""Calls that an agent may cause in a burst. A start with an install, a check and a list of packages takes 5 to 10."""

SECONDS_PER_CALL = 2.0
"""Sustained rate: one call in this time."""

BAD_AT_ONCE = 3.0
"""Useless answers in a burst. A call without an answer does not count: it costs nothing, and has its own back-off
(pause_after_failures)."""

SECONDS_PER_BAD = 60.0
"""One useless answer is forgotten in this time."""

LONGEST_BAD_PAUSE = 15.0
"""Seconds of the longest pause after useless answers. The pause starts at 1 s and doubles with each one beyond BAD_AT_ONCE."""


def charged(view: AgentView, now: float, *, bad: bool) -> AgentView:
    """Return the view after one more call, which ended now; `bad`: its answer was useless."""
    passed = max(0.0, now - view.asked_at)
    return replace(
        view,
        calls=max(0.0, view.calls - passed / SECONDS_PER_CALL) + 1.0,
        bad_answers=max(0.0, view.bad_answers - passed / SECONDS_PER_BAD) + (1.0 if bad else 0.0),
    )


def limits_allow_at(view: AgentView) -> float:
    """Return when the cost of its recent calls lets the agent be called again, in seconds since 1970."""
    load = max(0.0, view.calls - CALLS_AT_ONCE) * SECONDS_PER_CALL
    bad = view.bad_answers - BAD_AT_ONCE
    return view.asked_at + max(load, back_off(bad, first=1.0, longest=LONGEST_BAD_PAUSE) if bad > 0 else 0.0)


LONGEST_PAUSE = 60.0
"""Longest back-off of an agent that does not answer, in seconds."""


def callable_at(agent: AgentView | None) -> float:
    """Return when a serving agent may be called again, in seconds since 1970: immediately, unless it failed to answer or was called
    often."""
    if agent is None:
        return 0.0
    return max(limits_allow_at(agent), agent.asked_at + pause_after_failures(agent) if agent.failures else 0.0)


def pause_after_failures(agent: AgentView) -> float:
    """Return the back-off of a serving agent that did not answer, in seconds: 1, 2, 4 ... 60."""
    return back_off(agent.failures, first=1.0, longest=LONGEST_PAUSE)
