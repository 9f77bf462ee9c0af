"""The package cache's pod, as Helm renders it, and how the cache itself parses its command."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flowsession_cache import __main__ as program

CHART = Path(__file__).resolve().parents[2] / "charts" / "flowsession"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"

Manifest = dict[str, Any]
Render = Callable[..., list[Manifest]]


def named(manifests: list[Manifest], kind: str, name: str = "flowsession-packages") -> Manifest | None:
    return next((found for found in manifests if (found["kind"], found["metadata"]["name"]) == (kind, name)), None)


def pod(manifests: list[Manifest]) -> Manifest:
    deployment = named(manifests, "Deployment")
    assert deployment
    template: Manifest = deployment["spec"]["template"]
    return template


def test_there_is_none_unless_asked_for(render: Render) -> None:
    assert not any(found["metadata"]["name"] == "flowsession-packages" for found in render())


def test_the_cache_understands_its_command(render: Render, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"packageCache": {"enabled": True, "size": "3Gi", "indexURLs": ["https://a.example/simple", "https://b.example/simple"]}}
    (container,) = pod(render({**values, "installer": {"caBundle": CERTIFICATE}}))["spec"]["containers"]
    assert container["command"] == ["python3", "-m", "flowsession_cache"]
    monkeypatch.setattr("sys.argv", ["flowsession_cache", *container["args"]])
    understood = program.arguments()
    assert (understood.index, understood.limit) == (["https://a.example/simple", "https://b.example/simple"], 3 * 1024**3)
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert str(understood.folder) == mounts["cache"]
    assert str(understood.ca_bundle) == f"{mounts['ca']}/ca.crt"
    assert container["ports"] == [{"name": "http", "containerPort": understood.port}]


def test_it_is_restricted_has_no_token_and_one_folder(render: Render) -> None:
    spec = pod(render({"packageCache": {"enabled": True}}))["spec"]
    (container,) = spec["containers"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["volumes"] == [{"name": "cache", "emptyDir": {}}]
    claimed = pod(render({"packageCache": {"enabled": True, "existingClaim": "packages"}}))["spec"]["volumes"]
    assert claimed == [{"name": "cache", "persistentVolumeClaim": {"claimName": "packages"}}]


def test_its_service_finds_it_and_the_operator_s_does_not_matter(render: Render) -> None:
    manifests = render({"packageCache": {"enabled": True}})
    service, operator = named(manifests, "Service"), named(manifests, "Deployment", "flowsession")
    assert service
    assert operator
    labels = pod(manifests)["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert not operator["spec"]["selector"]["matchLabels"].items() <= labels.items()


@pytest.mark.parametrize(
    "values",
    [
        {"indexURLs": ["https://user:secret@pypi.example.com/simple"]},
        {"indexURLs": ["https://{private}@pypi.example.com/simple"]},
        {"indexURLs": ["file:///srv"]},
        {"indexURLs": []},
        {"size": "lots"},
        {"unknown": 1},
    ],
)
def test_what_it_can_not_be_is_refused(helm: Callable[..., Any], tmp_path: Path, values: Manifest) -> None:
    import json

    file = tmp_path / "values.json"
    file.write_text(json.dumps({"packageCache": {"enabled": True, **values}}))
    result = helm("template", "flowsession", str(CHART), "--values", str(file))
    assert result.returncode != 0
    assert "packageCache" in result.stderr
