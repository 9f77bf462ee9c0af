"""Sessions whose pod has another size, instance or identity than the spec: they get a new pod as soon as those are available."""

from flowsession.api.session import Phase
from flowsession.manifests import placement
from flowsession.model.views import PodIdentity, PodView
from flowsession.reconcile.identity import IdentityUnavailable
from flowsession.reconcile.session import authorship, edits, identity, on_instance, restart
from flowsession.reconcile.session.draft import Draft, Live
from flowsession.reconcile.session.on_instance import Problem
from flowsession.reconcile.size import choice


def move(draft: Draft) -> bool:
    """Restart the session with the compute and identity of its spec once these are available and its edits are saved."""
    if (waiting := _outdated(draft)) is not None:
        message = f"size {waiting.vm_size} has changed before a node took {waiting.name}: it is being replaced"
        return _start_anew(draft, "ComputeChanged", message, message)
    pod = draft.pod
    if pod is None:
        return True
    misplaced, acts_as = _misplaced(draft) is not None, identity.changed(draft, pod)
    nothing_to_do = not misplaced and acts_as is None
    if nothing_to_do or isinstance(acts_as, IdentityUnavailable) or draft.wants_accounts or _problem(draft) is not None:
        return True
    if not edits.may_leave(draft):
        return False
    former = "the former pod is being replaced"
    if not misplaced:
        turning = f"from {pod.identity} to {acts_as}"
        message = f"acting {turning}: {former}"
        return _start_anew(draft, "IdentityChanged", message, f"the session's identity has changed: {turning}, with a new pod")
    moving = f"moving from {_place_of(draft, pod)} to {_wanted(draft)}"
    if acts_as:
        moving = f"{moving}, and from {pod.identity} to {acts_as}"
    return _start_anew(draft, "ComputeChanged", f"{moving}: {former}", f"spec.compute has changed: {moving}, with a new pod")


def explain(draft: Draft, live: Live) -> bool:
    """Write why the session stays as it is although its spec names another compute or identity."""
    pod = live.pod
    misplaced, problem, acts_as = _misplaced(draft) is not None, _problem(draft), identity.changed(draft, pod)
    if problem is not None and (misplaced or isinstance(acts_as, PodIdentity)):
        until = f"until then the session goes on with {_place_of(draft, pod)}, and for good if spec.compute says so again"
        draft.set_condition("ComputeAllocated", False, problem[0], f"{problem[1]}; {until}")
    elif isinstance(acts_as, IdentityUnavailable):
        until = f"until then the session goes on with {pod.identity}, and for good if the identity is what it was again"
        draft.set_condition("ComputeAllocated", False, acts_as.reason, f"{acts_as.message}; {until}")
    return True


def _misplaced(draft: Draft) -> PodView | None:
    """Return the session's pod if its spec names another size or instance. If the spec names no size, any size is right."""
    pod, compute = draft.pod, draft.snapshot.spec.compute
    if pod is None:
        return None
    if compute.instance_ref is not None:
        view = draft.snapshot.instances.get(compute.instance_ref.name)
        stays = pod.instance == compute.instance_ref.name and (view is None or not view.node or pod.size_terms == view.node)
    else:
        stays = not pod.instance and (not compute.vm_size or choice.canonical(compute.vm_size) == choice.canonical(pod.vm_size))
    return None if stays else pod


def _problem(draft: Draft) -> Problem | None:
    """Return why the session can't get the compute of its spec, or None if it can."""
    if message := authorship.withheld(draft):
        return authorship.REASON, message
    compute, snapshot = draft.snapshot.spec.compute, draft.snapshot
    if compute.instance_ref is not None:
        name = compute.instance_ref.name
        return on_instance.problem_of(draft, name) or on_instance.not_ready(draft, name)
    found = choice.named(compute.vm_size, snapshot.offers) if compute.vm_size else None
    return (found.reason, found.message) if isinstance(found, choice.NoSize) else None


def _outdated(draft: Draft) -> PodView | None:
    """Return the session's pod if it fits on no node and a new one would differ, since its size was changed or deleted."""
    pod, snapshot = draft.pod, draft.snapshot
    if pod is None or pod.instance or pod.node or not pod.unscheduled_message or not pod.vm_size or not snapshot.offers:
        return None
    offer = next((offer for offer in snapshot.offers if offer.name == choice.canonical(pod.vm_size)), None)
    if offer is None:
        return None if snapshot.spec.compute.vm_size else pod
    return pod if placement.terms(offer) != pod.size_terms else None


def _start_anew(draft: Draft, reason: str, message: str, event: str) -> bool:
    restart.leave_the_pod(draft)
    draft.not_ready(Phase.STARTING, "Starting", message)
    draft.set_condition("ComputeAllocated", None, "Scheduling", message)
    draft.set_condition("PackagesInstalled", None, "Waiting", "a new pod is being started")
    draft.event(warning=False, reason=reason, message=event)
    return False


def _place_of(draft: Draft, pod: PodView) -> str:
    return (
        f"instance {pod.instance!r} on {pod.node or 'no node'}"
        if pod.instance
        else pod.vm_size or draft.snapshot.settings.session.size_name
    )


def _wanted(draft: Draft) -> str:
    compute = draft.snapshot.spec.compute
    if compute.instance_ref is not None:
        name = compute.instance_ref.name
        return f"instance {name!r} on {draft.snapshot.instances[name].node}"
    return compute.vm_size or "a size of the operator's choice"
