"""Checks of the operator's manifests: whether an existing object belongs to one, and how many packages one lists."""

import json
from collections.abc import Mapping
from typing import Any

from flowsession.manifests.session_pod import MANAGED_BY


def ours(body: Mapping[str, Any], manifest: Mapping[str, Any]) -> bool:
    """Return whether an existing object is the operator's: it has our label and all owners of the manifest (shared objects: none)."""
    wanted = {owner["uid"] for owner in manifest["metadata"].get("ownerReferences", ())}
    found = {owner["uid"] for owner in body["metadata"].get("ownerReferences", ())}
    labelled = (body["metadata"].get("labels") or {}).get(MANAGED_BY) == manifest["metadata"]["labels"][MANAGED_BY]
    return labelled and wanted <= found


def packages_in(manifest: Mapping[str, Any]) -> int:
    """Return how many packages a ConfigMap lists."""
    document = json.loads((manifest.get("data") or {}).get("packages.json", "{}"))
    return len(document.get("packages", ())) + int(document.get("truncated", 0))
