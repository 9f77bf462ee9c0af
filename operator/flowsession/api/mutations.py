"""The MutatingAdmissionPolicies that record who owns an environment, and who last changed it and its sources.

The operator can't see who wrote an object. The policies overwrite these annotations with every write, so nobody can forge them. A user who
may impersonate the owner counts as the owner, since they could write under that name anyway.
"""

from typing import Any

import yaml

from flowsession.api import GROUP, VERSION
from flowsession.api.schema import Schema

CHANGED_BY = f"{GROUP}/changed-by"
"""On a ConfigMap labeled as a source: who changed its content last. Empty: a user who may impersonate all users."""

CHANGED_BY_FIELD = f"{CHANGED_BY}."
"""On an environment, followed by a field of its spec: who changed the field last, if not the owner."""

SOURCE_LABEL = f"{GROUP}/source"

NO_CONTENT = ("minimumCompute", "owner")
"""Fields of an environment that contribute nothing to a session."""

_NOTHING = "optional.none()"
_REQUESTER = "request.userInfo.username"


def owner() -> dict[str, Any]:
    """Return the policy that fills in spec.owner with the requester."""
    absent = {"name": "no-owner", "expression": "!has(object.spec.owner)"}
    owned = {"name": "not-from-before", "expression": "request.operation == 'CREATE' || has(oldObject.spec.owner)"}
    value = f"request.operation == 'CREATE' ? {_REQUESTER} : oldObject.spec.owner"
    patch = f'[JSONPatch{{op: "add", path: "/spec/owner", value: {value}}}]'
    return _policy("owner", _ENVIRONMENTS, [absent, owned], [], patch)


def changes(spec: Schema) -> dict[str, Any]:
    """Return the policy that records who last changed each field of an environment, unless it was the owner."""
    fields = [field for field in spec["properties"] if field not in NO_CONTENT]
    owned = {"name": "owned", "expression": "request.operation == 'CREATE' || oldObject.?spec.?owner.orValue('') != ''"}
    by_owner = f"oldObject.spec.owner == {_REQUESTER} || {_impersonates('.name(oldObject.spec.owner)')}"
    variables = [{"name": "by_owner", "expression": by_owner}]
    patches = []
    for field in fields:
        key = f"{CHANGED_BY_FIELD}{field}"
        same = f"object.spec.?{field} == oldObject.spec.?{field}"
        who = f"variables.by_owner ? {_NOTHING} : optional.of({_REQUESTER})"
        wanted = f"request.operation == 'CREATE' ? {_NOTHING} : {same} ? oldObject.metadata.?annotations[?'{key}'] : {who}"
        variables.append({"name": f"by_{field}", "expression": wanted})
        patches.append(_annotated(key, f"variables.by_{field}"))
    return _policy("changed-by", _ENVIRONMENTS, [owned], variables, _joined(patches))


def source_changes() -> dict[str, Any]:
    """Return the policy that records who last changed the content of each labeled ConfigMap."""
    changed = " || ".join(
        (
            "request.operation == 'CREATE'",
            "object.?data != oldObject.?data",
            "object.?binaryData != oldObject.?binaryData",
            f"oldObject.metadata.?labels[?'{SOURCE_LABEL}'].orValue('') != 'true'",
        )
    )
    who = f"optional.of({_impersonates('')} ? '' : {_REQUESTER})"
    wanted = f"({changed}) ? {who} : oldObject.metadata.?annotations[?'{CHANGED_BY}']"
    variables = [{"name": "by", "expression": wanted}]
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["configmaps"]}
    match = {"resourceRules": [rule], "objectSelector": {"matchLabels": {SOURCE_LABEL: "true"}}}
    return _policy("source-changed-by", match, [], variables, _joined([_annotated(CHANGED_BY, "variables.by")]))


def files(environment: Schema) -> dict[str, str]:
    """Return the text of each file, by its name."""
    return {f"{policy['metadata']['name']}.yaml": _render(policy) for policy in (owner(), changes(environment), source_changes())}


_ENVIRONMENTS = {
    "resourceRules": [
        {"apiGroups": [GROUP], "apiVersions": [VERSION], "operations": ["CREATE", "UPDATE"], "resources": ["flowenvironments"]}
    ]
}


def _impersonates(name: str) -> str:
    return f"authorizer.group('').resource('users'){name}.check('impersonate').allowed()"


def _annotated(key: str, wanted: str) -> str:
    """Return the CEL list of patches that give an annotation the wanted value, an optional string."""
    path = f"/metadata/annotations/{key.replace('/', '~1')}"
    put = f'[JSONPatch{{op: "add", path: "{path}", value: {wanted}.value()}}]'
    take = f'[JSONPatch{{op: "remove", path: "{path}"}}]'
    has = f"object.metadata.?annotations[?'{key}']"
    return f"({has} == {wanted} ? [] : {wanted}.hasValue() ? {put} : {take})"


def _joined(patches: list[str]) -> str:
    """Return the CEL list of all patches, after one that adds `annotations` to an object without any."""
    place = '(has(object.metadata.annotations) ? [] : [JSONPatch{op: "add", path: "/metadata/annotations", value: {}}])'
    return " + ".join([place, *patches])


def _policy(
    name: str, match: dict[str, Any], conditions: list[dict[str, str]], variables: list[dict[str, str]], patch: str
) -> dict[str, Any]:
    """Return a policy without apiVersion, which depends on the cluster."""
    return {
        "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail",
            "reinvocationPolicy": "Never",
            "matchConstraints": match,
            **({"matchConditions": conditions} if conditions else {}),
            **({"variables": variables} if variables else {}),
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": patch}}],
        },
    }


def _render(policy: dict[str, Any]) -> str:
    body = yaml.safe_dump(policy, sort_keys=False, width=140, allow_unicode=True)
    return f"# Generated by `make crds` from operator/flowsession/api. Do not edit.\n{body}"
