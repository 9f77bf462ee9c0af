"""The order for a run's agent, and the ConfigMap with the run's outputs, which is deleted with the run."""

import posixpath
from typing import Any, Literal

from flowsession.api import GROUP
from flowsession.api.run import ClaimFile, ClaimFolder, FlowRunSpec, LineSettings
from flowsession.flow.run_yaml import RunYaml
from flowsession.manifests.common import controller
from flowsession.manifests.config_maps import CONTENT_LABEL
from flowsession.manifests.session_pod import MANAGED_BY, MANAGER
from flowsession.model.plan import Enclosed
from flowsession.model.run_views import Earlier
from flowsession_protocol.messages import ClaimPath, RunEnclosure, RunOrder

OUTPUTS = "outputs"
KEY = "outputs.tar.gz"
RUN_LABEL = f"{GROUP}/run"


def name_for_promptflow(name: str, uid: str) -> str:
    """Return the name that distinguishes successive runs of the same name."""
    return f"{name}-{uid[:8]}"


def order(
    name: str, uid: str, spec: FlowRunSpec, settings: FlowRunSpec, yaml: RunYaml, earlier: Earlier | None = None, *, again: bool = False
) -> RunOrder:
    """Return the order for the agent, without what is enclosed with it.

    `settings` and `yaml` are the run's own, or those of the run that is resumed.
    """
    found: RunOrder = {"id": uid, "name": name_for_promptflow(name, uid), "columnMapping": settings.column_mapping}
    lines = spec.lines or settings.lines or LineSettings()
    optional: dict[str, object] = {
        "again": again or None,
        "data": settings.data.path if settings.data else None,
        "variant": settings.variant,
        "environmentVariables": settings.environment_variables or None,
        "connections": settings.connections or None,
        "init": settings.init or None,
        "environmentFile": yaml.environment_file or None,
        "initFile": yaml.init_file or None,
        "displayName": spec.display_name,
        "tags": spec.tags or None,
        "concurrency": lines.concurrency,
        "lineSeconds": lines.timeout_seconds,
    }
    data = settings.data.persistent_volume_claim if settings.data else None
    optional |= {"dataClaim": _on(data), "outputsClaim": _on(spec.outputs_claim)}
    optional |= {f"{member}Claim": _on(one.claim) for member, one in _builds_on(spec, earlier).items()}
    for member, value in optional.items():
        if value is not None:
            found[member] = value  # type: ignore[literal-required]
    return found


def claims(spec: FlowRunSpec, settings: FlowRunSpec, earlier: Earlier | None) -> dict[str, bool]:
    """Return the claims that a run's session must mount, and whether the run writes there."""
    target = spec.outputs_claim
    data = settings.data.persistent_volume_claim if settings.data else None
    kept = [one.claim for one in _builds_on(spec, earlier).values()]
    names = {claim.claim_name for claim in (data, *kept) if claim is not None}
    return {**dict.fromkeys(names, False), **({target.claim_name: True} if target else {})}


def folder_of(name: str, uid: str, target: ClaimFolder) -> str:
    """Return the run's own folder on the claim that keeps its outputs."""
    return posixpath.join(target.path, name_for_promptflow(name, uid))


def enclosed(spec: FlowRunSpec, settings: FlowRunSpec, earlier: Earlier | None) -> tuple[Enclosed, ...]:
    """Return what is enclosed with the order: data in a ConfigMap, and the stored outputs of the runs that it builds on."""
    found = []
    if settings.data and settings.data.config_map:
        source = settings.data.config_map
        found.append(Enclosed(source.name, source.key, "dataFile", source.key, missing="DataNotFound"))
    for member, one in _builds_on(spec, earlier).items():
        found += _kept(one, member)
    return tuple(found)


def _builds_on(spec: FlowRunSpec, earlier: Earlier | None) -> dict[Literal["resume", "earlier"], Earlier]:
    """Return the runs whose outputs belong to the order: the one that is resumed, and the one whose outputs are data."""
    resumed, data = (earlier, earlier.earlier) if spec.resume_from and earlier is not None else (None, earlier)
    return {**({"resume": resumed} if resumed else {}), **({"earlier": data} if data else {})}


def _on(claim: ClaimFile | ClaimFolder | None) -> ClaimPath | None:
    return {"claim": claim.claim_name, "path": claim.path} if claim else None


def _kept(earlier: Earlier, member: RunEnclosure) -> list[Enclosed]:
    if not earlier.config_maps:
        return []
    name = name_for_promptflow(earlier.name, earlier.uid)
    return [Enclosed(earlier.config_maps[0], KEY, member, name, missing="RunNotFound")]


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
