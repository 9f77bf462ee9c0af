"""An instance's plan in the making."""

from flowsession.manifests import anchor_pod
from flowsession.model.draft import PodDraft
from flowsession.reconcile import identity, requests
from flowsession.reconcile.instance.snapshot import InstanceSnapshot


class Draft(PodDraft):
    """The draft of an instance; its pod is the anchor."""

    KIND = "ComputeInstance"
    PROBLEMS = ("Ready",)
    NO_PROBLEM = frozenset({"Starting", "Stopped", "ScalingUp", identity.PENDING})

    def __init__(self, snapshot: InstanceSnapshot, now: float) -> None:
        super().__init__(snapshot, now, {"resume": snapshot.resume, requests.UNKNOWN: snapshot.unknown})
        self.snapshot = snapshot

    def pod_name(self) -> str:
        """Return the name of the present incarnation's anchor."""
        return anchor_pod.name_of(self.snapshot.name, self.snapshot.uid, self.incarnation)
