"""Seals a session's identity into its pod, so that an operator that never saw the session can still save the edits made there.

If a session is deleted while no operator runs, the next operator finds only its pod, during the grace period. The pod's labels don't prove
its user, since whoever creates pods can write them, and saved edits are given to that user's next session.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from flowsession.api.session import ComputeSessionSpec
from flowsession.cluster.vault import UnsealError, Vault
from flowsession.engine.store.objects import Meta, PodEntry, SessionEntry
from flowsession.manifests.saved_edits import USER_ANNOTATION
from flowsession.manifests.session_pod import ENVIRONMENT_LABEL, ENVIRONMENT_UID_ANNOTATION, PROVENANCE_ANNOTATION, SESSION_LABEL

SECONDS = 120.0
"""Maximum seconds between the sealing and the pod's creation, on different clocks: a seal copied into somebody else's pod is older."""


@dataclass(frozen=True)
class Origin:
    """The session, environment and user of a pod."""

    session: str
    session_uid: str
    environment: str
    environment_uid: str
    user: str

    def entry(self, namespace: str, edits: Mapping[str, Any]) -> SessionEntry:
        """Return the session as far as its pod's seal describes it, with `edits` in its status."""
        spec = ComputeSessionSpec.model_validate({"environmentRef": {"name": self.environment}, "user": self.user})
        meta = Meta(namespace, self.session, self.session_uid, "0", 0, 0.0, deleting=True)
        return SessionEntry(meta, spec, {"edits": dict(edits)}, {})


def seal(manifest: Mapping[str, Any], vault: Vault, now: float) -> Mapping[str, Any]:
    """Return the manifest to create; that of a session's pod gets its seal."""
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
    """Return a pod's origin, or None unless an operator with this key created the pod."""
    view = pod.view
    try:
        sealed = base64.b64decode(pod.provenance, validate=True)
        content = json.loads(vault.open(sealed, bound_to=_place(view.namespace, view.name)))
        names = ("session", "sessionUID", "environment", "environmentUID", "user")
        origin = Origin(*(content[name] for name in names))
        mine = origin.session == pod.session and origin.session_uid == pod.owner_uid
        origin.entry(view.namespace, {})
    except (UnsealError, binascii.Error, ValueError, KeyError, TypeError, ValidationError):
        return None
    return origin if mine and abs(view.created_at - content["at"]) <= SECONDS else None


def _place(namespace: str, name: str) -> bytes:
    return json.dumps(["pod", namespace, name]).encode()
