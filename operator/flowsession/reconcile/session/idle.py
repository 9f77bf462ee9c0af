"""The idle rule: an unused session ends, in two steps, and only after a fresh answer from its agent.

First the agent is asked to retire if it is still idle; a retired agent refuses new work. Then the session is deleted (or suspended) with
its resourceVersion as precondition, so that work and changes in between take precedence.
"""

from flowsession.api.session import IdleAction, LastActivity, Phase, SuspendedBy
from flowsession.model import times
from flowsession.model.agent_views import (
    AHEAD_SECONDS,
    FRESH_SECONDS,
    LONGEST_WARNING,
    REFUSED_PAUSE,
    UNDONE_SECONDS,
    AgentState,
    AgentView,
    warned_for,
)
from flowsession.model.call_limits import callable_at
from flowsession.model.plan import Delete, KeepAlive, Probe, Reopen, Retire
from flowsession.model.times import moment
from flowsession.model.views import PodView
from flowsession.reconcile import requests
from flowsession.reconcile.session import edits, gitops, restart, restoring, suspend
from flowsession.reconcile.session.draft import Draft
from flowsession.reconcile.session.on_instance import retire_for_instance


def warn(draft: Draft, agent: AgentView | None, deadline: float) -> None:
    """Warn of the idle end once a probe confirms that the session is idle, and explain how to postpone it."""
    warn_at = deadline - warned_for(draft.snapshot.spec.idle.timeout_seconds)
    draft.look_again(deadline)
    # The deadline in the status is rounded up to whole seconds.
    if draft.now < warn_at - (1.0 if was_warned(draft) else 0.0):
        draft.look_again(warn_at)
    elif draft.reason_before("Active") == "IdleSoon":
        draft.set_condition("Active", False, "IdleSoon", _warning(draft))
    elif agent is None or agent.failures or agent.asked_at < warn_at:
        draft.ask(agent, Probe())
    elif agent.state is not None and not agent.state.busy:
        draft.event(warning=True, reason="IdleSoon", message=_warning(draft))
        draft.set_condition("Active", False, "IdleSoon", _warning(draft))


def was_warned(draft: Draft) -> bool:
    """Return whether the status still warns that the session ends soon."""
    return draft.reason_before("Active") in ("IdleSoon", edits.NOT_SAVED)


def deadline_after(draft: Draft, last: float) -> float:
    """Return when idleness ends the session, in seconds since 1970: one timeout after the last work, or later if the warning was late."""
    deadline = last + draft.snapshot.spec.idle.timeout_seconds
    promised = times.parse(draft.snapshot.status.get("expiresAt"))
    same_spec = draft.snapshot.status.get("observedGeneration") == draft.snapshot.generation
    late = promised is not None and deadline + 1.0 < promised <= draft.now + LONGEST_WARNING + 1.0
    return promised if promised is not None and late and same_spec and was_warned(draft) else deadline


def warn_late(draft: Draft, agent: AgentView | None) -> None:
    """Warn of a deadline that passed while the operator or the agent was unavailable: the session ends one warning period from now."""
    if agent is None or agent.state is None or agent.failures or draft.now - agent.state_at > FRESH_SECONDS:
        draft.ask(agent, Probe())
        return
    promised = draft.now + warned_for(draft.snapshot.spec.idle.timeout_seconds)
    draft.put("expiresAt", times.deadline_stamp(promised))
    draft.event(warning=True, reason="IdleSoon", message=_warning(draft))
    draft.set_condition("Active", False, "IdleSoon", _warning(draft))
    draft.look_again(promised)


def _warning(draft: Draft) -> str:
    """Return the warning. It depends on the session object alone, so that another operator writes the same one."""
    verb = "suspended" if draft.snapshot.spec.idle.action == IdleAction.SUSPEND else "deleted"
    edited = (draft.status.get("edits") or {}).get("files") or ()
    saves = f" (the edited files are saved first: {', '.join(edited[:5])}{', ...' if len(edited) > 5 else ''})" if edited else ""
    again = f", and {advice}" if (advice := gitops.advice_on(draft)) else ""
    return (
        f"no work since {draft.status['lastActivity']['at']}: the session is {verb} at {draft.status['expiresAt']}{saves}{again};"
        f" use it, or set the annotation {requests.REQUESTS['keepAlive']} to a new timestamp"
    )


PROBE_FAILED_AFTER = 3
"""Number of unanswered calls in a row after which Active is Unknown."""

PROBE_FAILED = "ProbeFailed"
UNREACHABLE_CALLS = 20
"""Minimum number of failed calls in a row before a session ends as unreachable."""

SERVER_PAUSE = 10.0
"""Seconds until an end is decided again while the API server does not answer."""

UNREACHABLE_TIMEOUTS = 3
"""Number of idle timeouts after which an unreachable session ends, as ProbeFailed instead of Idle."""

SILENCE_STEP = 60.0
"""Seconds by which the end of an unreachable session must move before it is written again."""

STEADY_SECONDS = 60.0
"""Minimum seconds for which Active=True holds: with a short timeout, a session may be found idle every half minute."""

KEPT = "keep-alive"
"""The agent's name for work that is a keep-alive."""

INSTALLED = "install"
"""The agent's name for work that is an install."""


def decide_idle(draft: Draft) -> bool:
    """Write when idleness will end the session, warn of that, and end the session at that time if the agent agrees."""
    pod, idle = draft.pod, draft.snapshot.spec.idle
    if pod is None or not pod.running:
        return False
    agent = draft.fresh_agent_of(pod)
    last = _last_activity(draft, agent)
    if last is None:
        return False
    _show(draft, agent, last)
    edits.show(draft, agent)
    restoring.report(draft, agent)
    if requests.pending(draft, "keepAlive"):
        _keep_alive(draft, agent)
    elif idle.action == IdleAction.NONE:
        _keep_for_good(draft, agent)
    else:
        deadline = deadline_after(draft, last)
        _show_end(draft, agent, deadline)
        if draft.now >= deadline and not was_warned(draft):
            warn_late(draft, agent)
        elif draft.now >= deadline:
            _end(draft, agent, deadline=deadline)
        else:
            if not retire_for_instance(draft, agent):
                _reopen(draft, agent)
            warn(draft, agent, deadline)
    if agent and _is_unreachable(agent):
        _say_unreachable(draft, pod, agent)
    return True


def _show_end(draft: Draft, agent: AgentView | None, deadline: float) -> None:
    """Write when the session ends, because it is idle or unreachable."""
    shown, unreachable = times.parse(draft.status.get("expiresAt")), _is_unreachable(agent)
    if draft.was_unreachable and not unreachable and (agent is None or agent.state is None or agent.failures):
        return  # the written time stands until an agent answers
    at = agent.failing_since + _longest_silence(draft) if agent and unreachable else deadline
    # lastActivity has whole seconds, so after a restart of the operator the same deadline may be up to a second earlier.
    if shown is None or abs(shown - at) > (SILENCE_STEP if unreachable else 1.0):
        draft.put("expiresAt", times.deadline_stamp(at))


def _is_unreachable(agent: AgentView | None) -> bool:
    return agent is not None and agent.failures >= PROBE_FAILED_AFTER


def _longest_silence(draft: Draft) -> float:
    """Return the seconds for which a session may be unreachable before it ends."""
    snapshot = draft.snapshot
    return max(UNREACHABLE_TIMEOUTS * snapshot.spec.idle.timeout_seconds, snapshot.settings.session.unreachable_seconds)


def _say_unreachable(draft: Draft, pod: PodView, agent: AgentView) -> None:
    """Write that a session that was ready can no longer be asked, and what happens next."""
    if draft.reason("Ready") != "Running" and not draft.was_unreachable:
        return
    action, at = draft.snapshot.spec.idle.action, draft.status.get("expiresAt")
    ends = {IdleAction.NONE: "gets a new pod", IdleAction.SUSPEND: "is suspended", IdleAction.DELETE: "is deleted"}[action]
    when = f"at {at}" if at else f"after {_longest_silence(draft):.0f} s"
    draft.unreachable(
        "AgentUnreachable",
        f"the agent in pod {pod.name} does not answer ({agent.error}), so it is unknown whether the session is in use; it {ends}"
        f" {when} unless it answers; see kubectl logs {pod.name}, whether node {pod.node} is Ready, and whether a NetworkPolicy keeps"
        " the operator out",
    )


def _keep_for_good(draft: Draft, agent: AgentView | None) -> None:
    """Keep a session that never ends, and probe it once per timeout to find out whether it is still reachable."""
    draft.put("expiresAt", None)
    if not retire_for_instance(draft, agent):
        _reopen(draft, agent)
    asked_at = agent.asked_at if agent else moment(draft.status.get("readyAt"), draft.now)
    failing = agent is not None and agent.failures
    draft.ask(agent, Probe(), not_before=0.0 if failing else asked_at + draft.snapshot.spec.idle.timeout_seconds)


def _keep_alive(draft: Draft, agent: AgentView | None) -> None:
    """Deliver a user's keep-alive request. It counts as work: the session accepts work again, and the timeout restarts."""
    value = requests.pending(draft, "keepAlive")
    if agent and agent.state and agent.kept_alive == value and not agent.state.retired:
        requests.done(draft, "keepAlive")
        timeout = draft.snapshot.spec.idle.timeout_seconds
        ends = draft.snapshot.spec.idle.action != IdleAction.NONE
        draft.put("expiresAt", times.deadline_stamp(agent.state_at + timeout) if ends else None)
        draft.look_again(agent.state_at + timeout)
        return
    if agent and agent.state and agent.state.retired:
        _reopen(draft, agent)
    else:
        draft.ask(agent, KeepAlive(value), interrupts=True)


def end_unreachable(draft: Draft, agent: AgentView | None) -> bool:
    """End a session that has been unreachable for too long, and return whether it goes on.

    With `idle.action: None`, it gets a new pod instead.
    """
    idle, limit = draft.snapshot.spec.idle, _longest_silence(draft)
    if agent is None or agent.failures < UNREACHABLE_CALLS or agent.silence < limit:
        return True
    message = f"its agent has not answered for {limit:.0f} s ({agent.error})" + (f"; {loss}" if (loss := edits.lost(draft)) else "")
    if idle.action == IdleAction.NONE:
        restart.start_again(draft, PROBE_FAILED, message)
    else:
        _finish(draft, PROBE_FAILED, message, alarming=True)
    return False


def _last_activity(draft: Draft, agent: AgentView | None) -> float | None:
    """Return when work was last seen, in seconds since 1970, and write it. A start counts as work."""
    known = draft.snapshot.status.get("lastActivity") or {}
    written = times.parse(known.get("at"))
    last, what = written, known.get("what") or "start"
    ready_at = times.parse(draft.status.get("readyAt"))
    if ready_at is not None and (last is None or ready_at > last):
        last, what = ready_at, "start"
    if last is None and draft.status.get("phase") == Phase.FAILED.value:
        pod = draft.pod
        last = pod.container.running_since if pod and pod.container else None  # a session that can't be used ends too
    ahead = last is not None and last > draft.now + AHEAD_SECONDS
    if agent and agent.state and ((seen := agent.state_at - agent.state.idle_seconds) > (last or 0.0) or ahead):
        last, what = seen, agent.state.what or what
    elif ahead:  # some clock was wrong; only the agent knows when work was last seen
        last = draft.now
        draft.ask(agent, Probe())
    if last is not None and (written is None or last - written >= 1.0 or written > draft.now + AHEAD_SECONDS):
        draft.put("lastActivity", LastActivity(at=times.stamp(last), what=what).to_wire())
    return last


def _show(draft: Draft, agent: AgentView | None, last: float) -> None:
    if agent is None:
        return
    if _is_unreachable(agent):
        draft.set_condition(
            "Active", None, PROBE_FAILED, f"the agent does not answer ({agent.error}); what can't be asked is not ended as idle"
        )
    elif agent.state is None:
        return
    elif agent.state.busy:
        draft.set_condition("Active", True, "InUse", f"in use: {agent.state.what}")
    elif agent.kept_alive and agent.state.what == KEPT:
        draft.set_condition("Active", True, "KeptAlive", f"kept alive on request ({agent.kept_alive})")
    elif (steady_until := _in_use_until(draft, agent, agent.state, last)) > draft.now:
        draft.look_again(steady_until)
    else:
        what = (draft.status.get("lastActivity") or {}).get("what", "start")
        draft.set_condition("Active", False, "Idle", f"no work since {times.stamp(last)} ({what})")


def _in_use_until(draft: Draft, agent: AgentView, state: AgentState, last: float) -> float:
    """Return the time until which Active=True is held: 60 s after the last transition and after the last work. 0 if not held.

    It is not held after an install or a start, which end all work, nor if the agent first reports idleness more than 60 s after the
    transition. With a short timeout the agent is asked again before the time is over, so this saves a write.
    """
    before = draft.was("Active")
    since = times.parse(before.last_transition_time) if before is not None and before.status == "True" else None
    if since is None or since > draft.now + AHEAD_SECONDS or since < moment(draft.status.get("readyAt"), since) or state.what == INSTALLED:
        return 0.0
    return max(since, last) + STEADY_SECONDS if agent.state_at < since + STEADY_SECONDS else 0.0


def _end(draft: Draft, agent: AgentView | None, *, deadline: float) -> None:
    timeout, warned = draft.snapshot.spec.idle.timeout_seconds, draft.was("Active")
    unreachable = _is_unreachable(agent)
    if warned is not None and (edits.held(draft) or (warned.reason == "IdleSoon" and not unreachable)):
        draft.set_condition("Active", False, warned.reason, warned.message)
    if agent and agent.calling and not agent.following:
        return
    if draft.snapshot.server_silent:
        if agent and agent.state and agent.state.retired:
            draft.call = Reopen()
        draft.look_again(draft.now + SERVER_PAUSE)
        return
    if agent and agent.state and agent.state.retired and agent.state_at >= max(deadline, draft.now - FRESH_SECONDS):
        state: AgentState = agent.state
        if edits.saved(draft, agent):
            message = f"no work for {state.idle_seconds:.0f} s (limit {timeout} s), the last was: {state.what}"
            _finish(draft, "Idle", message, alarming=False, valid_until=agent.state_at + FRESH_SECONDS)
        return
    due = callable_at(agent)
    if agent and not agent.failures and agent.state and not agent.state.retired and agent.state_at >= deadline:
        due = agent.state_at + (edits.HELD_SECONDS if edits.held(draft) else REFUSED_PAUSE)
    if draft.now < due:
        draft.look_again(due)
        return
    draft.call = Retire(idle_at_least=float(timeout))


def _finish(draft: Draft, reason: str, message: str, *, alarming: bool, valid_until: float | None = None) -> None:
    """End the session by `idle.action`. `valid_until` is when the agent's answer expires, in seconds since 1970."""
    snapshot = draft.snapshot
    suspends = snapshot.spec.idle.action == IdleAction.SUSPEND
    draft.look_again(draft.now + UNDONE_SECONDS)
    draft.event(warning=alarming, reason=reason, message=f"the session is being {'suspended' if suspends else 'deleted'}: {message}")
    if suspends:
        suspend.release(draft, SuspendedBy.IDLE)
        draft.valid_until = valid_until
    else:
        kind, version = "ComputeSession", snapshot.resource_version
        why = (reason, message)
        draft.delete(Delete(kind, snapshot.namespace, snapshot.name, snapshot.uid, version, valid_until=valid_until, why=why))


def _reopen(draft: Draft, agent: AgentView | None) -> None:
    """Let a retired agent accept work again: a longer timeout, another action or new work has postponed the end."""
    if agent and agent.state and agent.state.retired and draft.ask(agent, Reopen()) and not agent.failures:
        draft.event(warning=False, reason="EndCalledOff", message="the session stays: it was changed or used right before its idle end")
