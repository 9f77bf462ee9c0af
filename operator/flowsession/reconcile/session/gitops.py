"""Sessions that a GitOps tool applies: the tool recreates a deleted one, so an idle end by deletion frees nothing."""

from collections.abc import Mapping

from flowsession.api.session import IdleAction
from flowsession.reconcile.session.draft import Draft

REASON = "RecreatedWhenIdle"

_ANNOTATIONS = {"argocd.argoproj.io/tracking-id": "Argo CD"}
_LABELS = {
    "argocd.argoproj.io/instance": "Argo CD",
    "kustomize.toolkit.fluxcd.io/name": "Flux",
    "helm.toolkit.fluxcd.io/name": "Flux",
}
"""Metadata that the tools write into objects that they apply, from their documentation on resource tracking and on labels."""


def tool_of(labels: Mapping[str, str], annotations: Mapping[str, str]) -> str:
    """Return the name of the tool that applies an object with these labels and annotations, or an empty string."""
    of_each = ((_ANNOTATIONS, annotations), (_LABELS, labels))
    return next((tool for marks, metadata in of_each for name, tool in marks.items() if name in metadata), "")


def warn(draft: Draft) -> None:
    """Warn, at a start, that the idle end will not last."""
    if advice := advice_on(draft):
        draft.event(warning=True, reason=REASON, message=f"an idle end deletes this session, and {advice}")


def advice_on(draft: Draft) -> str:
    """Return what happens after an idle end, and how to prevent that; empty if the end lasts."""
    tool = draft.snapshot.applied_by
    if not tool or draft.snapshot.spec.idle.action != IdleAction.DELETE:
        return ""
    return f"{tool} creates it again: set spec.idle.action to Suspend in what {tool} applies"
