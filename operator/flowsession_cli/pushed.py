"""What `kubectl flow start` pushed of a folder: a ConfigMap beside the environment, which names it as its source."""

import base64

from flowsession.api import GROUP
from flowsession_cli.cluster import Cluster, Object

LABELS = {"app.kubernetes.io/managed-by": "kubectl-flow"}
KEY = "flow.tar.gz"


def name_of(environment: str) -> str:
    """The ConfigMap's name."""
    return f"{environment}-folder"


def source(environment: str) -> Object:
    """The environment's `spec.source`."""
    return {"archive": {"configMap": {"name": name_of(environment), "key": KEY}}}


def found(cluster: Cluster, environment: str) -> bytes:
    """The packed folder; empty where nothing was pushed."""
    return archive_of(cluster.find("configmap", name_of(environment)) or {})


def archive_of(config_map: Object) -> bytes:
    """The packed folder that a ConfigMap holds."""
    return base64.b64decode(config_map.get("binaryData", {}).get(KEY, ""))


def manifest(environment: str, archive: bytes) -> Object:
    """The ConfigMap with a packed folder."""
    meta = {"name": name_of(environment), "labels": {**LABELS, f"{GROUP}/source": "true"}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "binaryData": {KEY: base64.b64encode(archive).decode()}}
