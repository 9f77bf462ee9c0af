"""How soon an agent may be asked again, by what its calls have cost lately: no session's agent keeps the operator from the others.

Both counts are leaky buckets. They run empty with time alone, so that one good answer makes up for nothing.
"""

from dataclasses import replace

from flowsession.model.agent_views import AgentView

CALLS_AT_ONCE = 20.0
"""Calls that an agent may cause one after the other: a start with an install, a check and a list of packages has 5 to 10."""

SECONDS_PER_CALL = 2.0
"""One more call each such time, in the long run."""

BAD_AT_ONCE = 3.0
"""Answers of no use that are borne with. Silence is none: it costs nothing, and has pauses of its own (target.pause_after)."""

SECONDS_PER_BAD = 60.0
"""One of them is forgotten each such time."""

LONGEST_BAD_PAUSE = 15.0
"""Seconds; the pause doubles with each such answer beyond BAD_AT_ONCE, from 1 s on."""


def charged(view: AgentView, now: float, *, bad: bool) -> AgentView:
    """The view with one more call on its account that ended now; `bad` where its answer was of no use."""
    passed = max(0.0, now - view.asked_at)
    return replace(
        view,
        calls=max(0.0, view.calls - passed / SECONDS_PER_CALL) + 1.0,
        bad_answers=max(0.0, view.bad_answers - passed / SECONDS_PER_BAD) + (1.0 if bad else 0.0),
    )


def rested_at(view: AgentView) -> float:
    """When the agent may be called again for all that it has cost, in seconds since 1970."""
    load = max(0.0, view.calls - CALLS_AT_ONCE) * SECONDS_PER_CALL
    bad = view.bad_answers - BAD_AT_ONCE
    return view.asked_at + max(load, min(LONGEST_BAD_PAUSE, 2.0 ** min(bad - 1.0, 10.0)) if bad > 0 else 0.0)


LONGEST_PAUSE = 60.0
"""Seconds between two calls of an agent that does not answer, at most."""


def askable_at(agent: AgentView | None) -> float:
    """When a serving agent may be asked again, in seconds since 1970: at once unless it did not answer, or was asked a lot."""
    if agent is None:
        return 0.0
    return max(rested_at(agent), agent.asked_at + pause_after(agent) if agent.failures else 0.0)


def pause_after(agent: AgentView) -> float:
    """Seconds until a serving agent that did not answer is asked again: 1, 2, 4 ... 60."""
    return min(LONGEST_PAUSE, 2.0 ** min(agent.failures - 1, 10))
