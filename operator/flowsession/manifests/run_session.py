"""The session that is created for a run whose user has no suitable one."""

from collections.abc import Mapping
from typing import Any

from flowsession.api import API_VERSION, GROUP
from flowsession.api.run import FlowRunSpec
from flowsession.manifests.session_pod import MANAGED_BY, MANAGER

FOR_RUN_LABEL = f"{GROUP}/for-run"
"""On a session that was created for a run, with the run's name. It never counts as a duplicate of another session of the user."""
IDLE_SECONDS = 3600
"""As for Azure's sessions for runs."""
AUTOMATIC = "automatic"
"""run.yml's word for a size that is to be chosen automatically."""
_LONGEST_NAME, _LONGEST_LABEL = 200, 63


def name_of(run: str, uid: str) -> str:
    """Return the session's name. One run has one name, whoever creates the session and however often."""
    return f"{run[:_LONGEST_NAME].rstrip('.-')}-{uid[:5]}"


def size_of(spec: FlowRunSpec) -> str:
    """Return the VM size that the run asks for; empty: any."""
    asked = spec.resources.instance_type if spec.resources else ""
    return "" if asked == AUTOMATIC else asked


def manifest(namespace: str, run: str, uid: str, spec: FlowRunSpec, claims: Mapping[str, bool]) -> dict[str, Any]:
    """Return the session. It outlives the run, for similar runs, and ends when it is idle. `claims` are those that the run needs, with
    whether it writes there."""
    found: dict[str, Any] = {
        "user": spec.user,
        "environmentRef": {"name": spec.environment_ref.name},
        "idle": {"timeoutSeconds": IDLE_SECONDS},
    }
    if spec.resources and spec.resources.compute:
        found["compute"] = {"type": "Instance", "instanceRef": {"name": spec.resources.compute}}
    elif size_of(spec):
        found["compute"] = {"vmSize": size_of(spec)}
    if claims:
        found["claims"] = [{"claimName": name, **({} if writes else {"readOnly": True})} for name, writes in sorted(claims.items())]
    if spec.identity:
        found["identity"] = spec.identity.to_wire()
    labels = {MANAGED_BY: MANAGER, FOR_RUN_LABEL: run[:_LONGEST_LABEL].rstrip(".-")}
    metadata = {"name": name_of(run, uid), "namespace": namespace, "labels": labels}
    return {"apiVersion": API_VERSION, "kind": "ComputeSession", "metadata": metadata, "spec": found}
