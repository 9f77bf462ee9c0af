"""The generated admission policies: they cover every field that refers to an object, recognized by the field's name."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from flowsession.api import crds, mutations, policies
from flowsession.api.schema import structural

CHECKOUT = Path(__file__).parents[3]
KINDS = pytest.mark.parametrize("kind", crds.KINDS, ids=lambda kind: kind.name)
OF_OUR_OWN = {"environmentRef.name", "compute.instanceRef.name", "sessionRef.name", "run", "resumeFrom", "resources.compute"}
"""Fields that name objects of our own kinds, which the operator itself checks."""


def leaves(schema: dict[str, Any], path: tuple[str, ...] = ()) -> dict[str, dict[str, Any]]:
    """Return every string in a spec, by its path."""
    found = {".".join(path): schema} if schema["type"] == "string" else {}
    if "items" in schema:
        found |= leaves(schema["items"], (*path, "[]"))
    for name, member in schema.get("properties", {}).items():
        found |= leaves(member, (*path, name))
    return found


def references_of(kind: crds.Kind) -> dict[str, str]:
    return {".".join(found.path): found.resource for found in policies.references(structural(kind.spec))}


def test_what_is_referred_to():
    assert {kind.name: references_of(kind) for kind in crds.KINDS if references_of(kind)} == {
        "FlowEnvironment": {
            "source.configMap.name": "configmaps",
            "source.archive.configMap.name": "configmaps",
            "source.git.credentialsSecretName": "secrets",
            "source.persistentVolumeClaim.claimName": "persistentvolumeclaims",
            "connections.[].secretName": "secrets",
            "installer.credentialsSecretName": "secrets",
            "tracing.headersSecretName": "secrets",
            "installer.caBundleConfigMapName": "configmaps",
        },
        "ComputeSession": {
            "identity.serviceAccountName": "serviceaccounts",
            "env.[].valueFrom.secretKeyRef.name": "secrets",
            "env.[].valueFrom.configMapKeyRef.name": "configmaps",
            "claims.[].claimName": "persistentvolumeclaims",
        },
        "ComputeInstance": {"identity.serviceAccountName": "serviceaccounts"},
        "FlowRun": {
            "identity.serviceAccountName": "serviceaccounts",
            "data.configMap.name": "configmaps",
            "data.persistentVolumeClaim.claimName": "persistentvolumeclaims",
            "outputs.persistentVolumeClaim.claimName": "persistentvolumeclaims",
        },
    }


@KINDS
def test_a_field_that_holds_an_objects_name_is_a_reference(kind):
    """A new field with an unrecognized name fails here: rename it so that policies.py knows it, or teach policies.py its name."""
    pattern = structural_pattern()
    named = {path for path, leaf in leaves(structural(kind.spec)).items() if leaf.get("pattern") == pattern}
    ends = re.compile(r"(configMap|[sS]ecret|claim|[sS]erviceAccount)(Name|\.name)?$", re.IGNORECASE)
    named |= {path for path in leaves(structural(kind.spec)) if ends.search(path)}
    assert named - OF_OUR_OWN <= references_of(kind).keys()


def structural_pattern() -> str:
    (leaf,) = [leaf for path, leaf in leaves(structural(crds.SESSION.spec)).items() if path == "environmentRef.name"]
    return str(leaf["pattern"])


@pytest.mark.parametrize(
    ("properties", "found"),
    [
        ({"credentialsSecretName": "string"}, {("credentialsSecretName",): "secrets"}),
        ({"git": {"credentialsSecretName": "string", "url": "string"}}, {("git", "credentialsSecretName"): "secrets"}),
        ({"connections": ["string"]}, {("connections", "[]"): "secrets"}),
        (
            {"persistentVolumeClaim": {"claimName": "string", "path": "string"}},
            {("persistentVolumeClaim", "claimName"): "persistentvolumeclaims"},
        ),
        ({"warmPool": {"identity": {"serviceAccountName": "string"}}}, {("warmPool", "identity", "serviceAccountName"): "serviceaccounts"}),
        ({"name": "string", "environmentRef": {"name": "string"}}, {}),
    ],
)
def test_fields_are_known_by_their_names(properties, found):
    assert {one.path: one.resource for one in policies.references(schema(properties))} == found


def schema(shape: Any) -> dict[str, Any]:
    """Return a shape like {"a": "string", "b": ["string"]} as a structural schema."""
    if isinstance(shape, dict):
        return {"type": "object", "properties": {name: schema(member) for name, member in shape.items()}}
    if isinstance(shape, list):
        return {"type": "array", "items": schema(shape[0])}
    return {"type": shape}


def test_more_checks_than_an_api_server_makes_are_refused_when_the_policy_is_made():
    lists = {f"{name}SecretName": ["string"] for name in ("a", "b", "c", "d")}
    with pytest.raises(ValueError, match="more than an API server makes"):
        policies.policy("Thing", "things", schema(lists))


def test_lists_in_lists_are_refused():
    with pytest.raises(ValueError, match="lists in lists"):
        policies.policy("Thing", "things", schema({"a": [{"connections": ["string"]}]}))


def test_a_kind_without_references_has_no_policy():
    assert policies.render("VMSize", "vmsizes", structural(crds.SIZE.spec)) is None


@KINDS
def test_what_is_unguarded_is_a_field(kind):
    assert set(policies.UNGUARDED.get(kind.name, ())) <= structural(kind.spec)["properties"].keys()


def test_a_new_field_is_guarded_until_somebody_says_otherwise():
    made = policies.policy("ComputeSession", "computesessions", schema({"user": "string", "brandNew": "string", "suspend": "boolean"}))
    assert made is not None
    guarded = made["spec"]["variables"][0]["expression"]
    assert "object.spec.?brandNew != oldObject.spec.?brandNew" in guarded
    assert "suspend" not in guarded


def test_the_policies_fail_closed_and_speak_to_people():
    for file in sorted((CHECKOUT / "charts/flowsession/files/policies").glob("*.yaml")):
        spec = yaml.safe_load(file.read_text())["spec"]
        assert spec["failurePolicy"] == "Fail"
        for validation in spec["validations"]:
            assert re.match(r"!(variables\.guarded|\(.*variables\.guarded\b.*?\)) \|\| ", validation["expression"]), file
            assert validation["message"] and validation["reason"] == "Forbidden", file


# -- who changed what


def test_each_field_of_an_environment_is_noted_or_said_to_bring_nothing_into_a_session():
    fields = structural(crds.ENVIRONMENT.spec)["properties"].keys()
    assert set(mutations.NO_CONTENT) <= fields
    noted = {variable["name"].removeprefix("by_") for variable in mutations.changes(structural(crds.ENVIRONMENT.spec))["spec"]["variables"]}
    assert noted - {"owner"} == fields - set(mutations.NO_CONTENT)


def test_the_policies_that_note_changes_fail_closed():
    files = sorted((CHECKOUT / "charts/flowsession/files/mutations").glob("*.yaml"))
    assert [file.stem for file in files] == ["changed-by", "owner", "source-changed-by"]
    for file in files:
        assert yaml.safe_load(file.read_text())["spec"]["failurePolicy"] == "Fail"
