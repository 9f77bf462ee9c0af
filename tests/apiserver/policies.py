"""The chart's templates as Helm renders them, and checks that its admission policies are in force."""

import subprocess
from collections.abc import Sequence
from typing import Any

import yaml

from apiserver.api import FLOWSESSION, Api, Object, Refused
from apiserver.operator_process import CHECKOUT, NAMESPACE
from flowsession.api import mutations
from localcluster import binaries

STRANGER = "stranger@example.com"
USER_ROLE = "flowsession-edit"
_SOMEBODY = {"user": "somebody@example.com"}
_PROBES: tuple[tuple[str, str, Object], ...] = (
    ("ComputeSession", "computesessions", {"environmentRef": {"name": "env"}, **_SOMEBODY}),
    ("ComputeInstance", "computeinstances", {"vmSize": "Standard_D2s_v5", **_SOMEBODY}),
    ("FlowRun", "flowruns", {"environmentRef": {"name": "env"}, "data": {"path": "d.jsonl"}, **_SOMEBODY}),
    ("FlowEnvironment", "flowenvironments", {"source": {"configMap": {"name": "theirs"}}}),
)


def rendered(*templates: str) -> list[Object]:
    """Return the objects that Helm renders from these templates of the chart."""
    binaries.build(binaries.HELM)
    command = [str(binaries.HELM.binary("helm")), "template", "flowsession", str(CHECKOUT / "charts" / "flowsession"), "-n", NAMESPACE]
    for template in templates:
        command += ["-s", f"templates/{template}.yaml"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [document for document in yaml.safe_load_all(text) if document]


def bind(api: Api, user: str, role: str, namespace: str) -> None:
    """Bind a ClusterRole to a user in one namespace."""
    body = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"generateName": f"{role}-"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    }
    api.post(f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings", body)


def in_force(api: Api) -> Sequence[bool]:
    """Return, for each policy, whether it is in force for a stranger who may only create our objects: whether it refuses a bad one,
    fills in the user or owner, and removes forged annotations."""
    stranger = api.acting_for(STRANGER)
    return [*(_refused(stranger, *probe) for probe in _PROBES), _filled(stranger), *_owned_and_noted(stranger)]


def _dry_run(api: Api, kind: str, plural: str, spec: Object, **meta: Any) -> Object:
    body = {"apiVersion": "flowsession.dev/v1alpha1", "kind": kind, "metadata": {"name": "probe", **meta}, "spec": spec}
    answer: Object = api.post(f"{FLOWSESSION}/namespaces/{NAMESPACE}/{plural}?dryRun=All", body)
    return answer


def _refused(stranger: Api, kind: str, plural: str, spec: Object) -> bool:
    try:
        _dry_run(stranger, kind, plural, spec)
    except Refused as refused:
        return "ValidatingAdmissionPolicy" in refused.message
    return False


def _filled(stranger: Api) -> bool:
    try:
        made = _dry_run(stranger, "ComputeSession", "computesessions", {"environmentRef": {"name": "env"}})
    except Refused:
        return False
    return bool(made["spec"]["user"] == STRANGER)


def _owned_and_noted(stranger: Api) -> Sequence[bool]:
    """Return whether an environment gets its owner, and whether the API server drops a forged record of its changes."""
    forged = {f"{mutations.CHANGED_BY_FIELD}source": "somebody"}
    try:
        made = _dry_run(stranger, "FlowEnvironment", "flowenvironments", {}, annotations=forged)
    except Refused:  # also while the policies do not know our kinds yet
        return [False, False]
    return [made["spec"].get("owner") == STRANGER, forged.items().isdisjoint((made["metadata"].get("annotations") or {}).items())]
