"""The ConfigMap with the folder that `kubectl flow start` pushed, which the environment names as its source."""

import base64

from flowsession.api import GROUP
from flowsession_cli.cluster import Cluster, Object

LABELS = {"app.kubernetes.io/managed-by": "kubectl-flow"}
KEY = "flow.tar.gz"


def name_of(environment: str) -> str:
    """Return the ConfigMap's name."""
    return f"{environment}-folder"


def source(environment: str) -> Object:
    """Return the environment's `spec.source`."""
    return {"archive": {"configMap": {"name": name_of(environment), "key": KEY}}}


def found(cluster: Cluster, environment: str) -> bytes:
    """Return the packed folder, or empty bytes if nothing was pushed."""
    return archive_of(cluster.find("configmap", name_of(environment)) or {})


def archive_of(config_map: Object) -> bytes:
    """Return the packed folder in a ConfigMap."""
    return base64.b64decode(config_map.get("binaryData", {}).get(KEY, ""))


def manifest(environment: str, archive: bytes) -> Object:
    """Return the ConfigMap with a packed folder."""
    meta = {"name": name_of(environment), "labels": {**LABELS, f"{GROUP}/source": "true"}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "binaryData": {KEY: base64.b64encode(archive).decode()}}
