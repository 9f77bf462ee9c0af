"""Tells people before idleness ends a session, and how to put that off; a session whose people could not be warned in time lives on."""

from flowsession.api.session import IdleAction
from flowsession.model import times
from flowsession.model.agent_views import AgentView
from flowsession.model.idle_times import FRESH_SECONDS, LONGEST_WARNING, warned_for
from flowsession.model.plan import Look
from flowsession.reconcile import requests
from flowsession.reconcile.session import edits
from flowsession.reconcile.session.draft import Draft


def warn(draft: Draft, agent: AgentView | None, deadline: float) -> None:
    """Asks once before the end, and says how to put it off."""
    warn_at = deadline - warned_for(draft.snapshot.spec.idle.timeout_seconds)
    draft.look_again(deadline)
    # A deadline that was promised to people is rounded up to whole seconds.
    if draft.now < warn_at - (1.0 if was_warned(draft) else 0.0):
        draft.look_again(warn_at)
    elif draft.reason_before("Active") == "IdleSoon":
        draft.judge("Active", False, "IdleSoon", _warning(draft))
    elif agent is None or agent.failures or agent.asked_at < warn_at:
        draft.ask(agent, Look())
    elif agent.state is not None and not agent.state.busy:
        draft.tell(warning=True, reason="IdleSoon", message=_warning(draft))
        draft.judge("Active", False, "IdleSoon", _warning(draft))


def was_warned(draft: Draft) -> bool:
    """Whether people were told that the session ends soon, and know it still."""
    return draft.reason_before("Active") in ("IdleSoon", edits.NOT_SAVED)


def deadline_after(draft: Draft, last: float) -> float:
    """When idleness ends the session: one timeout after the last work, or later where people were warned too late for that."""
    deadline = last + draft.snapshot.spec.idle.timeout_seconds
    promised = times.parse(draft.snapshot.status.get("expiresAt"))
    same_spec = draft.snapshot.status.get("observedGeneration") == draft.snapshot.generation
    late = promised is not None and deadline + 1.0 < promised <= draft.now + LONGEST_WARNING + 1.0
    return promised if promised is not None and late and same_spec and was_warned(draft) else deadline


def warn_late(draft: Draft, agent: AgentView | None) -> None:
    """The deadline has passed while the operator or the agent was away: that time does not count, and people are warned all the same."""
    if agent is None or agent.state is None or agent.failures or draft.now - agent.state_at > FRESH_SECONDS:
        draft.ask(agent, Look())
        return
    promised = draft.now + warned_for(draft.snapshot.spec.idle.timeout_seconds)
    draft.put("expiresAt", times.deadline_stamp(promised))
    draft.tell(warning=True, reason="IdleSoon", message=_warning(draft))
    draft.judge("Active", False, "IdleSoon", _warning(draft))
    draft.look_again(promised)


def _warning(draft: Draft) -> str:
    """In the words of the status, so that another operator would say the same."""
    verb = "suspended" if draft.snapshot.spec.idle.action == IdleAction.SUSPEND else "deleted"
    edited = (draft.status.get("edits") or {}).get("files") or ()
    saves = f" (the edited files are saved first: {', '.join(edited[:5])}{', ...' if len(edited) > 5 else ''})" if edited else ""
    return (
        f"no work since {draft.status['lastActivity']['at']}: the session is {verb} at {draft.status['expiresAt']}{saves};"
        f" use it, or set the annotation {requests.REQUESTS['keepAlive']} to a new timestamp"
    )
