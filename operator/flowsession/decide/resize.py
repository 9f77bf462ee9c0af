"""A session whose spec names another VM size than its pod has: it moves, with a new pod, as soon as there is such a size."""

from flowsession.api.session import Phase
from flowsession.decide import choice, loss
from flowsession.decide.draft import Draft
from flowsession.decide.start import current_pod
from flowsession.decide.views import PodView


def move(draft: Draft) -> bool:
    """Restarts the session on the size that its spec names now. Where there is no such size, it goes on with what it has."""
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


def _size_of(draft: Draft, pod: PodView) -> str:
    return pod.vm_size or draft.snapshot.settings.session.size_name
