"""A session whose pod is not of the size that it shall have: it moves, with a new pod, as soon as there is such a size."""

from flowsession.api.session import Phase
from flowsession.decide import choice, loss, placement
from flowsession.decide.draft import Draft
from flowsession.decide.start import current_pod
from flowsession.decide.views import PodView


def move(draft: Draft) -> bool:
    """Restarts the session on the size that its spec names now. Where there is no such size, it goes on with what it has."""
    if (waiting := _outdated(draft)) is not None:
        return _start_anew(draft, waiting)
    pod = _misplaced(draft)
    wanted = draft.snapshot.spec.compute.vm_size
    if pod is None or isinstance(choice.named(wanted, draft.snapshot.offers), choice.NoSize):
        return True
    before = _size_of(draft, pod)
    loss.leave_the_pod(draft)
    draft.not_ready(Phase.STARTING, "Starting", f"moving from {before} to {wanted}: the former pod is being replaced")
    draft.judge("ComputeAllocated", None, "Scheduling", f"moving from {before} to {wanted}")
    draft.judge("PackagesInstalled", None, "Waiting", "a new pod is being started")
    draft.tell(
        warning=False, reason="ComputeChanged", message=f"spec.compute has changed: moving from {before} to {wanted}, with a new pod"
    )
    return False


def tell_of_wish(draft: Draft) -> bool:
    """Says why the session stays where it is although its spec names another size, and what it stays on."""
    pod = _misplaced(draft)
    if pod is not None:
        found = choice.named(draft.snapshot.spec.compute.vm_size, draft.snapshot.offers)
        if isinstance(found, choice.NoSize):
            said = f"{found.message}; until then the session goes on with {_size_of(draft, pod)}"
            draft.judge("ComputeAllocated", False, found.reason, said)
    return True


def _misplaced(draft: Draft) -> PodView | None:
    """The session's pod, if its spec names another size than that pod has. No size named: whatever it has is right."""
    pod, wanted = current_pod(draft), draft.snapshot.spec.compute.vm_size
    return pod if pod is not None and wanted and choice.canonical(wanted) != choice.canonical(pod.vm_size) else None


def _outdated(draft: Draft) -> PodView | None:
    """The session's pod, if no node takes it and a pod created now would be another one: its size was mended, or has gone."""
    pod, snapshot = current_pod(draft), draft.snapshot
    if pod is None or pod.node or not pod.unscheduled_message or not pod.vm_size or not snapshot.offers:
        return None
    offer = next((offer for offer in snapshot.offers if offer.name == choice.canonical(pod.vm_size)), None)
    if offer is None:
        return None if snapshot.spec.compute.vm_size else pod
    return pod if placement.terms(offer) != pod.size_terms else None


def _start_anew(draft: Draft, pod: PodView) -> bool:
    loss.leave_the_pod(draft)
    said = f"size {pod.vm_size} has changed before a node took {pod.name}: it is being replaced"
    draft.not_ready(Phase.STARTING, "Starting", said)
    draft.judge("ComputeAllocated", None, "Scheduling", said)
    draft.tell(warning=False, reason="ComputeChanged", message=said)
    return False


def _size_of(draft: Draft, pod: PodView) -> str:
    return pod.vm_size or draft.snapshot.settings.session.size_name
