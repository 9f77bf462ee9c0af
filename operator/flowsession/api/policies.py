"""The ValidatingAdmissionPolicies: users may refer only to objects that they may read, and act for others only if they have the right to.

Fields that refer to objects are found in the models by their names, so that a new one can't be forgotten. The API server allows two
authorization checks in an expression and 28 in a policy (cost.go of k8s.io/apiserver), hence one validation for each name, and at most MOST
names. The right to all objects of the namespace is checked once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from flowsession.api import GROUP, VERSION
from flowsession.api.schema import Schema

MOST = 8
"""Different objects of one resource that a list may name, for users who may not read all of the namespace."""

MOST_CHECKS = 27
"""Maximum number of authorization checks in a policy, a little less than the API server allows."""

ADMINISTER = "administer"
"""The verb on flowenvironments for users who administer the environments that the platform owns."""

UNGUARDED = {
    "ComputeSession": ("compute", "idle", "maxLifetimeSeconds", "onChange", "startTimeoutSeconds", "suspend"),
    "ComputeInstance": ("idle", "running"),
    "FlowRun": ("cancel", "description", "displayName", "tags", "timeoutSeconds", "ttlSecondsAfterFinished"),
}
"""Fields that can't disclose anything of a session, so everybody who may write the object may change them. All others decide what runs with
the Secrets and under which identity: changing them requires the rights to everything that the object refers to."""

_KINDS = {
    "secrets": ("Secret", "get"),
    "configmaps": ("ConfigMap", "get"),
    "persistentvolumeclaims": ("PersistentVolumeClaim", "get"),
    "serviceaccounts": ("ServiceAccount", "impersonate"),
}
_BY_ENDING = {"SecretName": "secrets", "ConfigMapName": "configmaps"}
_BY_NAME = {
    "claimName": "persistentvolumeclaims",
    "serviceAccountName": "serviceaccounts",
    "secretName": "secrets",
    "connections": "secrets",
}
_BY_OBJECT = {"secretKeyRef": "secrets", "secretRef": "secrets", "configMap": "configmaps", "configMapKeyRef": "configmaps"}

Path = tuple[str, ...]
"""Names of members, and "[]" for the items of a list."""


@dataclass(frozen=True)
class Reference:
    """A field that names an object of the same namespace."""

    path: Path
    resource: str
    most: int = MOST
    """Different objects that are checked one by one, of a list."""

    @property
    def listed(self) -> bool:
        """Whether the field may name several objects."""
        return "[]" in self.path


def references(spec: Schema, path: Path = (), resource: str = "", most: int = MOST) -> Iterator[Reference]:
    """Yield each field of a spec's structural schema that names a Secret, ConfigMap, claim or ServiceAccount."""
    if spec["type"] == "string" and resource:
        yield Reference(path, resource, most)
    if "items" in spec:
        yield from references(spec["items"], (*path, "[]"), resource, min(MOST, spec.get("maxItems", MOST) + 1))
    for name, member in spec.get("properties", {}).items():
        yield from references(member, (*path, name), _resource(path, name), most)


def identities(spec: Schema, path: Path = ()) -> Iterator[Path]:
    """Yield each place in a spec that asks for an identity."""
    if {"serviceAccountName", "clientID"} <= spec.get("properties", {}).keys():
        yield path
    for name, member in spec.get("properties", {}).items():
        yield from identities(member, (*path, name))


def policy(kind: str, plural: str, spec: Schema) -> dict[str, Any] | None:
    """Return the policy for a kind with this spec, or None if the spec refers to nothing."""
    found = list(references(spec))
    if not found and "user" not in spec["properties"]:
        return None
    variables = [{"name": "guarded", "expression": _guarded(kind, spec)}]
    validations: list[dict[str, str]] = []
    checks = 0
    if "user" in spec["properties"]:
        variables.append({"name": "asked", "expression": _ASKED.format(ends="-requested-at")})
        validations.append(_USER)
        checks += 1
    if "owner" in spec["properties"]:
        variables.append({"name": "asked", "expression": _ASKED.format(ends="update-requested-at")})
        variables.append({"name": "owns", "expression": _OWNS})
        validations += _OWNER
        checks += 2
    for resource in _KINDS:
        of_this = [reference for reference in found if reference.resource == resource]
        if of_this:
            most = sum(reference.most if reference.listed else 2 for reference in of_this)  # before and after a change
            variables += _names(resource, of_this, most)
            validations += _allowed(resource, most, bounded=any(reference.listed for reference in of_this))
            checks += most + 1
    validations += [_of_unnamed(path) for path in identities(spec)]
    if checks > MOST_CHECKS:
        raise ValueError(f"{kind}: {checks} authorization checks are more than an API server makes for a policy")
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": plural},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
                "resourceRules": [
                    {"apiGroups": [GROUP], "apiVersions": [VERSION], "operations": ["CREATE", "UPDATE"], "resources": [plural]}
                ]
            },
            "variables": variables,
            "validations": [_validation(**validation) for validation in validations],
        },
    }


def _validation(expression: str, when: str = "variables.guarded", **messages: str) -> dict[str, str]:
    return {"expression": f"!{when} || {expression}", **messages, "reason": "Forbidden"}


def render(kind: str, plural: str, spec: Schema) -> str | None:
    """Return the text of the file."""
    made = policy(kind, plural, spec)
    if made is None:
        return None
    body = yaml.safe_dump(made, sort_keys=False, width=140, allow_unicode=True)
    return f"# Generated by `make crds` from operator/flowsession/api. Do not edit.\n{body}"


def _resource(path: Path, name: str) -> str:
    if name == "name" and path:
        return _BY_OBJECT.get(path[-1], "")
    return _BY_NAME.get(name, "") or next((resource for ending, resource in _BY_ENDING.items() if name.endswith(ending)), "")


def _guarded(kind: str, spec: Schema) -> str:
    """Return the condition that the guarded part of the spec has changed: removing a finalizer, or applying the same spec again, needs no
    rights."""
    fields = [name for name in spec["properties"] if name not in UNGUARDED.get(kind, ())]
    return " || ".join(["request.operation == 'CREATE'", *(f"object.spec.?{name} != oldObject.spec.?{name}" for name in fields)])


def _names(resource: str, found: list[Reference], most: int) -> list[dict[str, str]]:
    """Return the variables: whether the requester has the right to all objects, then the list of names, then that list without its first
    name, and so on.

    Names from before a change count too: removing a reference also changes what runs.
    """
    verb, now = _KINDS[resource][1], " + ".join(_collected(reference.path, "object") for reference in found)
    before = " + ".join(_collected(reference.path, "oldObject") for reference in found)
    collected = f"{now} + (request.operation == 'UPDATE' ? {before} : [])"
    made = [
        {"name": f"any_{resource}", "expression": f"{_check(resource)}.check('{verb}').allowed()"},
        {"name": f"{resource}_0", "expression": f"({collected}).filter(name, name != '')"},
    ]
    for number in range(most):
        names = f"variables.{resource}_{number}"
        expression = f"{names}.size() == 0 ? {names} : {names}.filter(name, name != {names}[0])"
        made.append({"name": f"{resource}_{number + 1}", "expression": expression})
    return made


def _collected(path: Path, where: str) -> str:
    """Return a CEL list of what the path names in the spec of `where`."""
    if "[]" not in path:
        return f"[{where}.spec{_optional(path)}.orValue('')]"
    at = path.index("[]")
    items, rest = f"{where}.spec{_optional(path[:at])}.orValue([])", path[at + 1 :]
    if "[]" in rest:
        raise ValueError(f"{'.'.join(path)}: lists in lists are not collected")
    return f"{items}.map(item, item{_optional(rest)}.orValue(''))" if rest else items


def _optional(path: Path) -> str:
    return "".join(f".?{name}" for name in path)


def _check(resource: str) -> str:
    return f"authorizer.group('').resource('{resource}').namespace(request.namespace)"


def _allowed(resource: str, most: int, *, bounded: bool) -> list[dict[str, str]]:
    kind, verb = _KINDS[resource]
    made = []
    for number in range(most):
        names = f"variables.{resource}_{number}"
        allowed = f"{_check(resource)}.name({names}[0]).check('{verb}').allowed()"
        message = (
            f"'spec names {kind} ' + {names}[0] + ', and ' + request.userInfo.username + ' may not {verb} it in namespace ' +"
            f" request.namespace + ': have the verb {verb} on {resource} granted, or name another one'"
        )
        made.append(
            {
                "expression": f"{names}.size() == 0 || variables.any_{resource} || {allowed}",
                "message": f"spec names a {kind} that you may not {verb}",
                "messageExpression": f"{names}.size() == 0 ? '' : {message}",
            }
        )
    if bounded:
        made.append(
            {
                "expression": f"variables.{resource}_{most}.size() == 0 || variables.any_{resource}",
                "message": f"spec names more than {most} different {kind}s, too many to check one by one: name fewer of them,"
                f" or have the verb {verb} granted on all {resource} of the namespace",
            }
        )
    return made


def _of_unnamed(path: Path) -> dict[str, str]:
    place = f"object.spec{_optional(path)}"
    where = ".".join(("spec", *path))
    return {
        "expression": f"{place}.?type.orValue('') != 'Managed' || {place}.?serviceAccountName.hasValue() || variables.any_serviceaccounts",
        "message": f"{where} of type Managed without serviceAccountName is for those who may impersonate every ServiceAccount of the"
        f" namespace: name one in {where}.serviceAccountName that you may impersonate",
    }


_ASKED = (
    "object.metadata.?annotations.orValue({{}}).exists(name, name.startsWith('"
    + GROUP
    + "/') && name.endsWith('{ends}') && (request.operation == 'CREATE'"
    " || object.metadata.annotations[name] != oldObject.metadata.?annotations[?name].orValue('')))"
    " || (request.operation == 'UPDATE' && oldObject.metadata.?annotations.orValue({{}}).exists(name, name.startsWith('"
    + GROUP
    + "/') && name.endsWith('{ends}') && !(name in object.metadata.?annotations.orValue({{}}))))"
)
"""Whether a request annotation is added, changed or removed."""

_OWNS = (
    "object.spec.?owner.orValue('') in ['', request.userInfo.username]"
    " || authorizer.group('').resource('users').name(object.spec.owner).check('impersonate').allowed()"
)
"""Whether the requester is the owner or may act for them, or there is no owner."""

_OWNER = [
    {
        "when": "(variables.guarded || variables.asked)",
        "expression": "object.spec.?owner.orValue('-') != ''"
        f" || authorizer.group('{GROUP}').resource('flowenvironments').namespace(request.namespace).check('{ADMINISTER}').allowed()",
        "message": "spec.owner is empty, so the environment is the platform's own: leave owner out and it becomes yours, or have the verb"
        f" {ADMINISTER} on flowenvironments granted",
    },
    {
        "when": "((request.operation == 'CREATE' && variables.guarded) || variables.asked)",
        "expression": "variables.owns",
        "message": "spec.owner is somebody else, whom you may not act for",
        "messageExpression": "'spec.owner is ' + object.spec.?owner.orValue('') + ', and ' + request.userInfo.username"
        " + ' may not act for them: leave owner out and it becomes yours, or have the verb impersonate on users granted with that name'",
    },
]

_USER = {
    "when": "(variables.guarded || variables.asked)",
    "expression": "object.spec.user == request.userInfo.username"
    " || authorizer.group('').resource('users').name(object.spec.user).check('impersonate').allowed()",
    "message": "spec.user is somebody else, whom you may not act for",
    "messageExpression": "'spec.user is ' + object.spec.user + ', and ' + request.userInfo.username + ' may not act for them: '"
    " + (request.operation == 'CREATE' ? 'set it to ' + request.userInfo.username + ', or have' : 'have')"
    " + ' the verb impersonate on users granted with that name'",
}
