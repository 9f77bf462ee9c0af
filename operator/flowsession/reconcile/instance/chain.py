"""ComputeInstance: keeps a node of its size reserved while it shall run, and lets go of it when nobody uses it."""

from flowsession.api.instance import InstancePhase, Stopped, StoppedBy
from flowsession.manifests import anchor_pod
from flowsession.model import times
from flowsession.model.draft import Notes
from flowsession.model.plan import ENDING_SECONDS, Create, Delete, PatchStatus, Plan
from flowsession.model.sizes import Offer
from flowsession.model.times import moment
from flowsession.model.views import PULL_REASONS, PodView
from flowsession.reconcile import cost, requests, restarts, scheduling
from flowsession.reconcile import identity as accounts
from flowsession.reconcile.instance import idle
from flowsession.reconcile.instance.snapshot import InstanceSnapshot, last_activity
from flowsession.reconcile.restarts import BROKEN_REASONS, ENDED, cause_of_absence, cause_of_end, died, remove
from flowsession.reconcile.size import choice

COUNT_SECONDS = 10.0
"""The number of sessions and their last activity alone are written at most this often."""

NO_PROBLEM = frozenset({"Starting", "Stopped", "ScalingUp", accounts.PENDING})
"""Reasons of Ready=False that are no problem of anybody's."""

_OF_THE_POD = ("podName", "nodeName", "readyAt", "identity")


class InstanceNotes(Notes):
    """Notes about an instance."""

    def __init__(self, snapshot: InstanceSnapshot, now: float) -> None:
        super().__init__(snapshot.status, snapshot.generation, now, {"resume": snapshot.resume, requests.UNKNOWN: snapshot.unknown})
        self.snapshot = snapshot

    def is_not_ready(self, phase: InstancePhase, reason: str, message: str) -> None:
        """It can't be used, for this reason."""
        self.status["phase"] = phase.value
        self.judge("Ready", False, reason, message)

    def create(self, create: Create) -> None:
        """Asks for a pod."""
        self._creates.append(create)

    def plan(self) -> Plan:
        """What follows from all that was found."""
        snapshot, patch = self.snapshot, self._patch()
        if patch and set(patch) <= {"sessions", "lastActivityAt"} and self.now - snapshot.written_at < COUNT_SECONDS:
            self.look_again(snapshot.written_at + COUNT_SECONDS)
            patch = {}
        write = PatchStatus("ComputeInstance", snapshot.namespace, snapshot.name, snapshot.resource_version, patch, self.valid_until)
        return Plan(
            creates=tuple(self._creates),
            deletes=tuple(self._deletes),
            status=write if patch else None,
            events=(*self._problems(("Ready",), NO_PROBLEM), *self._events),
            read_events=self.read_events,
            wants_accounts=self.wants_accounts,
            look_again_at=self._due,
        )


def decide(snapshot: InstanceSnapshot, now: float) -> Plan:
    """The instance's plan. The same snapshot and time give the same plan; a plan carried out leaves nothing to do."""
    if snapshot.deleting:
        return Plan()
    if snapshot.namespace_ending:
        return Plan(look_again_at=now + ENDING_SECONDS)
    notes = InstanceNotes(snapshot, now)
    requests.refuse_junk(notes, (requests.REQUESTS["resume"],))
    notes.put("sessions", len(snapshot.guests))
    if (seen := last_activity(snapshot.status, snapshot.guests, now)) is not None:
        notes.put("lastActivityAt", times.stamp(seen))
    by = _stopped_by(notes)
    if by is None:
        _run(notes)
    else:
        _stop(notes, by)
    pod = _anchor(notes)
    rate = cost.price_of(snapshot.offers, pod.vm_size, share=False) if pod and pod.node else cost.NOTHING
    notes.put("cost", cost.kept(snapshot.status.get("cost"), rate, now, began=pod.scheduled_at if pod else None))
    return notes.plan()


def _stopped_by(notes: InstanceNotes) -> StoppedBy | None:
    """Who stopped it, or stops it now; None: it shall run."""
    snapshot = notes.snapshot
    if not snapshot.spec.running:
        return StoppedBy.USER
    stopped = snapshot.status.get("stopped")
    if not stopped or stopped.get("by") == StoppedBy.USER:
        return None
    changed = snapshot.status.get("observedGeneration") != snapshot.generation
    return None if requests.pending(notes, "resume") or changed else StoppedBy(stopped["by"])


def _stop(notes: InstanceNotes, by: StoppedBy) -> None:
    """The anchor stays until the sessions' pods are gone: nobody else shall have the room that they still use."""
    snapshot = notes.snapshot
    stopped = notes.status.get("stopped") or {}
    if stopped.get("by") != by:
        notes.put("stopped", Stopped(by=by, at=stopped.get("at") or times.stamp(notes.now)).to_wire())
        if not stopped:
            notes.tell(warning=False, reason="Stopped", message=_why(notes, by))
    notes.judge("Active", False, "Idle", "stopped")
    if not snapshot.spec.running and requests.pending(notes, "resume"):
        why = f"the instance is stopped by spec.running, so {requests.REQUESTS['resume']} has no effect; set spec.running to true"
        requests.refuse(notes, "resume", why)
    if snapshot.visitors:
        waiting = f"{snapshot.visitors} of its sessions save what was edited and end their pods"
        notes.is_not_ready(InstancePhase.STOPPING, "Stopped", f"{_why(notes, by)}; {waiting}")
        return
    if notes.status.get("podName") or _anchor(notes):
        _leave(notes)
    for pod in snapshot.pods:
        remove(notes, pod)
    phase = InstancePhase.STOPPING if snapshot.pods else InstancePhase.STOPPED
    notes.is_not_ready(phase, "Stopped", _why(notes, by))


def _why(notes: InstanceNotes, by: StoppedBy) -> str:
    if by == StoppedBy.USER:
        return "stopped by spec.running; set it to true to start again"
    return (
        f"stopped after {notes.snapshot.spec.idle.timeout_seconds} s without work on it;"
        f" set the annotation {requests.REQUESTS['resume']} to a new timestamp, or change the spec, to start again"
    )


def _run(notes: InstanceNotes) -> None:
    requests.done(notes, "resume")
    if notes.status.get("stopped"):
        notes.put("stopped", None)
        notes.put("startedAt", times.stamp(notes.now))
        notes.put("restartsInARow", None)
        notes.tell(warning=False, reason="Resumed", message="it is being started again; the sessions that wait for it start with it")
    pod = _anchor(notes)
    for stray in notes.snapshot.pods:
        if stray is not pod:
            remove(notes, stray)
    if pod is not None and pod.phase in ENDED:
        _start_again(notes, *cause_of_end(pod))
    elif pod is not None and _outdated(notes, pod):
        _leave(notes)
        notes.delete(Delete("Pod", pod.namespace, pod.name, pod.uid))
        notes.is_not_ready(InstancePhase.STARTING, "Starting", f"size {pod.vm_size} has changed before a node took {pod.name}")
    elif pod is not None:
        _follow(notes, pod)
    elif name := notes.status.get("podName"):
        _start_again(notes, *cause_of_absence(str(name), notes.snapshot.pods))
    elif not notes.snapshot.pods:
        _reserve(notes)


def _anchor(notes: InstanceNotes) -> PodView | None:
    """The pod of the present incarnation, if there is one that is not on its way out."""
    name = anchor_pod.name_of(notes.snapshot.name, notes.snapshot.uid, _incarnation(notes))
    return next((pod for pod in notes.snapshot.pods if pod.name == name and pod.deleting_since is None), None)


def _incarnation(notes: InstanceNotes) -> int:
    return int(notes.status.get("incarnation") or 1)


def _outdated(notes: InstanceNotes, pod: PodView) -> bool:
    """Whether no node takes it, and one that was created now would be another one."""
    offers = notes.snapshot.offers
    offer = next((offer for offer in offers if offer.name == choice.canonical(pod.vm_size)), None)
    return bool(offer and not pod.node and pod.unscheduled_message and anchor_pod.terms(offer) != pod.size_terms)


def _leave(notes: InstanceNotes) -> None:
    notes.put("incarnation", _incarnation(notes) + 1)
    for gone in _OF_THE_POD:
        notes.put(gone, None)


def _start_again(notes: InstanceNotes, reason: str, message: str) -> None:
    restarts.delete_all(notes, notes.snapshot.pods)
    restarts.start_again(notes, lambda: _leave(notes))
    notes.is_not_ready(InstancePhase.STARTING, reason, f"{message}; reserving a node again")


def _reserve(notes: InstanceNotes) -> None:
    snapshot = notes.snapshot
    due = moment(notes.status.get("startedAt"), 0.0) if _incarnation(notes) > 1 else 0.0
    if notes.now < due:
        notes.look_again(due)
        return
    found = _size(snapshot, notes.now)
    if isinstance(found, choice.NoSize):
        notes.is_not_ready(InstancePhase.PENDING, found.reason, found.message)
        if found.look_again_at is not None:
            notes.look_again(found.look_again_at)
        return
    identity = accounts.found(notes, snapshot.spec.identity, snapshot.spec.user, snapshot.namespace, snapshot.accounts)
    if isinstance(identity, accounts.Lacking):
        notes.is_not_ready(InstancePhase.PENDING, identity.reason, identity.message)
    elif identity is not None:
        wanted = anchor_of(snapshot, found, _incarnation(notes))
        notes.create(Create(accounts.with_identity(anchor_pod.manifest(wanted), identity)))


def anchor_of(snapshot: InstanceSnapshot, offer: Offer, incarnation: int) -> anchor_pod.AnchorPod:
    """What the instance's anchor shall be."""
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


def _follow(notes: InstanceNotes, pod: PodView) -> None:
    notes.put("podName", pod.name)
    notes.put("incarnation", _incarnation(notes))
    notes.put("nodeName", pod.node or None)
    notes.put("identity", pod.identity.in_use())
    if not notes.status.get("startedAt"):
        notes.put("startedAt", times.stamp(pod.created_at))
    if pod.running:
        if not notes.status.get("readyAt"):
            notes.put("readyAt", times.stamp(notes.now))
            seconds = max(0.0, notes.now - max(pod.created_at, moment(notes.status.get("startedAt"), 0.0)))
            notes.tell(warning=False, reason="Running", message=f"node {pod.node} is reserved, {seconds:.0f} s after it was asked for")
        notes.status["phase"] = InstancePhase.RUNNING.value
        notes.judge("Ready", True, "Running", f"node {pod.node} is reserved for the sessions of {notes.snapshot.spec.user}")
        idle.decide_idle(notes, notes.snapshot)
    elif pod.unscheduled_message:
        notes.is_not_ready(InstancePhase.PENDING, *scheduling.unschedulable(notes, pod, notes.snapshot.scaling, "instance"))
    elif (container := pod.container) is not None and container.waiting_reason in PULL_REASONS:
        said = container.waiting_message.strip() or "no further word from the node"
        message = f"image {notes.snapshot.settings.runtime_image} can't be pulled on {pod.node}: {said}"
        notes.is_not_ready(InstancePhase.STARTING, "ImagePullFailed", message)
    elif container is not None and (container.waiting_reason in BROKEN_REASONS or container.ended_reason):
        notes.is_not_ready(InstancePhase.FAILED, *died(pod))
    else:
        where = f"on node {pod.node}" if pod.node else "waiting for the scheduler"
        notes.is_not_ready(InstancePhase.STARTING, "Starting", f"pod {pod.name}: {where}, its container is being created")
