"""What a run's agent is told, and the ConfigMap that keeps the run's outputs, which goes with the run."""

from typing import Any

from flowsession.api import GROUP
from flowsession.api.run import FlowRunSpec, LineSettings
from flowsession.manifests.common import controller
from flowsession.manifests.config_maps import CONTENT_LABEL
from flowsession.manifests.session_pod import MANAGED_BY, MANAGER
from flowsession.model.plan import Inclosed
from flowsession.model.run_views import Earlier
from flowsession_protocol.messages import RunOrder

OUTPUTS = "outputs"
KEY = "outputs.tar.gz"
RUN_LABEL = f"{GROUP}/run"


def name_for_promptflow(name: str, uid: str) -> str:
    """Return the name that tells apart runs that had the same name one after the other."""
    return f"{name}-{uid[:8]}"


def order(name: str, uid: str, spec: FlowRunSpec) -> RunOrder:
    """Return what the agent is told, but for what comes along with it."""
    found: RunOrder = {"id": uid, "name": name_for_promptflow(name, uid), "columnMapping": spec.column_mapping}
    lines = spec.lines or LineSettings()
    optional = {
        "data": spec.data.path if spec.data else None,
        "variant": spec.variant,
        "environmentVariables": spec.environment_variables or None,
        "connections": spec.connections or None,
        "init": spec.init or None,
        "displayName": spec.display_name,
        "tags": spec.tags or None,
        "concurrency": lines.concurrency,
        "lineSeconds": lines.timeout_seconds,
    }
    for member, value in optional.items():
        if value is not None:
            found[member] = value  # type: ignore[literal-required]
    return found


def inclosed(spec: FlowRunSpec, earlier: Earlier | None) -> tuple[Inclosed, ...]:
    """Return what comes along with the order: data that a ConfigMap holds, and the outputs of an earlier run."""
    found = []
    if spec.data and spec.data.config_map:
        source = spec.data.config_map
        found.append(Inclosed(source.name, source.key, "dataFile", source.key, missing="DataNotFound"))
    if earlier is not None and earlier.config_maps:
        name = name_for_promptflow(earlier.name, earlier.uid)
        found.append(Inclosed(earlier.config_maps[0], KEY, "earlier", name, missing="RunNotFound"))
    return tuple(found)


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
