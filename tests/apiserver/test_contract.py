"""How the API server itself presents our kinds: columns, documentation, defaults, and refusals that people understand."""

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from apiserver.api import FLOWSESSION, Api, Refused, eventually
from apiserver.conftest import Cluster
from apiserver.lab import refusal

SESSION = {"environmentRef": {"name": "env"}, "user": "ada@example.com"}


@pytest.fixture(scope="module")
def api(cluster: Cluster) -> Iterator[Api]:
    cluster.api.post("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "contract"}})
    yield cluster.api
    cluster.api.delete("/api/v1/namespaces/contract")


def _post(api: Api, kind: str, name: str, spec: Any) -> Any:
    body = {"apiVersion": "flowsession.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}
    return api.post(f"{FLOWSESSION}/namespaces/contract/{kind.lower()}s?fieldValidation=Strict&dryRun=All", body)


def _session(api: Api, *, name: str = "ada", **spec: Any) -> Any:
    return _post(api, "ComputeSession", name, SESSION | spec)


def _environment(api: Api, *, name: str = "env", **spec: Any) -> Any:
    return _post(api, "FlowEnvironment", name, spec)


def test_the_columns_of_a_session(api: Api) -> None:
    path = f"{FLOWSESSION}/namespaces/contract/computesessions"
    api.post(path, {"apiVersion": "flowsession.dev/v1alpha1", "kind": "ComputeSession", "metadata": {"name": "shown"}, "spec": SESSION})
    status = {"phase": "Running", "vmSize": "small", "expiresAt": "2030-01-01T00:00:00Z"}
    api.patch(f"{path}/shown/status", {"status": status})
    table = api.call("GET", path, accept="application/json;as=Table;v=v1;g=meta.k8s.io")
    titles = [column["name"] for column in table["columnDefinitions"] if column["priority"] == 0]
    assert titles == ["Name", "User", "Environment", "Size", "Status", "Reason", "Expires", "Age"]
    cells = dict(zip((c["name"] for c in table["columnDefinitions"]), table["rows"][0]["cells"], strict=True))
    assert {"User": "ada@example.com", "Environment": "env", "Size": "small", "Status": "Running"}.items() <= cells.items()
    assert cells["Expires"] == "2030-01-01T00:00:00Z"
    wide = [column["name"] for column in table["columnDefinitions"] if column["priority"] > 0]
    assert {"Node", "Image", "Packages"} <= set(wide)


def test_the_columns_of_an_environment(api: Api) -> None:
    table = api.call("GET", f"{FLOWSESSION}/flowenvironments", accept="application/json;as=Table;v=v1;g=meta.k8s.io")
    titles = [column["name"] for column in table["columnDefinitions"] if column["priority"] == 0]
    assert titles == ["Name", "Ready", "Image", "Requirements", "Sessions", "Age"]


@pytest.mark.parametrize(
    "field",
    [
        "computesession",
        "computesession.spec",
        "computesession.spec.user",
        "computesession.spec.environmentRef",
        "computesession.spec.idle.timeoutSeconds",
        "computesession.spec.env",
        "computesession.spec.podMetadata",
        "computesession.status.conditions",
        "computesession.status.expiresAt",
        "flowenvironment.spec.source.configMap",
        "flowenvironment.spec.source.configMap.items",
        "flowenvironment.spec.source.archive.configMap",
        "flowenvironment.spec.source.git",
        "flowenvironment.spec.source.persistentVolumeClaim",
        "flowenvironment.spec.source.ociArtifact",
        "computesession.spec.identity",
        "flowenvironment.spec.baseImage",
        "flowenvironment.spec.requirementsText",
        "flowenvironment.spec.installer.indexURL",
        "flowenvironment.status.packagesRevision",
    ],
)
def test_kubectl_explain_is_the_documentation(cluster: Cluster, field: str) -> None:
    def explained() -> subprocess.CompletedProcess[str]:
        found = cluster.kubectl("explain", field)
        assert found.returncode == 0, found.stderr
        return found

    text = eventually(explained).stdout
    description = text.partition("DESCRIPTION:")[2].partition("FIELDS:")[0].strip()
    assert len(description) > 10, text
    assert "<empty>" not in text


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("computesession.spec.idle.timeoutSeconds", "Default: 3600. 5 to 31536000."),
        ("computesession.spec.startTimeoutSeconds", "Default: 600. 10 to 86400."),
        ("computesession.spec.onChange", "Default: Install."),
        ("flowenvironment.spec.installer.extraIndexURLs", "At most 20 items. Each: at most 2048 characters."),
    ],
)
def test_kubectl_explain_tells_defaults_and_limits(cluster: Cluster, field: str, words: str) -> None:
    found = cluster.kubectl("explain", field)
    assert found.returncode == 0, found.stderr
    assert words in " ".join(found.stdout.split())


def test_short_names_and_the_category_work(cluster: Cluster, api: Api) -> None:
    for word in ("csess", "fenv", "flowsession"):
        found = cluster.kubectl("get", word, "-n", "contract")
        assert found.returncode == 0, found.stderr


def test_defaults_are_visible(api: Api) -> None:
    session = _session(api)["spec"]
    assert session["idle"] == {"action": "Delete", "timeoutSeconds": 3600}
    assert session["startTimeoutSeconds"] == 600
    environment = _environment(api)["spec"]
    assert environment["flowPath"] == "."
    assert environment["installer"]["tool"] == "Auto"


def test_an_environment_needs_no_spec_at_all(api: Api) -> None:
    body = {"apiVersion": "flowsession.dev/v1alpha1", "kind": "FlowEnvironment", "metadata": {"name": "bare"}}
    made = api.post(f"{FLOWSESSION}/namespaces/contract/flowenvironments?dryRun=All", body)
    assert made["spec"]["flowPath"] == "."


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"idle": {"timeoutSeconds": 4}}, ["spec.idle.timeoutSeconds", "5"]),
        ({"idle": {"timeoutSeconds": -1}}, ["spec.idle.timeoutSeconds", "5"]),
        ({"idle": {"timeoutSeconds": "1h"}}, ["spec.idle.timeoutSeconds", "integer"]),
        ({"idle": {"timeoutSeconds": 5.5}}, ["spec.idle.timeoutSeconds", "integer"]),
        ({"idle": {"action": "delete"}}, ["spec.idle.action", '"Delete"', '"None"']),
        ({"idle": {"timeout": 60}}, ["unknown field", "spec.idle.timeout"]),
        ({"usr": "ada"}, ["unknown field", "spec.usr"]),
        ({"env": [{"name": "FLOWSESSION_HOME", "value": "/x"}]}, ["FLOWSESSION_", "choose another name"]),
        ({"env": [{"name": "PATH", "value": "/x"}]}, ["HOME, PATH, TMPDIR", "breaks its installs"]),
        ({"env": [{"name": "HOME", "value": "/x"}]}, ["breaks its installs", "under another name"]),
        ({"env": [{"name": "PYTHONPATH", "value": "/x"}]}, ["LD_* and PYTHON*", "in the image"]),
        ({"env": [{"name": "LD_PRELOAD", "value": "/x"}]}, ["LD_* and PYTHON*", "in the image"]),
        ({"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]}, ["Duplicate"]),
        ({"env": [{"name": "A", "value": "1", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}, ["not both"]),
        ({"podMetadata": {"labels": {"flowsession.dev/session": "other"}}}, ["flowsession.dev/", "operator's own"]),
        ({"podMetadata": {"annotations": {"flowsession.dev/user": "eve"}}}, ["flowsession.dev/", "operator's own"]),
        ({"podMetadata": {"labels": {"app.kubernetes.io/managed-by": "me"}}}, ["managed-by", "operator's own"]),
        ({"baseImage": "UPPER:1"}, ["spec.baseImage", "in small letters"]),
        ({"user": ""}, ["spec.user"]),
        ({"environmentRef": {"name": ""}}, ["spec.environmentRef.name"]),
        ({"environmentRef": {"name": "Not A Name"}}, ["spec.environmentRef.name"]),
        ({"startTimeoutSeconds": 0}, ["spec.startTimeoutSeconds", "10"]),
    ],
    ids=lambda value: str(value)[:60] if isinstance(value, dict) else "",
)
def test_a_session_with_a_wrong_field_is_refused(api: Api, spec: Any, words: list[str]) -> None:
    message = refusal(_session, api, **spec)
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"source": {"configMap": {"name": "f", "items": [{"key": "a", "path": "/etc/passwd"}]}}}, ["relative", "'..'"]),
        ({"source": {"configMap": {"name": "f", "items": [{"key": "a", "path": "data/../../x"}]}}}, ["relative", "'..'"]),
        ({"source": {"configMap": {"items": []}}}, ["spec.source.configMap.name", "Required"]),
        (
            {"source": {"configMap": {"name": "f"}, "archive": {"configMap": {"name": "f", "key": "f.zip"}}}},
            ["spec.source", "one of configMap, archive, git, persistentVolumeClaim and ociArtifact, not none or several"],
        ),
        ({"source": {}}, ["spec.source", "not none or several: leave source out where there is no flow folder"]),
        ({"baseImage": "Foo Bar:1"}, ["spec.baseImage", "such as registry.example.com/team/flow:1", "without blanks"]),
        ({"source": {"archive": {"configMap": {"name": "f"}}}}, ["spec.source.archive.configMap.key", "Required"]),
        ({"flowPath": "/flow"}, ["flowPath must be relative"]),
        ({"flowPath": "../flow"}, ["flowPath must be relative"]),
        ({"installer": {"tool": "conda"}}, ["spec.installer.tool", '"Auto"', '"Pip"', '"Uv"']),
        ({"installer": {"timeoutSeconds": 0}}, ["spec.installer.timeoutSeconds"]),
        ({"requirementText": "pandas"}, ["unknown field", "spec.requirementText"]),
    ],
    ids=lambda value: str(value)[:60] if isinstance(value, dict) else "",
)
def test_an_environment_with_a_wrong_field_is_refused(api: Api, spec: Any, words: list[str]) -> None:
    message = refusal(_environment, api, **spec)
    assert all(word in message for word in words), message


@pytest.mark.parametrize("make", [_session, _environment], ids=["session", "environment"])
@pytest.mark.parametrize(
    "image", ["", "python", "Reg.Example.com:5000/a/b_c.d:T", "[::1]:5000/x", f"reg.example.com/a:1@sha256:{'0' * 64}"]
)
def test_images_are_taken_by_whatever_name_they_have(api: Api, make: Any, image: str) -> None:
    assert make(api, baseImage=image)["spec"]["baseImage"] == image


@pytest.mark.parametrize("make", [_session, _environment], ids=["session", "environment"])
def test_a_name_that_is_too_long_is_refused(api: Api, make: Any) -> None:
    message = refusal(make, api, name="a" * 51)
    assert "at most 50 characters" in message
    assert make(api, name="a" * 50)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"user": "eve@example.com"}, "user is immutable"),
        ({"environmentRef": {"name": "another"}}, "environmentRef is immutable"),
    ],
)
def test_whose_session_it_is_and_of_what_is_immutable(api: Api, spec: Any, words: str) -> None:
    path = f"{FLOWSESSION}/namespaces/contract/computesessions"
    body = {"apiVersion": "flowsession.dev/v1alpha1", "kind": "ComputeSession", "metadata": {"generateName": "fixed-"}, "spec": SESSION}
    name = api.post(path, body)["metadata"]["name"]
    assert words in refusal(api.patch, f"{path}/{name}", {"spec": spec})


def test_kubectl_apply_refuses_a_typo_by_name(cluster: Cluster, api: Api) -> None:
    manifest = """
apiVersion: flowsession.dev/v1alpha1
kind: ComputeSession
metadata: {name: typo}
spec: {environmentRef: {name: env}, user: ada, idle: {timeoutSecond: 60}}
"""
    found = cluster.kubectl("apply", "--validate=strict", "-n", "contract", "-f", "-", stdin=manifest)
    assert found.returncode != 0
    assert "timeoutSecond" in found.stderr


def test_users_can_not_write_a_status_with_the_object(api: Api) -> None:
    path = f"{FLOWSESSION}/namespaces/contract/computesessions"
    body = {
        "apiVersion": "flowsession.dev/v1alpha1",
        "kind": "ComputeSession",
        "metadata": {"name": "forged"},
        "spec": SESSION,
        "status": {"phase": "Running"},
    }
    assert "status" not in api.post(path, body)


def test_a_condition_without_its_required_parts_is_refused(api: Api) -> None:
    path = f"{FLOWSESSION}/namespaces/contract/computesessions"
    body = {"apiVersion": "flowsession.dev/v1alpha1", "kind": "ComputeSession", "metadata": {"name": "odd"}, "spec": SESSION}
    api.post(path, body)
    with pytest.raises(Refused, match="Unsupported value"):
        api.patch(
            f"{path}/odd/status",
            {"status": {"conditions": [{"type": "Ready", "status": "Yes", "reason": "R", "lastTransitionTime": "2030-01-01T00:00:00Z"}]}},
        )
