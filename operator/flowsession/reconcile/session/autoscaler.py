"""Whether an autoscaler may take a session's node away: not while somebody may work there."""

from collections.abc import Mapping

from flowsession.manifests.session_pod import AUTOSCALER_ANNOTATIONS
from flowsession.model.agent_views import warned_for
from flowsession.model.plan import AnnotatePod
from flowsession.reconcile.session.draft import Draft, Live

WORTH_SECONDS = 60.0
"""An idle end that is nearer than this is not worth a write: no autoscaler decides that fast."""


def protect(draft: Draft, live: Live) -> bool:
    """Keep autoscalers from the pod until people were warned of the idle end, and again once that is put off.

    The annotations are set at the pod's creation, so a session that is deleted earlier costs no write for them. A session that never ends
    (`idle.action: None`) keeps them: it is asked too rarely to know whether somebody has just begun to work.
    """
    pod, wanted = live.pod, AUTOSCALER_ANNOTATIONS
    ends_soon = draft.reason("Active") == "IdleSoon" and warned_for(draft.snapshot.spec.idle.timeout_seconds) >= WORTH_SECONDS
    if pod.running and pod.protected is not None and pod.protected == ends_soon:
        values = dict.fromkeys(wanted) if ends_soon else dict(wanted)
        draft.annotate = AnnotatePod(pod.namespace, pod.name, pod.uid, values)
    return True


def is_protected(annotations: Mapping[str, str]) -> bool | None:
    """Whether a pod has the annotations; None: somebody gave it other values on purpose."""
    has = [annotations.get(name) for name in AUTOSCALER_ANNOTATIONS]
    if has == list(AUTOSCALER_ANNOTATIONS.values()):
        return True
    return False if has == [None] * len(AUTOSCALER_ANNOTATIONS) else None
