"""The replacement of a session's pod: what the status drops with it, and when the successor of a lost pod is due."""

from flowsession.api.session import Phase
from flowsession.reconcile import restarts
from flowsession.reconcile.restarts import FORCE_AFTER
from flowsession.reconcile.session.draft import Draft
from flowsession.reconcile.session.saving import MOST_FAILURES
from flowsession_protocol import ASKED_TO_END

_OF_THE_POD = (
    "podName", "nodeName", "startedAt", "readyAt", "containerRestarts", "expiresAt", "stages", "packagesRevision", "flowRevision",
    "baseImage", "imageDigest", "identity", "install", "lastActivity", "restartsInARow",
)  # fmt: skip
"""Fields of the status that describe the present pod, or are no longer true without it."""


def start_again(draft: Draft, reason: str, message: str) -> bool:
    """Record the loss of the pod and when the next one is due. A later decision creates that one, once this status is written."""
    if saved_at := _edits_were_saved_at(draft):
        lost = f"its flow folder comes back as it was saved at {saved_at}, what was edited later is lost"
        draft.event(warning=True, reason="EditsNotSaved", message=f"{message}; {lost}")
    restarts.start_again(draft, lambda: leave_the_pod(draft))
    draft.not_ready(Phase.STARTING, reason, f"{message}; starting again")
    draft.set_condition("PackagesInstalled", None, "Waiting", "a new pod is being started")
    return False


def _edits_were_saved_at(draft: Draft) -> str:
    """Return when the edits that the next pod gets were saved, if later edits may be lost because no agent can be asked for them.

    Return an empty string if no edits were saved, if the pod can be asked, or if its agent ended with nothing unsaved.
    """
    pods, saved = draft.snapshot.pods, draft.snapshot.status.get("edits") or {}
    agent = draft.snapshot.agent
    silent = draft.reason_before("Ready") == "AgentUnreachable" or (agent is not None and agent.failures > MOST_FAILURES)
    askable = not silent and any(
        pod.running and not pod.unready and (pod.deleting_since or draft.now + FORCE_AFTER) > draft.now + 1.0 for pod in pods
    )
    container = pods[-1].container if pods else None
    ended_well = container is not None and container.running_since is None and container.ended_code == ASKED_TO_END
    if askable or draft.snapshot.status.get("flowRevision") in (None, "", "none") or (ended_well and not saved.get("notSaved")):
        return ""
    return str(saved.get("savedAt") or "")


def leave_the_pod(draft: Draft) -> None:
    """Begin another incarnation: delete the pods of this one, and drop the fields of the status about it."""
    if draft.status.get("podName") or draft.snapshot.pods:
        draft.put("incarnation", draft.incarnation + 1)
    restarts.delete_all(draft, draft.snapshot.pods)
    for gone in _OF_THE_POD:
        draft.put(gone, None)
