"""When this operator saw a pod's steps, finer than the API's whole seconds."""

from flowsession.reconcile.session.snapshot import PodView


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
