"""The end of a session's or an instance's pod: why it ended, and how long the next one waits."""

from collections.abc import Callable, Iterable

from flowsession.model import times
from flowsession.model.back_off import back_off
from flowsession.model.draft import Draft
from flowsession.model.plan import Delete
from flowsession.model.times import moment
from flowsession.model.views import PodView
from flowsession_protocol import ASKED_TO_END, EXIT_EDITS_UNSAVED

LONGEST_BACKOFF = 300.0


SETTLED_SECONDS = 600.0
"""Seconds after Ready from which a pod's end does not count as a crash: its successor starts at once, and the back-off is reset."""


FORCE_AFTER = 60.0
"""Seconds after a pod's grace period at which its node counts as lost and the pod is deleted by force."""


DISRUPTIONS = {
    "PreemptionByScheduler": ("Preempted", "had to give way to a pod of higher priority"),
    "EvictionByEvictionAPI": ("NodeDrained", "was evicted, as a drain of its node does"),
    "DeletionByTaintManager": ("NodeLost", "was lost: its node does not answer, or must not run it any more"),
    "TerminationByKubelet": ("Evicted", "was ended by its node"),
    "DeletionByPodGC": ("NodeLost", "was lost: its node is gone"),
}
"""Reasons of a pod's DisruptionTarget condition (https://kubernetes.io/docs/concepts/workloads/pods/disruptions)."""


def remove(draft: Draft, stray: PodView) -> None:
    """Delete a pod gracefully, or by force once its node counts as lost."""
    if stray.deleting_since is None:
        draft.delete(Delete("Pod", stray.namespace, stray.name, stray.uid))
    elif draft.now >= stray.deleting_since + FORCE_AFTER:
        draft.delete(Delete("Pod", stray.namespace, stray.name, stray.uid, grace_seconds=0))
    else:
        draft.look_again(stray.deleting_since + FORCE_AFTER)


ENDED = frozenset({"Failed", "Succeeded"})
"""Phases of a pod whose containers do not start again."""

REASONS = {
    "Evicted": "Evicted",
    "Preempted": "Preempted",
    "Preempting": "Preempted",
    "Terminated": "NodeShutdown",
    "NodeShutdown": "NodeShutdown",
    "NodeLost": "NodeLost",
    "NodeDrained": "NodeDrained",
}
"""Reasons in a pod's own status for which a kubelet ended it. "Preempting" makes room for a critical pod, and "Terminated" means that
the node is shutting down."""


def cause_of_end(pod: PodView) -> tuple[str, str]:
    """Return why a pod is Failed, Succeeded or disrupted, as reason and message.

    The pod's own status takes precedence over its container's, which may describe an earlier run of the container.
    """
    container = pod.container
    if pod.reason in REASONS:
        return REASONS[pod.reason], f"pod {pod.name} ended ({pod.reason}): {pod.message or pod.reason}"
    if pod.disruption in DISRUPTIONS:
        reason, words = DISRUPTIONS[pod.disruption]
        return reason, f"pod {pod.name} {words}" + (f": {pod.message}" if pod.message else "")
    if container and container.ended_reason == "OOMKilled":
        return "OutOfMemory", f"pod {pod.name} was killed for memory"
    if pod.deleting_since is not None:
        return "PodFailed", f"pod {pod.name} was deleted"
    how = cause_of_container_end(pod)[1] if container and container.ended_reason else "its container ended"
    return "PodFailed", f"pod {pod.name} ended ({pod.reason or pod.phase}): {pod.message or pod.reason or how}"


def cause_of_absence(name: str, pods: Iterable[PodView]) -> tuple[str, str]:
    """Return why the pod of this name is gone or being deleted, by what Kubernetes wrote into it, as reason and message."""
    going = next((pod for pod in pods if pod.name == name), None)
    if going is not None and (going.phase in ENDED or going.disruption) and (known := cause_of_end(going))[0] != "PodFailed":
        return known
    return "PodFailed", f"pod {name} was deleted, or lost with its node"


def pause(times_before: int) -> float:
    """Return the back-off in seconds: 1, 2, 4 ... 300."""
    return back_off(times_before, first=1.0, longest=LONGEST_BACKOFF)


BROKEN_REASONS = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "CrashLoopBackOff"})


DIED = frozenset({"OutOfMemory", "PodFailed"})
"""Reasons that `cause_of_container_end` returns."""


def cause_of_container_end(pod: PodView) -> tuple[str, str]:
    """Return why the pod's container does not stay up, as reason and message."""
    container = pod.container
    assert container is not None
    message = container.ended_message.strip() or container.waiting_message.strip()
    if container.ended_reason == "OOMKilled":
        return "OutOfMemory", "the session's container was killed for memory; ask for more memory, or need less"
    if container.ended_code in (ASKED_TO_END, EXIT_EDITS_UNSAVED):
        return "PodFailed", "the session's container was asked to end (SIGTERM), by its node or by a process in it"
    never_ran = container.ended_reason not in ("Error", "Completed")  # else such a message may be from the session's own log
    if never_ran and ("executable file not found" in message or "no such file or directory" in message):
        return "PodFailed", f"the image can't be started as a session, since it has no python3 on its PATH: {message}"
    if container.ended_code in (64, 65):
        return "PodFailed", message
    if not container.ended_reason and container.waiting_reason.startswith("CreateContainer"):
        return "PodFailed", f"the node can't create the session's container: {message or container.waiting_reason}"
    code = f" with exit code {container.ended_code}" if container.ended_reason else ""
    last = message.splitlines()[-1] if message else "no message"
    return "PodFailed", f"the session's container ended{code} ({container.ended_reason or container.waiting_reason}): {last}"


def delete_all(draft: Draft, pods: Iterable[PodView]) -> None:
    """Delete the pods that are not being deleted already."""
    for pod in pods:
        if pod.deleting_since is None:
            draft.delete(Delete("Pod", pod.namespace, pod.name, pod.uid))


def start_again(draft: Draft, leave: Callable[[], None]) -> None:
    """Record the loss of a pod and when the next one is due. A later decision creates that one, once this status is written.

    `leave` deletes what remains of the lost pod, and the fields of the status about it.
    """
    status, now = draft.before, draft.now
    lived = now - moment(status.get("readyAt"), now)
    in_a_row = 0 if lived >= SETTLED_SECONDS else int(status.get("restartsInARow") or 0) + 1
    leave()
    draft.put("restarts", int(status.get("restarts") or 0) + 1)
    draft.put("restartsInARow", in_a_row or None)
    draft.put("startedAt", times.stamp(now + pause(in_a_row) if in_a_row else now))
    draft.look_again(moment(draft.status["startedAt"], now))
