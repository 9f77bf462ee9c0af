"""Whether an autoscaler may take a session's node away: not while somebody may work there."""

from collections.abc import Mapping

from flowsession.manifests.session_pod import MARKS
from flowsession.model.agent_views import warned_for
from flowsession.model.plan import AnnotatePod
from flowsession.reconcile.session.draft import Draft, Live

WORTH_SECONDS = 60.0
"""An end that is nearer than this is not worth a write: no autoscaler decides that fast."""


def mark(draft: Draft, live: Live) -> bool:
    """Keeps the autoscalers' hands off until people were warned of the idle end, and again when that is put off.

    Marks are set when the pod is created, so a session that is deleted earlier costs no write for them. A session that never ends
    (`idle.action: None`) keeps them: it is asked too rarely for anybody to know that nobody has just begun to work.
    """
    pod = live.pod
    wanted = not (draft.reason("Active") == "IdleSoon" and warned_for(draft.snapshot.spec.idle.timeout_seconds) >= WORTH_SECONDS)
    if pod.running and pod.marked is not None and pod.marked != wanted:
        draft.marks = AnnotatePod(pod.namespace, pod.name, pod.uid, {name: value if wanted else None for name, value in MARKS.items()})
    return True


def marked(annotations: Mapping[str, str]) -> bool | None:
    """Whether a pod has the marks; None: it has another value than ours, which somebody chose on purpose."""
    has = [annotations.get(name) for name in MARKS]
    if has == list(MARKS.values()):
        return True
    return False if has == [None] * len(MARKS) else None
