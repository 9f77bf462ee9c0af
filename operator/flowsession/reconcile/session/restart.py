"""The end of a pod that was not the session's own: why it went, what is forgotten with it, and when the next one is due."""

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
"""What the status says of the present pod, and what is not so any more without it."""


def start_again(draft: Draft, reason: str, message: str) -> bool:
    """Note the loss and when the next pod is due, which a later decision creates, after this was written."""
    if saved_at := _edits_were_saved_at(draft):
        lost = f"its flow folder comes back as it was saved at {saved_at}, what was edited later is lost"
        draft.event(warning=True, reason="EditsNotSaved", message=f"{message}; {lost}")
    restarts.start_again(draft, lambda: leave_the_pod(draft))
    draft.not_ready(Phase.STARTING, reason, f"{message}; starting again")
    draft.judge("PackagesInstalled", None, "Waiting", "a new pod is being started")
    return False


def _edits_were_saved_at(draft: Draft) -> str:
    """Return when the edits were saved that come back, where later ones may be lost: nobody can be asked for them any more. Empty where
    there are none, where the pod can be asked, and where its agent ended with nothing unsaved."""
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
    """Begin another incarnation: delete what exists of this one, and drop what the status says of it."""
    if draft.status.get("podName") or draft.snapshot.pods:
        draft.put("incarnation", draft.incarnation + 1)
    restarts.delete_all(draft, draft.snapshot.pods)
    for gone in _OF_THE_POD:
        draft.put(gone, None)
