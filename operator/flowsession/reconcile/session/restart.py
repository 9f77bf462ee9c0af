"""The end of a pod that was not the session's own: why it went, what is forgotten with it, and when the next one is due."""

from flowsession.api.session import Phase
from flowsession.model import times
from flowsession.model.draft import Notes
from flowsession.model.plan import Delete
from flowsession.reconcile.session.draft import Draft, moment
from flowsession.reconcile.session.snapshot import PodView

LONGEST_BACKOFF = 300.0
SETTLED_SECONDS = 600.0
"""A pod that was ready this long ago was no crash: its successor starts at once, and the back-off begins anew."""

FORCE_AFTER = 60.0
"""Seconds past a pod's own grace after which its node is taken for lost and the pod is removed by force."""

_DISRUPTIONS = {
    "PreemptionByScheduler": ("Preempted", "had to give way to a pod of higher priority"),
    "EvictionByEvictionAPI": ("NodeDrained", "was evicted, as a drain of its node does"),
    "DeletionByTaintManager": ("NodeLost", "was lost: its node does not answer, or must not run it any more"),
    "TerminationByKubelet": ("Evicted", "was ended by its node"),
    "DeletionByPodGC": ("NodeLost", "was lost: its node is gone"),
}
"""Reasons of a pod's DisruptionTarget condition (https://kubernetes.io/docs/concepts/workloads/pods/disruptions)."""

_OF_THE_POD = (
    "podName", "nodeName", "startedAt", "readyAt", "containerRestarts", "expiresAt", "stages", "packagesRevision", "flowRevision",
    "baseImage", "imageDigest", "identity", "install", "lastActivity", "restartsInARow",
)  # fmt: skip
"""What the status says of the present pod, and what is not so any more without it."""


def incarnation(draft: Draft) -> int:
    """Which start this is, from 1."""
    return int(draft.snapshot.status.get("incarnation") or 1)


def start_again(draft: Draft, reason: str, message: str) -> bool:
    """Notes the loss and when the next pod is due; the pod itself is created by a later decision, after this was written."""
    status, now = draft.snapshot.status, draft.now
    lived = now - moment(status.get("readyAt"), now)
    in_a_row = 0 if lived >= SETTLED_SECONDS else int(status.get("restartsInARow") or 0) + 1
    if saved_at := _edits_were_saved_at(draft):
        lost = f"its flow folder comes back as it was saved at {saved_at}, what was edited later is lost"
        draft.tell(warning=True, reason="EditsNotSaved", message=f"{message}; {lost}")
    leave_the_pod(draft)
    draft.put("restarts", int(status.get("restarts") or 0) + 1)
    draft.put("restartsInARow", in_a_row or None)
    draft.put("startedAt", times.stamp(now + pause(in_a_row) if in_a_row else now))
    draft.not_ready(Phase.STARTING, reason, f"{message}; starting again")
    draft.judge("PackagesInstalled", None, "Waiting", "a new pod is being started")
    draft.look_again(moment(draft.status["startedAt"], now))
    return False


def _edits_were_saved_at(draft: Draft) -> str:
    """When the edits were saved that come back, where nobody can be asked for later ones any more; empty where there are none, or the pod
    can be asked."""
    askable = any(pod.running and (pod.deleting_since or draft.now + FORCE_AFTER) > draft.now + 1.0 for pod in draft.snapshot.pods)
    if askable or draft.snapshot.status.get("flowRevision") in (None, "", "none"):
        return ""
    return str((draft.snapshot.status.get("edits") or {}).get("savedAt") or "")


def leave_the_pod(draft: Draft) -> None:
    """The next start is another incarnation: what exists of this one is removed, and what the status says of it goes."""
    if draft.status.get("podName") or draft.snapshot.pods:
        draft.put("incarnation", incarnation(draft) + 1)
    for pod in draft.snapshot.pods:
        if pod.deleting_since is None:
            draft.delete(Delete("Pod", pod.namespace, pod.name, pod.uid))
    for gone in _OF_THE_POD:
        draft.put(gone, None)


def remove(draft: Notes, stray: PodView) -> None:
    """Sees a pod out: gently, and by force when its node is gone."""
    if stray.deleting_since is None:
        draft.delete(Delete("Pod", stray.namespace, stray.name, stray.uid))
    elif draft.now >= stray.deleting_since + FORCE_AFTER:
        draft.delete(Delete("Pod", stray.namespace, stray.name, stray.uid, grace_seconds=0))
    else:
        draft.look_again(stray.deleting_since + FORCE_AFTER)


def cause_of_absence(draft: Draft) -> tuple[str, str]:
    """Why the pod is on its way out or gone, by what Kubernetes wrote into it: reason and sentence."""
    name = str(draft.snapshot.status.get("podName"))
    going = next((pod for pod in draft.snapshot.pods if pod.name == name), None)
    if going is not None and going.disruption:
        reason, words = _DISRUPTIONS.get(going.disruption, ("PodFailed", "was ended"))
        return reason, f"pod {name} {words}" + (f": {going.message}" if going.message else "")
    return "PodFailed", f"pod {name} was deleted, or lost with its node"


def cause_of_end(pod: PodView) -> tuple[str, str]:
    """Why a pod that Kubernetes calls Failed has ended: reason and sentence."""
    why = pod.message or pod.reason or "its container ended"
    if pod.container and pod.container.ended_reason == "OOMKilled":
        return "OutOfMemory", f"pod {pod.name} was killed for memory"
    reason = pod.reason or _DISRUPTIONS.get(pod.disruption, ("", ""))[0]
    known = reason if reason in ("Evicted", "Preempted", "NodeShutdown", "NodeLost", "NodeDrained") else "PodFailed"
    return known, f"pod {pod.name} ended ({pod.reason or pod.phase}): {why}"


def pause(times_before: int) -> float:
    """Back-off in seconds: 1, 2, 4 ... 300."""
    return min(LONGEST_BACKOFF, 2.0 ** (min(times_before, 10) - 1))
