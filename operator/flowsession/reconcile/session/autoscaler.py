"""Whether an autoscaler may remove a session's node: not while somebody may be working there."""

from collections.abc import Mapping

from flowsession.manifests.session_pod import AUTOSCALER_ANNOTATIONS
from flowsession.model.agent_views import warned_for
from flowsession.model.plan import AnnotatePod
from flowsession.reconcile.session.draft import Draft, Live

WORTH_SECONDS = 60.0
"""Minimum seconds between warning and idle end that are worth a write: no autoscaler decides faster."""


def protect(draft: Draft, live: Live) -> bool:
    """Keep autoscalers from removing the pod until the warning of the idle end, and again once the end is postponed.

    The annotations are set when the pod is created, so a session that is deleted before the warning costs no write for them. A session
    that never ends (`idle.action: None`) keeps them: it is probed too rarely to know whether somebody has just begun to work.
    """
    pod, wanted = live.pod, AUTOSCALER_ANNOTATIONS
    ends_soon = draft.reason("Active") == "IdleSoon" and warned_for(draft.snapshot.spec.idle.timeout_seconds) >= WORTH_SECONDS
    if pod.running and pod.protected is not None and pod.protected == ends_soon:
        values = dict.fromkeys(wanted) if ends_soon else dict(wanted)
        draft.annotate = AnnotatePod(pod.namespace, pod.name, pod.uid, values)
    return True


def is_protected(annotations: Mapping[str, str]) -> bool | None:
    """Return whether a pod has the annotations, or None if somebody gave it other values on purpose."""
    has = [annotations.get(name) for name in AUTOSCALER_ANNOTATIONS]
    if has == list(AUTOSCALER_ANNOTATIONS.values()):
        return True
    return False if has == [None] * len(AUTOSCALER_ANNOTATIONS) else None
