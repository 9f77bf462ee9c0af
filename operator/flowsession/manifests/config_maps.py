"""The ConfigMaps that the operator keeps for an environment: named by their content, immutable, and deleted with the environment."""

import hashlib
from collections.abc import Mapping
from typing import Any

from flowsession.api import GROUP
from flowsession.manifests.common import Where, owner
from flowsession.manifests.session_pod import ENVIRONMENT_LABEL, MANAGED_BY, MANAGER

CONTENT_LABEL = f"{GROUP}/content"
"""What such a ConfigMap holds: one of the following."""

PACKAGES = "packages"
EDITS = "edits"
SOURCE = "source"

PROMPTFLOW_ANNOTATION = f"{GROUP}/promptflow"
"""On a list of packages: the version of prompt flow in the image; empty if the image has none."""


def name_of(content: str, environment: str, uid: str, *parts: str) -> str:
    """Return the name, whose suffix depends only on the parts and the environment's uid."""
    return f"{environment}-{content}-{hashlib.sha256(' '.join((uid, *parts)).encode()).hexdigest()[:10]}"


def selector(content: str, labels: Mapping[str, str]) -> str:
    """Return the label selector for this content and these labels."""
    return ",".join(f"{name}={value}" for name, value in _labels(content, labels).items())


def manifest(
    content: str,
    name: str,
    where: Where,
    data: Mapping[str, str],
    *,
    binary: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the ConfigMap; `binary` is in base64."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name,
            "namespace": where.namespace,
            "labels": _labels(content, {ENVIRONMENT_LABEL: where.environment, **(labels or {})}),
            **({"annotations": dict(annotations)} if annotations else {}),
            "ownerReferences": [owner("FlowEnvironment", where.environment, where.uid)] if where.uid else [],
        },
        "immutable": True,
        "data": dict(data),
        **({"binaryData": dict(binary)} if binary else {}),
    }


def _labels(content: str, more: Mapping[str, str]) -> dict[str, str]:
    return {MANAGED_BY: MANAGER, CONTENT_LABEL: content, **more}
