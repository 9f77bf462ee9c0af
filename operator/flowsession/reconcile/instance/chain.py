"""ComputeInstance: keeps a node of its size reserved while it should run, and releases the node once the instance is idle."""

from flowsession.api.instance import InstancePhase, Stopped, StoppedBy
from flowsession.manifests import anchor_pod
from flowsession.model import times
from flowsession.model.plan import ENDING_SECONDS, Delete, Plan
from flowsession.model.sizes import Offer
from flowsession.model.times import moment
from flowsession.model.views import PULL_REASONS, PodView
from flowsession.reconcile import cost, requests, restarts, scheduling
from flowsession.reconcile import identity as accounts
from flowsession.reconcile.instance import idle
from flowsession.reconcile.instance.draft import Draft
from flowsession.reconcile.instance.snapshot import InstanceSnapshot, last_activity
from flowsession.reconcile.restarts import BROKEN_REASONS, ENDED, cause_of_absence, cause_of_container_end, cause_of_end, remove
from flowsession.reconcile.size import choice

COUNT_SECONDS = 10.0
"""Minimum seconds between two status writes if only the count of sessions or their last activity has changed."""

_OF_THE_POD = ("podName", "nodeName", "readyAt", "identity")


def decide(snapshot: InstanceSnapshot, now: float) -> Plan:
    """Return the instance's plan. It depends only on snapshot and time; once carried out, it leaves nothing to do."""
    if snapshot.deleting:
        return Plan()
    if snapshot.namespace_ending:
        return Plan(look_again_at=now + ENDING_SECONDS)
    draft = Draft(snapshot, now)
    requests.refuse_invalid(draft, {"resume": requests.REQUESTS["resume"]})
    draft.put("sessions", len(snapshot.hosted))
    if (seen := last_activity(snapshot.status, snapshot.hosted, now)) is not None:
        draft.put("lastActivityAt", times.stamp(seen))
    by = _stopped_by(draft)
    if by is None:
        _run(draft)
    else:
        _stop(draft, by)
    draft.may_wait("sessions", "lastActivityAt", until=snapshot.written_at + COUNT_SECONDS)
    pod = draft.pod if draft.status.get("podName") else None
    rate = cost.price_of(snapshot.offers, pod.vm_size, share=False) if pod and pod.node else cost.NOTHING
    draft.put("cost", cost.kept(snapshot.status.get("cost"), rate, now, began=pod.scheduled_at if pod else None))
    return draft.plan()


def _stopped_by(draft: Draft) -> StoppedBy | None:
    """Return who stopped the instance or stops it now, or None if it should run."""
    snapshot = draft.snapshot
    if not snapshot.spec.running:
        return StoppedBy.USER
    stopped = snapshot.status.get("stopped")
    if not stopped or stopped.get("by") == StoppedBy.USER:
        return None
    changed = snapshot.status.get("observedGeneration") != snapshot.generation
    return None if requests.pending(draft, "resume") or changed else StoppedBy(stopped["by"])


def _stop(draft: Draft, by: StoppedBy) -> None:
    """Stop the instance. The anchor stays until the sessions' pods, which use the reserved resources, are gone."""
    snapshot = draft.snapshot
    stopped = draft.status.get("stopped") or {}
    if stopped.get("by") != by:
        draft.put("stopped", Stopped(by=by, at=stopped.get("at") or times.stamp(draft.now)).to_wire())
        if not stopped:
            draft.event(warning=False, reason="Stopped", message=_why(draft, by))
    draft.set_condition("Active", False, "Idle", "stopped")
    if not snapshot.spec.running and requests.pending(draft, "resume"):
        why = f"the instance is stopped by spec.running, so {requests.REQUESTS['resume']} has no effect; set spec.running to true"
        requests.refuse(draft, "resume", why)
    if snapshot.session_pods:
        waiting = f"{snapshot.session_pods} of its sessions save what was edited and end their pods"
        draft.not_ready(InstancePhase.STOPPING, "Stopped", f"{_why(draft, by)}; {waiting}")
        return
    if draft.status.get("podName") or draft.pod:
        _leave(draft)
    for pod in snapshot.pods:
        remove(draft, pod)
    phase = InstancePhase.STOPPING if snapshot.pods else InstancePhase.STOPPED
    draft.not_ready(phase, "Stopped", _why(draft, by))


def _why(draft: Draft, by: StoppedBy) -> str:
    if by == StoppedBy.USER:
        return "stopped by spec.running; set it to true to start again"
    return (
        f"stopped after {draft.snapshot.spec.idle.timeout_seconds} s without work on it;"
        f" set the annotation {requests.REQUESTS['resume']} to a new timestamp, or change the spec, to start again"
    )


def _run(draft: Draft) -> None:
    requests.done(draft, "resume")
    if draft.status.get("stopped"):
        draft.put("stopped", None)
        draft.put("startedAt", times.stamp(draft.now))
        draft.put("restartsInARow", None)
        draft.event(warning=False, reason="Resumed", message="it is being started again; the sessions that wait for it start with it")
    pod = draft.pod
    for stray in draft.snapshot.pods:
        if stray is not pod:
            remove(draft, stray)
    if pod is not None and pod.phase in ENDED:
        _start_again(draft, *cause_of_end(pod))
    elif pod is not None and _outdated(draft, pod):
        _leave(draft)
        draft.delete(Delete("Pod", pod.namespace, pod.name, pod.uid))
        draft.not_ready(InstancePhase.STARTING, "Starting", f"size {pod.vm_size} has changed before a node took {pod.name}")
    elif pod is not None:
        _follow(draft, pod)
    elif name := draft.status.get("podName"):
        _start_again(draft, *cause_of_absence(str(name), draft.snapshot.pods))
    elif not draft.snapshot.pods:
        _reserve(draft)


def _outdated(draft: Draft, pod: PodView) -> bool:
    """Return whether the anchor is unschedulable and a new one would differ."""
    offers = draft.snapshot.offers
    offer = next((offer for offer in offers if offer.name == choice.canonical(pod.vm_size)), None)
    return bool(offer and not pod.node and pod.unscheduled_message and anchor_pod.terms(offer) != pod.size_terms)


def _leave(draft: Draft) -> None:
    draft.put("incarnation", draft.incarnation + 1)
    for gone in _OF_THE_POD:
        draft.put(gone, None)


def _start_again(draft: Draft, reason: str, message: str) -> None:
    restarts.delete_all(draft, draft.snapshot.pods)
    restarts.start_again(draft, lambda: _leave(draft))
    draft.not_ready(InstancePhase.STARTING, reason, f"{message}; reserving a node again")


def _reserve(draft: Draft) -> None:
    snapshot = draft.snapshot
    due = moment(draft.status.get("startedAt"), 0.0) if draft.incarnation > 1 else 0.0
    if draft.now < due:
        draft.look_again(due)
        return
    found = _size(snapshot, draft.now)
    if isinstance(found, choice.NoSize):
        draft.not_ready(InstancePhase.PENDING, found.reason, found.message)
        if found.look_again_at is not None:
            draft.look_again(found.look_again_at)
        return
    identity = accounts.found(draft, snapshot.spec.identity, snapshot.spec.user, snapshot.namespace, snapshot.accounts)
    if isinstance(identity, accounts.IdentityUnavailable):
        draft.not_ready(InstancePhase.PENDING, identity.reason, identity.message)
    elif identity is not None:
        wanted = anchor_of(snapshot, found, draft.incarnation)
        draft.create(accounts.with_identity(anchor_pod.manifest(wanted), identity))


def anchor_of(snapshot: InstanceSnapshot, offer: Offer, incarnation: int) -> anchor_pod.AnchorPod:
    """Return the description from which the instance's anchor is built."""
    return anchor_pod.AnchorPod(
        namespace=snapshot.namespace,
        instance=snapshot.name,
        uid=snapshot.uid,
        incarnation=incarnation,
        user=snapshot.spec.user,
        offer=offer,
        settings=snapshot.settings,
    )


def _size(snapshot: InstanceSnapshot, now: float) -> Offer | choice.NoSize:
    named = choice.named(snapshot.spec.vm_size, snapshot.offers)
    if isinstance(named, choice.NoSize):
        return named
    end, cost_of = "end what uses it", anchor_pod.cost_of
    return choice.within_quota(named, snapshot.quotas, snapshot.refusal, now, namespace=snapshot.namespace, cost=cost_of, end=end)


def _follow(draft: Draft, pod: PodView) -> None:
    draft.put("podName", pod.name)
    draft.put("incarnation", draft.incarnation)
    draft.put("nodeName", pod.node or None)
    draft.put("identity", pod.identity.in_use())
    if not draft.status.get("startedAt"):
        draft.put("startedAt", times.stamp(pod.created_at))
    if pod.running:
        if not draft.status.get("readyAt"):
            draft.put("readyAt", times.stamp(draft.now))
            seconds = max(0.0, draft.now - max(pod.created_at, moment(draft.status.get("startedAt"), 0.0)))
            draft.event(warning=False, reason="Running", message=f"node {pod.node} is reserved, {seconds:.0f} s after it was asked for")
        draft.status["phase"] = InstancePhase.RUNNING.value
        draft.set_condition("Ready", True, "Running", f"node {pod.node} is reserved for the sessions of {draft.snapshot.spec.user}")
        idle.decide_idle(draft)
    elif pod.unscheduled_message:
        draft.not_ready(InstancePhase.PENDING, *scheduling.unschedulable(draft, pod, draft.snapshot.scaling, "instance"))
    elif (container := pod.container) is not None and container.waiting_reason in PULL_REASONS:
        cause = container.waiting_message.strip() or "the node gave no reason"
        message = f"image {draft.snapshot.settings.runtime_image} can't be pulled on {pod.node}: {cause}"
        draft.not_ready(InstancePhase.STARTING, "ImagePullFailed", message)
    elif container is not None and (container.waiting_reason in BROKEN_REASONS or container.ended_reason):
        draft.not_ready(InstancePhase.FAILED, *cause_of_container_end(pod))
    else:
        where = f"on node {pod.node}" if pod.node else "waiting for the scheduler"
        draft.not_ready(InstancePhase.STARTING, "Starting", f"pod {pod.name}: {where}, its container is being created")
