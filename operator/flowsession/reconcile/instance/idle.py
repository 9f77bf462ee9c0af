"""The idle rule of instances: an unused instance stops, but only once the agents of all its sessions have retired.

It has three steps, so that no agent retires in vain. After the idle timeout without known work, each session on the instance probes its
agent. Once all agents are idle, each session retires its agent. Once all have retired, the instance stops.
"""

from flowsession.api.instance import Stopped, StoppedBy
from flowsession.model import times
from flowsession.model.agent_views import AGAIN_SECONDS, FRESH_SECONDS, UNDONE_SECONDS, warned_for
from flowsession.reconcile.instance.draft import Draft
from flowsession.reconcile.instance.snapshot import idle_at


def decide_idle(draft: Draft) -> None:
    """Warn before the idle stop, and stop the instance once all its sessions have retired. Work in any session postpones both."""
    snapshot = draft.snapshot
    due, timeout = idle_at(snapshot.spec, draft.status, snapshot.hosted, draft.now), snapshot.spec.idle.timeout_seconds
    if due is None:
        draft.set_condition("Active", True, "InUse", "it is not stopped for idleness (idle.action: None)")
        return
    warn_at = due - warned_for(timeout)
    if draft.now < warn_at:
        draft.set_condition("Active", True, "InUse", f"used within the last {timeout} s")
        draft.look_again(warn_at)
        return
    message = (
        f"no work on it since {times.stamp(due - timeout)}: the instance stops at {times.deadline_stamp(due)};"
        " use one of its sessions or start one, or set idle.timeoutSeconds higher"
    )
    if draft.reason("Active") != "IdleSoon":
        draft.event(warning=True, reason="IdleSoon", message=message)
    draft.set_condition("Active", False, "IdleSoon", message)
    if draft.now < due:
        draft.look_again(due)
        return
    if not all(session.is_retired(draft.now) for session in snapshot.hosted):
        draft.look_again(draft.now + AGAIN_SECONDS)  # the agents' answers cause earlier decisions
        return
    words = [session.agent.state_at for session in snapshot.hosted if session.pod and session.pod.running and session.agent]
    draft.look_again(draft.now + UNDONE_SECONDS)
    draft.valid_until = min(words) + FRESH_SECONDS if words else None
    draft.put("stopped", Stopped(by=StoppedBy.IDLE, at=times.stamp(draft.now)).to_wire())
    draft.set_condition("Active", False, "Idle", "stopped")
    draft.event(warning=False, reason="Stopped", message=f"nobody has used it for {timeout} s; its sessions stay, and wait")
