"""The CustomResourceDefinitions, and the command that writes them and the policies: `python -m flowsession.api.crds [--check]`."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from flowsession.api import GROUP, VERSION, mutations, policies
from flowsession.api.base import rule
from flowsession.api.environment import FlowEnvironmentSpec, FlowEnvironmentStatus
from flowsession.api.instance import ComputeInstanceSpec, ComputeInstanceStatus
from flowsession.api.run import FlowRunSpec, FlowRunStatus
from flowsession.api.schema import structural, with_limits
from flowsession.api.session import ComputeSessionSpec, ComputeSessionStatus
from flowsession.api.size import NAME_RULE, VMSizeSpec, VMSizeStatus

LONGEST_NAME = 50
"""Bytes of an object's name: pod and ConfigMap names and label values (63 at most) are made from it with a suffix."""


@dataclass(frozen=True)
class Kind:
    """A custom resource: its names, its models, and the columns of `kubectl get`."""

    name: str
    plural: str
    short_names: tuple[str, ...]
    description: str
    spec: type[BaseModel]
    status: type[BaseModel]
    columns: tuple[dict[str, Any], ...]
    cluster_wide: bool = False
    rules: tuple[dict[str, str], ...] = ()
    """CEL rules on the whole object."""
    selectable: tuple[str, ...] = ()
    """Fields that `kubectl get --field-selector` takes."""


def _column(name: str, path: str, *, type_: str = "string", wide: bool = False, description: str = "") -> dict[str, Any]:
    column: dict[str, Any] = {"name": name, "type": type_, "jsonPath": path}
    if description:
        column["description"] = description
    if wide:
        column["priority"] = 1
    return column


def _ready(field: str) -> str:
    return f'.status.conditions[?(@.type=="Ready")].{field}'


_COST = _column("Cost", ".status.cost.perHour", wide=True, description="Per hour at present; status.cost has the accrued cost.")
ENVIRONMENT = Kind(
    name="FlowEnvironment",
    plural="flowenvironments",
    short_names=("fenv",),
    description="A prompt flow folder, and the image and packages that it asks for. ComputeSessions are running copies of it.",
    spec=FlowEnvironmentSpec,
    status=FlowEnvironmentStatus,
    columns=(
        _column("Ready", _ready("status")),
        _column("Image", ".status.baseImage"),
        _column("Requirements", ".status.requirements", type_="integer"),
        _column("Sessions", ".status.sessions", type_="integer"),
        _column("Age", ".metadata.creationTimestamp", type_="date"),
        _column("Reason", _ready("reason"), wide=True),
    ),
)
SESSION = Kind(
    name="ComputeSession",
    plural="computesessions",
    short_names=("csess",),
    description="One person's running copy of a FlowEnvironment: a pod with the environment's image, packages and flow folder,"
    " deleted when nobody uses it.",
    spec=ComputeSessionSpec,
    status=ComputeSessionStatus,
    columns=(
        _column("User", ".spec.user"),
        _column("Environment", ".spec.environmentRef.name"),
        _column("Size", ".status.vmSize"),
        _column("Status", ".status.phase"),
        _column("Reason", ".status.reason", description="Why it is not Running; `kubectl describe` has the message."),
        _column("Expires", ".status.expiresAt", description="When idleness would end the session, as last observed."),
        _column("Age", ".metadata.creationTimestamp", type_="date"),
        _column("Node", ".status.nodeName", wide=True),
        _column("Image", ".status.baseImage", wide=True),
        _column("Packages", ".status.packages.count", type_="integer", wide=True),
        _COST,
    ),
    selectable=(".spec.user", ".spec.environmentRef.name", ".status.phase"),
)
SIZE = Kind(
    name="VMSize",
    plural="vmsizes",
    short_names=("vmsize",),
    description="An Azure VM size: which nodes have it, a session's share of such a node, and its price.",
    spec=VMSizeSpec,
    status=VMSizeStatus,
    columns=(
        _column("CPU", ".spec.capacity.cpu"),
        _column("Memory", ".spec.capacity.memory"),
        _column("Price", ".spec.pricePerHour", description="Of a node, per hour."),
        _column("Nodes", ".status.nodes", type_="integer"),
        _column("Sessions", ".status.sessions", type_="integer"),
        _column("Available", '.status.conditions[?(@.type=="Available")].reason'),
        _column("Age", ".metadata.creationTimestamp", type_="date"),
        _column("Per Node", ".spec.sessionsPerNode", type_="integer", wide=True),
        _column("Isolation", ".spec.userIsolation", wide=True),
        _column("Auto", ".spec.autoSelect", type_="boolean", wide=True),
    ),
    cluster_wide=True,
    rules=(NAME_RULE,),
)
INSTANCE = Kind(
    name="ComputeInstance",
    plural="computeinstances",
    short_names=("cinst",),
    description="One person's own machine: a node of a VM size, reserved for as long as the instance runs, whose sessions share it.",
    spec=ComputeInstanceSpec,
    status=ComputeInstanceStatus,
    columns=(
        _column("User", ".spec.user"),
        _column("Size", ".spec.vmSize"),
        _column("Status", ".status.phase"),
        _column("Sessions", ".status.sessions", type_="integer"),
        _column("Last Activity", ".status.lastActivityAt", type_="date", description="How long ago, as last observed."),
        _column("Age", ".metadata.creationTimestamp", type_="date"),
        _column("Reason", _ready("reason"), wide=True),
        _column("Node", ".status.nodeName", wide=True),
        _COST,
    ),
)
RUN = Kind(
    name="FlowRun",
    plural="flowruns",
    short_names=("frun",),
    description="An environment's flow, run once over a file of data in a session of its user; its outputs are kept.",
    spec=FlowRunSpec,
    status=FlowRunStatus,
    columns=(
        _column("User", ".spec.user"),
        _column("Environment", ".spec.environmentRef.name"),
        _column("Session", ".status.sessionName"),
        _column("Phase", ".status.phase"),
        _column("Lines", ".status.progress"),
        _column("Duration", ".status.duration"),
        _column("Age", ".metadata.creationTimestamp", type_="date"),
        _column("Reason", '.status.conditions[?(@.type=="Complete")].reason', wide=True),
    ),
    selectable=(".spec.user", ".spec.environmentRef.name", ".status.phase"),
)
KINDS = (ENVIRONMENT, SESSION, SIZE, INSTANCE, RUN)


def definition(kind: Kind) -> dict[str, Any]:
    """Return the CustomResourceDefinition of a kind."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": kind.plural,
                "singular": kind.name.lower(),
                "shortNames": list(kind.short_names),
                "categories": ["flowsession"],
            },
            "scope": "Cluster" if kind.cluster_wide else "Namespaced",
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": list(kind.columns),
                    **({"selectableFields": [{"jsonPath": path} for path in kind.selectable]} if kind.selectable else {}),
                    "schema": {"openAPIV3Schema": _root(kind)},
                }
            ],
        },
    }


def _root(kind: Kind) -> dict[str, Any]:
    spec = with_limits(structural(kind.spec))
    if not spec.get("required"):
        spec["default"] = {}
    return {
        "type": "object",
        "description": kind.description,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": {**spec, "description": (kind.spec.__doc__ or "").strip()},
            "status": {**with_limits(structural(kind.status, defaults=False)), "description": (kind.status.__doc__ or "").strip()},
        },
        "x-kubernetes-validations": [
            rule(
                f"self.metadata.name.size() <= {LONGEST_NAME}",
                f"metadata.name must have at most {LONGEST_NAME} characters: names of pods are made from it",
            ),
            *kind.rules,
        ],
    }


def render(kind: Kind) -> str:
    """Return the text of the file."""
    body = yaml.safe_dump(definition(kind), sort_keys=False, width=140, allow_unicode=True)
    return f"# Generated by `make crds` from operator/flowsession/api. Do not edit.\n{body}"


def files(checkout: Path) -> dict[Path, str]:
    """Return all generated files with their texts: crds/ for kubectl, the chart's copy, and the chart's admission policies."""
    made = {
        checkout / folder / f"{kind.plural}.yaml": render(kind) for kind in KINDS for folder in ("crds", "charts/flowsession/files/crds")
    }
    for kind in KINDS:
        if (text := policies.render(kind.name, kind.plural, structural(kind.spec))) is not None:
            made[checkout / "charts/flowsession/files/policies" / f"{kind.plural}.yaml"] = text
    for name, text in mutations.files(structural(ENVIRONMENT.spec)).items():
        made[checkout / "charts/flowsession/files/mutations" / name] = text
    return made


def main(arguments: list[str]) -> int:
    """Write the files; with --check, name the stale ones and return 1."""
    stale = [(path, text) for path, text in files(Path.cwd()).items() if not path.exists() or path.read_text() != text]
    if "--check" in arguments:
        for path, _ in stale:
            print(f"{path.relative_to(Path.cwd())} is stale: run `make crds` and commit the result", file=sys.stderr)
        return 1 if stale else 0
    for path, text in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        print(f"wrote {path.relative_to(Path.cwd())}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
