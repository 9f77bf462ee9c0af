"""Times at which this operator saw a pod's steps, finer than the API's whole seconds."""

from flowsession.model.agent_views import AgentState
from flowsession.model.views import PodView


def note(pod_timestamps: dict[str, float], pod: PodView, now: float, *, news: bool) -> None:
    """Stamp steps that are seen for the first time. The first sight of a pod older than 2 s is ignored, since its steps happened
    earlier."""
    if not news and abs(now - pod.created_at) >= 2.0:
        return
    pod_timestamps.setdefault("Created", now)
    if pod.node:
        pod_timestamps.setdefault("Scheduled", now)
    if pod.running:
        pod_timestamps.setdefault("Running", now)


def note_answer(pod_timestamps: dict[str, float], state: AgentState, now: float) -> None:
    """Stamp, likewise, what the pod's agent reports."""
    pod_timestamps.setdefault("AgentReady", now)
    if state.packages_revision:
        pod_timestamps.setdefault("Installed", now)
