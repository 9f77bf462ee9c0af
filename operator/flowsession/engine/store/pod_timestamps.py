"""When this operator saw a pod's steps, finer than the API's whole seconds."""

from flowsession.model.agent_views import AgentState
from flowsession.model.views import PodView


def note(pod_timestamps: dict[str, float], pod: PodView, now: float, *, news: bool) -> None:
    """Stamp what is seen for the first time. A pod from before this operator's start is no news: only what is seen as it happens is
    a timestamp."""
    if not news and abs(now - pod.created_at) >= 2.0:
        return
    pod_timestamps.setdefault("Created", now)
    if pod.node:
        pod_timestamps.setdefault("Scheduled", now)
    if pod.running:
        pod_timestamps.setdefault("Running", now)


def note_answer(pod_timestamps: dict[str, float], state: AgentState, now: float) -> None:
    """Stamp likewise what its agent reports."""
    pod_timestamps.setdefault("AgentReady", now)
    if state.packages_revision:
        pod_timestamps.setdefault("Installed", now)
