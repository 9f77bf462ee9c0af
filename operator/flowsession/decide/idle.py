"""The idle rule: a session that nobody uses ends, but only on the word that its agent gives right then, and in two steps.

First the agent is asked to retire if it is still idle: it then refuses new work. Then the session is deleted, with its uid and
resourceVersion as preconditions, so that work and changes that arrive in between win.
"""

from flowsession.api.session import IdleAction, LastActivity
from flowsession.decide import times
from flowsession.decide.draft import Draft
from flowsession.decide.install import agent_of
from flowsession.decide.plan import Delete, Reopen, Retire
from flowsession.decide.start import current_pod
from flowsession.decide.views import AgentView

FRESH_SECONDS = 5.0
"""How old a retirement may be when it is acted on; an older one is asked for again."""

LONGEST_PAUSE = 60.0
"""Seconds between probes of an agent that does not answer, at most."""

PROBE_FAILED_AFTER = 3
"""Unanswered calls in a row after which the Active condition says so."""


def decide_idle(draft: Draft) -> bool:
    """Shows when idleness would end the session, and ends it when that time has come and the agent agrees."""
    pod, idle = current_pod(draft), draft.snapshot.spec.idle
    if pod is None or not pod.running:
        return False
    agent = agent_of(draft, pod)
    last = _last_activity(draft, agent)
    if last is None:
        return False
    _show(draft, agent, last)
    if idle.action == IdleAction.NONE:
        draft.put("expiresAt", None)
        _reopen(draft, agent)
        return True
    deadline = last + idle.timeout_seconds
    shown = times.parse(draft.status.get("expiresAt"))
    # lastActivity keeps whole seconds: after a restart of the operator the same deadline may come out up to a second earlier.
    if shown is None or abs(shown - deadline) > 1.0:
        draft.put("expiresAt", times.deadline_stamp(deadline))
    if draft.now < deadline:
        _reopen(draft, agent)
        draft.look_again(deadline)
        return True
    _end(draft, agent, deadline=deadline)
    return True


def _last_activity(draft: Draft, agent: AgentView | None) -> float | None:
    """When work was last seen, in seconds since 1970, and writes it down. A fresh start counts as work."""
    known = draft.snapshot.status.get("lastActivity") or {}
    written = times.parse(known.get("at"))
    last, what = written, known.get("what") or "start"
    ready_at = times.parse(draft.status.get("readyAt"))
    if ready_at is not None and (last is None or ready_at > last):
        last, what = ready_at, "start"
    if agent and agent.state and (seen := agent.state_at - agent.state.idle_seconds) > (last or 0.0):
        last, what = seen, agent.state.what or what
    if last is not None and (written is None or last - written >= 1.0):
        draft.put("lastActivity", LastActivity(at=times.stamp(last), what=what).to_wire())
    return last


def _show(draft: Draft, agent: AgentView | None, last: float) -> None:
    if agent is None or agent.state is None:
        return
    if agent.failures >= PROBE_FAILED_AFTER:
        draft.judge("Active", None, "ProbeFailed", f"the agent does not answer ({agent.error}); what can't be asked is not ended as idle")
    elif agent.state.busy:
        draft.judge("Active", True, "InUse", f"in use: {agent.state.what}")
    else:
        what = (draft.status.get("lastActivity") or {}).get("what", "start")
        draft.judge("Active", False, "Idle", f"no work since {times.stamp(last)} ({what})")


def _end(draft: Draft, agent: AgentView | None, *, deadline: float) -> None:
    snapshot, timeout = draft.snapshot, draft.snapshot.spec.idle.timeout_seconds
    if agent and agent.calling:
        return
    if agent and agent.state and agent.state.retired and agent.state_at >= max(deadline, draft.now - FRESH_SECONDS):
        draft.tell(
            warning=False,
            reason="Idle",
            message=f"deleted: no work for {agent.state.idle_seconds:.0f} s (limit {timeout} s), the last was: {agent.state.what}",
        )
        draft.delete(Delete("ComputeSession", snapshot.namespace, snapshot.name, snapshot.uid, snapshot.resource_version))
        return
    if agent and agent.failures:
        due = agent.asked_at + min(LONGEST_PAUSE, 2.0 ** min(agent.failures - 1, 10))
        if draft.now < due:
            draft.look_again(due)
            return
    draft.call = Retire(idle_at_least=float(timeout))


def _reopen(draft: Draft, agent: AgentView | None) -> None:
    """The end was called off: by a longer timeout, by another action, or by work that was seen."""
    if agent and agent.state and agent.state.retired and not agent.calling and draft.call is None:
        draft.call = Reopen()
