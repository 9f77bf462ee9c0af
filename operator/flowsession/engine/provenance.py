"""Seals into a session's pod whose it is, so that an operator that never saw the session can still save what was edited there.

A session that is deleted while no operator runs is gone when the next one starts, but its pod is there for its grace period. What the
pod's labels say of its user, anybody may have written who creates pods: saved edits would be given to that user's next session.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from flowsession.api.session import ComputeSessionSpec
from flowsession.cluster.vault import NotSealedHereError, Vault
from flowsession.engine.store.objects import Meta, PodEntry, SessionEntry
from flowsession.manifests.saved_edits import USER_ANNOTATION
from flowsession.manifests.session_pod import ENVIRONMENT_LABEL, ENVIRONMENT_UID_ANNOTATION, PROVENANCE_ANNOTATION, SESSION_LABEL

SECONDS = 120.0
"""Between the sealing and the pod's creation at most, clocks apart: a seal that somebody copies into a pod of theirs is older."""


@dataclass(frozen=True)
class Origin:
    """Whose pod it is."""

    session: str
    session_uid: str
    environment: str
    environment_uid: str
    user: str

    def entry(self, namespace: str, edits: Mapping[str, Any]) -> SessionEntry:
        """Return the session as far as its pod's seal describes it; `edits` is the member of its status."""
        spec = ComputeSessionSpec.model_validate({"environmentRef": {"name": self.environment}, "user": self.user})
        meta = Meta(namespace, self.session, self.session_uid, "0", 0, 0.0, deleting=True)
        return SessionEntry(meta, spec, {"edits": dict(edits)}, {})


def seal(manifest: Mapping[str, Any], vault: Vault, now: float) -> Mapping[str, Any]:
    """Return the manifest of a pod to create; a session's with its seal."""
    meta = manifest["metadata"]
    labels, annotations = meta.get("labels") or {}, meta.get("annotations") or {}
    if manifest["kind"] != "Pod" or SESSION_LABEL not in labels:
        return manifest
    content = {
        "session": labels[SESSION_LABEL],
        "sessionUID": meta["ownerReferences"][0]["uid"],
        "environment": labels[ENVIRONMENT_LABEL],
        "environmentUID": annotations[ENVIRONMENT_UID_ANNOTATION],
        "user": annotations[USER_ANNOTATION],
        "at": now,
    }
    sealed = base64.b64encode(vault.seal(json.dumps(content).encode(), bound_to=_place(meta["namespace"], meta["name"]))).decode()
    return {**manifest, "metadata": {**meta, "annotations": {**annotations, PROVENANCE_ANNOTATION: sealed}}}


def read(pod: PodEntry, vault: Vault) -> Origin | None:
    """Return whose pod it is; None unless an operator with this key created it."""
    view = pod.view
    try:
        sealed = base64.b64decode(pod.provenance, validate=True)
        content = json.loads(vault.open(sealed, bound_to=_place(view.namespace, view.name)))
        names = ("session", "sessionUID", "environment", "environmentUID", "user")
        origin = Origin(*(content[name] for name in names))
        mine = origin.session == pod.session and origin.session_uid == pod.owner_uid
        origin.entry(view.namespace, {})
    except (NotSealedHereError, binascii.Error, ValueError, KeyError, TypeError, ValidationError):
        return None
    return origin if mine and abs(view.created_at - content["at"]) <= SECONDS else None


def _place(namespace: str, name: str) -> bytes:
    return json.dumps(["pod", namespace, name]).encode()
