"""Suspends sessions (by user, idleness or lifetime), resumes them (by request or a change of the spec) and resets them."""

from flowsession.api.session import Phase, Suspended, SuspendedBy
from flowsession.manifests import pod_metadata
from flowsession.model import times
from flowsession.model.times import moment
from flowsession.reconcile import requests
from flowsession.reconcile.restarts import remove
from flowsession.reconcile.session import edits
from flowsession.reconcile.session.draft import Draft, Live
from flowsession.reconcile.session.restart import leave_the_pod


def stay_suspended(draft: Draft) -> bool:
    """Release the compute of a suspended session, or resume the session."""
    by = _suspended_by(draft)
    if by is None:
        if draft.status.get("suspended"):
            _resume(draft)
        return True
    if draft.status.get("suspended") or edits.may_leave(draft):
        release(draft, by)
    return False


def end_of_lifetime(draft: Draft) -> bool:
    """Suspend a session `maxLifetimeSeconds` after its start, even if it is in use."""
    limit = draft.snapshot.spec.max_lifetime_seconds
    began = times.parse(draft.status.get("activatedAt"))
    if not limit or began is None:
        return True
    if draft.now < began + limit:
        draft.look_again(began + limit)
        return True
    if edits.may_leave(draft):
        release(draft, SuspendedBy.LIFETIME)
    return False


def reset(draft: Draft) -> bool:
    """Replace the pod on request, with the environment's present image and packages."""
    if not requests.pending(draft, "reset"):
        return True
    if not draft.status.get("podName") and not draft.snapshot.pods:
        requests.done(draft, "reset")
        draft.put("startedAt", None)
        return True  # it is about to start anyway, now without back-off
    if refused := pod_metadata.refusal(draft.snapshot.spec, draft.snapshot.settings.session.pod_metadata):
        requests.refuse(draft, "reset", f"a new pod could not start: {refused}")
        return True
    if not edits.may_leave(draft):
        return False
    requests.done(draft, "reset")
    leave_the_pod(draft)
    draft.put("activatedAt", times.stamp(draft.now))
    draft.not_ready(Phase.STARTING, "Starting", "reset: the former pod is being replaced")
    draft.set_condition("PackagesInstalled", None, "Waiting", "a new pod is being started")
    draft.event(warning=False, reason="Reset", message="reset on request: a new pod with the environment's present image and packages")
    return False


def release(draft: Draft, by: SuspendedBy) -> None:
    """End the pod; the object and its settings stay."""
    if not draft.status.get("suspended"):
        draft.put("suspended", Suspended(by=by, at=times.stamp(draft.now)).to_wire())
        draft.event(warning=False, reason="Suspended", message=_why(draft, by))
        leave_the_pod(draft)
        draft.put("activatedAt", None)
    else:
        for pod in draft.snapshot.pods:
            remove(draft, pod)
    _answer_requests(draft)
    draft.set_condition("ComputeAllocated", None, "Released", "suspended: the session has no compute")
    draft.set_condition("Active", False, "Idle", "suspended")
    draft.set_condition("PackagesInstalled", None, "Waiting", "suspended: the next start installs")
    if draft.snapshot.pods:
        draft.not_ready(Phase.SUSPENDING, "Suspended", "its pod is ending")
    else:
        draft.not_ready(Phase.SUSPENDED, "Suspended", _why(draft, by))


def _suspended_by(draft: Draft) -> SuspendedBy | None:
    if draft.snapshot.spec.suspend:
        return SuspendedBy.USER
    suspended = draft.status.get("suspended")
    if not suspended or suspended.get("by") == SuspendedBy.USER:
        return None
    asked = requests.pending(draft, "resume") or requests.pending(draft, "reset")
    changed = draft.snapshot.status.get("observedGeneration") != draft.snapshot.generation
    return None if asked or changed else SuspendedBy(suspended["by"])


def _resume(draft: Draft) -> None:
    requests.done(draft, "resume")
    requests.done(draft, "reset")
    draft.put("suspended", None)
    draft.put("activatedAt", times.stamp(draft.now))
    draft.not_ready(Phase.STARTING, "Starting", "resumed: its compute is being started again")
    draft.event(warning=False, reason="Resumed", message="its compute is being started again, with the settings that it had")


def _answer_requests(draft: Draft) -> None:
    way = (
        "set spec.suspend to false"
        if draft.snapshot.spec.suspend
        else f"set the annotation {requests.REQUESTS['resume']} to a new timestamp"
    )
    for what in ("install", "keepAlive", "resume", "reset"):
        if requests.pending(draft, what):
            requests.refuse(draft, what, f"the session is suspended, so {requests.REQUESTS[what]} has no effect; first {way}")


def _why(draft: Draft, by: SuspendedBy) -> str:
    spec = draft.snapshot.spec
    if by == SuspendedBy.USER:
        return "suspended by spec.suspend; set it to false to start again"
    way = f"set the annotation {requests.REQUESTS['resume']} to a new timestamp, or change the spec, to start again"
    if by == SuspendedBy.IDLE:
        return f"suspended after {spec.idle.timeout_seconds} s without work; {way}"
    return f"suspended {spec.max_lifetime_seconds} s after its start (maxLifetimeSeconds); {way}"


def activate(draft: Draft, _: Live) -> bool:
    """Write when the lifetime began, and mark a request to resume as handled: the session is not suspended."""
    if not draft.status.get("activatedAt"):
        draft.put("activatedAt", times.stamp(moment(draft.status.get("startedAt"), draft.now)))
    requests.done(draft, "resume")
    return True
