"""What a run's agent is told, and the ConfigMap that keeps the run's outputs, which goes with the run."""

from typing import Any

from flowsession.api import GROUP
from flowsession.api.run import FlowRunSpec
from flowsession.manifests.common import controller
from flowsession.manifests.config_maps import CONTENT_LABEL
from flowsession.manifests.session_pod import MANAGED_BY, MANAGER
from flowsession_protocol.messages import RunOrder

OUTPUTS = "outputs"
KEY = "outputs.tar.gz"
RUN_LABEL = f"{GROUP}/run"


def order(name: str, uid: str, spec: FlowRunSpec) -> RunOrder:
    """Return what the agent is told. The name for prompt flow tells apart runs that had the same name one after the other."""
    return {"id": uid, "name": f"{name}-{uid[:8]}", "data": spec.data.path, "columnMapping": spec.column_mapping}


def name_of(run: str, uid: str) -> str:
    """Return the name of the ConfigMap."""
    return f"{run}-{OUTPUTS}-{uid[:5]}"


def manifest(namespace: str, run: str, uid: str, archive: str) -> dict[str, Any]:
    """Return the ConfigMap; `archive` is a .tar.gz in base64."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name_of(run, uid),
            "namespace": namespace,
            "labels": {MANAGED_BY: MANAGER, CONTENT_LABEL: OUTPUTS, RUN_LABEL: run},
            "ownerReferences": [controller("FlowRun", run, uid)],
        },
        "immutable": True,
        "binaryData": {KEY: archive},
    }
