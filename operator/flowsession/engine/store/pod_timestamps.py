"""When this operator saw a pod's steps, finer than the API's whole seconds."""

from flowsession.model.agent_views import AgentState
from flowsession.model.views import PodView


def note(marks: dict[str, float], pod: PodView, now: float, *, news: bool) -> None:
    """Marks what is seen for the first time. A pod that was there before this operator was is no news: only what is seen as it happens is
    a mark."""
    if not news and abs(now - pod.created_at) >= 2.0:
        return
    marks.setdefault("Created", now)
    if pod.node:
        marks.setdefault("Scheduled", now)
    if pod.running:
        marks.setdefault("Running", now)


def note_answer(marks: dict[str, float], state: AgentState, now: float) -> None:
    """The same for what its agent says."""
    marks.setdefault("AgentReady", now)
    if state.packages_revision:
        marks.setdefault("Installed", now)
