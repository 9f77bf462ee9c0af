"""The chart, rendered by the real Helm: the operator's rights, how it runs, its settings, and refused values."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from flowsession import settings

CHECKOUT = Path(__file__).resolve().parents[2]
CHART = CHECKOUT / "charts" / "flowsession"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"

Manifest = dict[str, Any]
Helm = Callable[..., subprocess.CompletedProcess[str]]


def only(manifests: list[Manifest], kind: str, name: str | None = None) -> Manifest:
    found = [m for m in manifests if m["kind"] == kind and name in (None, m["metadata"]["name"])]
    assert len(found) == 1, f"{len(found)} {kind} {name}"
    return found[0]


def settings_of(manifests: list[Manifest], tmp_path: Path) -> settings.Settings:
    """Return the settings as the operator itself loads them."""
    file = tmp_path / "settings.yaml"
    file.write_text(only(manifests, "ConfigMap", "flowsession-settings")["data"]["settings.yaml"])
    return settings.load(file)


def granted(role: Manifest) -> dict[str, set[str]]:
    """Return the verbs by group/resource."""
    verbs: dict[str, set[str]] = {}
    for rule in role["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                verbs.setdefault(f"{group}/{resource}", set()).update(rule["verbs"])
    return verbs


def test_lint_finds_nothing(helm: Helm) -> None:
    result = helm("lint", "--strict", str(CHART))
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_operator_may_do_exactly_this_in_every_namespace(render: Callable[..., list[Manifest]]) -> None:
    """tests/apiserver/test_rbac.py shows that each of these is needed, and nothing else."""
    assert granted(only(render(), "ClusterRole", "flowsession")) == {
        "flowsession.dev/flowenvironments": {"get", "list", "watch"},
        "flowsession.dev/computeinstances": {"get", "list", "watch"},
        "flowsession.dev/flowruns": {"get", "list", "watch", "delete"},
        "flowsession.dev/vmsizes": {"get", "list", "watch"},
        "flowsession.dev/computesessions": {"get", "list", "watch", "create", "delete"},
        "flowsession.dev/flowenvironments/status": {"patch"},
        "flowsession.dev/computesessions/status": {"patch"},
        "flowsession.dev/computeinstances/status": {"patch"},
        "flowsession.dev/flowruns/status": {"patch"},
        "flowsession.dev/vmsizes/status": {"patch"},
        "/pods": {"get", "list", "watch", "create", "patch", "delete"},
        "/nodes": {"list"},
        "/resourcequotas": {"list", "watch"},
        "/serviceaccounts": {"list"},
        "/configmaps": {"get", "list", "watch", "create", "delete"},
        "/events": {"list", "create", "patch"},
        "/secrets": {"get"},
    }


def test_without_the_right_to_feeds_secrets_are_reached_in_the_operators_own_namespace_only_and_read_by_name(
    render: Callable[..., list[Manifest]],
) -> None:
    manifests = render({"installer": {"readFeedSecrets": False}})
    assert "/secrets" not in granted(only(manifests, "ClusterRole", "flowsession"))
    role = only(manifests, "Role")
    assert role["metadata"]["namespace"] == "flowsession-system"
    assert granted(role) == {"/secrets": {"create", "get"}}
    for rule in role["rules"]:
        assert rule["verbs"] == ["create"] or rule["resourceNames"] == ["flowsession-agent-keys", "flowsession-edits-key"]


def test_no_rule_has_a_wildcard(render: Callable[..., list[Manifest]]) -> None:
    roles = [m for m in render() if m["kind"] in {"ClusterRole", "Role"}]
    assert roles
    for role in roles:
        for rule in role["rules"]:
            assert not any("*" in entry for entry in (*rule["apiGroups"], *rule["resources"], *rule["verbs"])), role["metadata"]["name"]


def test_the_clusters_own_roles_are_extended_for_users(render: Callable[..., list[Manifest]]) -> None:
    manifests = render()
    view = only(manifests, "ClusterRole", "flowsession-view")
    edit = only(manifests, "ClusterRole", "flowsession-edit")
    prefix = "rbac.authorization.k8s.io/aggregate-to-"
    aggregated = [{label.removeprefix(prefix) for label in m["metadata"]["labels"] if label.startswith(prefix)} for m in (view, edit)]
    assert aggregated == [{"view"}, {"edit", "admin"}]
    assert all(verbs == {"get", "list", "watch"} for verbs in granted(view).values())
    assert not any("status" in resource for resource in granted(edit)), "a status is the operator's word"


def test_each_admission_policy_is_bound_and_denies(render: Callable[..., list[Manifest]]) -> None:
    """tests/apiserver/test_references.py shows what they refuse."""
    manifests = render()
    kinds = {"computesessions", "computeinstances", "flowenvironments", "flowruns"}
    bound = [m["spec"] for m in manifests if m["kind"] == "ValidatingAdmissionPolicyBinding"]
    assert {spec["policyName"] for spec in bound} == {f"flowsession-{kind}" for kind in kinds}
    assert all(spec["validationActions"] == ["Deny"] and "matchResources" not in spec for spec in bound)
    assert {m["metadata"]["name"] for m in manifests if m["kind"] == "ValidatingAdmissionPolicy"} == {spec["policyName"] for spec in bound}
    assert not any("AdmissionPolicy" in m["kind"] for m in render({"admissionPolicies": {"install": False}}))


@pytest.mark.parametrize(
    ("options", "version"),
    [
        (("--kube-version", "1.36.0"), "v1"),
        (("--kube-version", "1.34.0", "--api-versions", "admissionregistration.k8s.io/v1beta1/MutatingAdmissionPolicy"), "v1beta1"),
        (("--kube-version", "1.34.0"), ""),
    ],
)
def test_users_and_owners_are_filled_in_and_changes_noted_where_the_cluster_can(
    render: Callable[..., list[Manifest]], options: tuple[str, ...], version: str
) -> None:
    found = [m["apiVersion"] for m in render(options=options) if m["kind"].startswith("MutatingAdmissionPolicy")]
    assert found == [f"admissionregistration.k8s.io/{version}"] * (8 if version else 0)


def test_the_operators_pod_passes_restricted_pod_security(render: Callable[..., list[Manifest]]) -> None:
    pod = only(render(), "Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not any(volume.keys() & {"hostPath"} for volume in pod["volumes"])
    assert "limits" in container["resources"]


def test_probes_and_metrics_share_one_named_port(render: Callable[..., list[Manifest]]) -> None:
    (container,) = only(render(), "Deployment")["spec"]["template"]["spec"]["containers"]
    assert container["ports"][0] == {"name": "metrics", "containerPort": 8080}
    paths = {probe: container[probe]["httpGet"] for probe in ("livenessProbe", "readinessProbe")}
    assert paths == {
        "livenessProbe": {"path": "/healthz", "port": "metrics"},
        "readinessProbe": {"path": "/readyz", "port": "metrics"},
    }


def test_sessions_reach_the_operator_for_edits_that_wait_and_for_nothing_else(render: Callable[..., list[Manifest]]) -> None:
    manifests = render(release="team-a")
    service, spec = only(manifests, "Service"), only(manifests, "Deployment")["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert service["spec"]["ports"] == [{"name": "edits", "port": 8081, "protocol": "UDP", "targetPort": "edits"}]
    assert {"name": "edits", "containerPort": 8081, "protocol": "UDP"} in container["ports"]
    assert service["metadata"]["name"] == "team-a-flowsession-edits"
    address = "$(TEAM_A_FLOWSESSION_EDITS_SERVICE_HOST):$(TEAM_A_FLOWSESSION_EDITS_SERVICE_PORT)"
    assert f"--edits-address={address}" in container["args"]
    assert spec["enableServiceLinks"] is True


def test_never_two_operators_at_once(render: Callable[..., list[Manifest]]) -> None:
    spec = only(render(), "Deployment")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})


def test_the_settings_by_default_are_the_operators_own_defaults(render: Callable[..., list[Manifest]], tmp_path: Path) -> None:
    got = settings_of(render(), tmp_path)
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    assert got == settings.Settings(runtime_image=f"flowsession-runtime:{version}")


def test_every_setting_reaches_the_operator(render: Callable[..., list[Manifest]], tmp_path: Path) -> None:
    manifests = render(
        {
            "runtime": {"image": {"repository": "registry.example.com/team/runtime", "tag": "7", "pullPolicy": "Always"}},
            "installer": {
                "tool": "Pip",
                "timeoutSeconds": 60,
                "indexURL": "https://pypi.example.com/simple",
                "extraIndexURLs": ["https://more.example.com/simple"],
                "caBundle": CERTIFICATE,
                "onlyBinary": True,
                "proxy": {"http": "http://proxy:3128", "https": "http://proxy:3129", "noProxy": "10.0.0.0/8"},
                "environment": {"PIP_DEFAULT_TIMEOUT": "60"},
                "identityFeedHosts": ["pypi.example.com", "*.feeds.example.com"],
            },
            "session": {
                "sizeName": "small",
                "requests": {"cpu": 1, "memory": "1Gi"},
                "limits": {"memory": "3Gi"},
                "nodeSelector": {"pool": "sessions"},
                "tolerations": [{"key": "sessions", "operator": "Exists"}],
                "runAsUser": 2000,
                "terminationGracePeriodSeconds": 5,
                "ephemeralStorageLimit": "10Gi",
                "unreachableSeconds": 7200,
                "editsRetentionDays": 30,
                "podMetadata": {"labels": ["team"], "annotations": ["team.example.com/*"]},
            },
            "sizes": {"autoscaler": True, "daemonsetRequests": {"cpu": 1, "memory": "1Gi"}, "maxPodsPerNode": 30},
            "packageCache": {"enabled": True, "indexURLs": ["https://pypi.example.com/simple"]},
            "tracing": {"otlpEndpoint": "http://otel:4318", "headersSecretName": "otlp", "captureMessageContent": False},
            "images": {
                "allowedRegistries": ["reg.example.com", "docker.io/library/*"],
                "checkEverySeconds": 3600,
                "insecureRegistries": ["reg.example.com:5000"],
                "caBundle": CERTIFICATE,
                "credentialsSecretName": "registries",
            },
            "resolver": {"requests": {"cpu": 1, "memory": "32Mi"}, "limits": {"memory": "2Gi"}, "timeoutSeconds": 60},
        }
    )
    assert settings_of(manifests, tmp_path).model_dump(by_alias=True, mode="json") == {
        "runtimeImage": "registry.example.com/team/runtime:7",
        "imagePullPolicy": "Always",
        "agentVia": "Direct",
        "editsAddress": "",
        "installer": {
            "tool": "Pip",
            "timeoutSeconds": 60,
            "indexURL": "https://pypi.example.com/simple",
            "extraIndexURLs": ["https://more.example.com/simple"],
            "caBundle": CERTIFICATE,
            "onlyBinary": True,
            "environment": {
                "PIP_DEFAULT_TIMEOUT": "60",
                "HTTP_PROXY": "http://proxy:3128",
                "HTTPS_PROXY": "http://proxy:3129",
                "NO_PROXY": "10.0.0.0/8",
            },
            "identityFeedHosts": ["pypi.example.com", "*.feeds.example.com"],
        },
        "session": {
            "sizeName": "small",
            "requests": {"cpu": "1", "memory": "1Gi"},
            "limits": {"memory": "3Gi"},
            "nodeSelector": {"pool": "sessions"},
            "tolerations": [{"key": "sessions", "operator": "Exists"}],
            "runAsUser": 2000,
            "terminationGracePeriodSeconds": 5,
            "ephemeralStorageLimit": "10Gi",
            "unreachableSeconds": 7200,
            "editsRetentionDays": 30,
            "podMetadata": {"labels": ["team"], "annotations": ["team.example.com/*"]},
        },
        "sizes": {"autoscaler": True, "daemonsetRequests": {"cpu": "1", "memory": "1Gi"}, "maxPodsPerNode": 30},
        "packageCache": {
            "url": "http://flowsession-packages.flowsession-system.svc:8080",
            "indexes": ["https://pypi.example.com/simple"],
        },
        "tracing": {"otlpEndpoint": "http://otel:4318", "headersSecretName": "otlp", "captureMessageContent": False},
        "images": {
            "allowedRegistries": ["reg.example.com", "docker.io/library/*"],
            "checkEverySeconds": 3600,
            "insecureRegistries": ["reg.example.com:5000"],
            "caBundle": CERTIFICATE,
            "credentialsFile": "/etc/flowsession-registries/.dockerconfigjson",
        },
        "resolver": {"requests": {"cpu": "1", "memory": "32Mi"}, "limits": {"memory": "2Gi"}, "timeoutSeconds": 60},
    }


def test_credentials_for_registries_are_mounted_and_never_read_by_the_api(render: Callable[..., list[Manifest]]) -> None:
    manifests = render({"images": {"credentialsSecretName": "registries"}, "installer": {"readFeedSecrets": False}})
    pod = only(manifests, "Deployment")["spec"]["template"]["spec"]
    assert {"name": "registries", "secret": {"secretName": "registries"}} in pod["volumes"]
    assert {"name": "registries", "mountPath": "/etc/flowsession-registries", "readOnly": True} in pod["containers"][0]["volumeMounts"]
    assert "secrets" not in [resource for rule in only(manifests, "ClusterRole", "flowsession")["rules"] for resource in rule["resources"]]
    assert "registries" not in [volume["name"] for volume in only(render(), "Deployment")["spec"]["template"]["spec"]["volumes"]]


def test_a_changed_setting_restarts_the_operator_and_nothing_else_does(render: Callable[..., list[Manifest]]) -> None:
    def template(values: Manifest) -> Manifest:
        pod: Manifest = only(render(values), "Deployment")["spec"]["template"]
        return pod

    assert template({"session": {"limits": {"memory": "4Gi"}}}) != template({})
    assert template({"serviceAccount": {"annotations": {"a": "b"}}}) == template({})


def test_values_for_the_operators_pod(render: Callable[..., list[Manifest]]) -> None:
    manifests = render(
        {
            "operator": {
                "image": {"repository": "registry.example.com/operator", "tag": "abc", "pullPolicy": "Never"},
                "imagePullSecrets": ["registry"],
                "logLevel": "debug",
                "resources": {"limits": {"cpu": 1}},
                "nodeSelector": {"pool": "system"},
                "tolerations": [{"key": "system", "operator": "Exists"}],
                "affinity": {"podAntiAffinity": {}},
                "priorityClassName": "system-cluster-critical",
                "podAnnotations": {"a": "b"},
                "podLabels": {"c": "d"},
            },
        }
    )
    template = only(manifests, "Deployment")["spec"]["template"]
    pod = template["spec"]
    (container,) = pod["containers"]
    assert (container["image"], container["imagePullPolicy"]) == ("registry.example.com/operator:abc", "Never")
    assert {"name": "LOG_LEVEL", "value": "debug"} in container["env"]
    assert container["resources"]["limits"]["cpu"] == 1
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    assert pod["nodeSelector"] == {"pool": "system"}
    assert pod["tolerations"] == [{"key": "system", "operator": "Exists"}]
    assert pod["affinity"] == {"podAntiAffinity": {}}
    assert pod["priorityClassName"] == "system-cluster-critical"
    assert template["metadata"]["annotations"]["a"] == "b"
    assert template["metadata"]["labels"]["c"] == "d"


def test_the_crds_are_the_generated_ones_and_survive_an_uninstall(render: Callable[..., list[Manifest]]) -> None:
    rendered = {m["metadata"]["name"]: m for m in render() if m["kind"] == "CustomResourceDefinition"}
    generated = [yaml.safe_load(file.read_text()) for file in sorted((CHART / "files" / "crds").glob("*.yaml"))]
    assert {"flowenvironments.flowsession.dev", "computesessions.flowsession.dev"} <= rendered.keys()
    assert rendered.keys() == {crd["metadata"]["name"] for crd in generated}
    for crd in generated:
        got = rendered[crd["metadata"]["name"]]
        assert got["spec"] == crd["spec"], "Helm's YAML round trip changed it"
        assert got["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_crds_can_be_left_to_somebody_else(render: Callable[..., list[Manifest]]) -> None:
    assert not [m for m in render({"crds": {"install": False}}) if m["kind"] == "CustomResourceDefinition"]


def test_names_come_from_the_release(render: Callable[..., list[Manifest]]) -> None:
    manifests = [m for m in render(release="team-a") if m["kind"] != "CustomResourceDefinition"]
    names = {m["metadata"]["name"] for m in manifests}
    own = {"settings", "edits", "view", "edit", "sizes", "assign-identities", "administer-sizes", "administer-environments"}
    policies = {"computesessions", "computeinstances", "flowenvironments", "flowruns", "user", "owner", "changed-by", "source-changed-by"}
    assert names == {"team-a-flowsession"} | {f"team-a-flowsession-{part}" for part in own | policies}
    account = only(manifests, "ServiceAccount")["metadata"]
    for binding in (only(manifests, "ClusterRoleBinding", "team-a-flowsession"), only(manifests, "RoleBinding")):
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account["name"], "namespace": account["namespace"]}]
        assert binding["roleRef"]["name"] in names


def test_every_object_says_which_release_it_belongs_to(render: Callable[..., list[Manifest]]) -> None:
    for manifest in render():
        assert manifest["metadata"]["labels"]["app.kubernetes.io/instance"] == "flowsession", manifest["kind"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"instaler": {}}, "additional properties 'instaler' not allowed"),
        ({"operator": {"imge": {}}}, "'/operator': additional properties 'imge' not allowed"),
        ({"session": {"memory": "2Gi"}}, "'/session': additional properties 'memory' not allowed"),
        ({"installer": {"tool": "uv"}}, "'/installer/tool': value must be one of 'Auto', 'Uv', 'Pip'"),
        ({"installer": {"timeoutSeconds": "600s"}}, "'/installer/timeoutSeconds': got string, want integer"),
        ({"installer": {"indexURL": "pypi.example.com"}}, "'/installer/indexURL': 'pypi.example.com' does not match pattern"),
        ({"installer": {"caBundle": "/etc/ssl/ca.pem"}}, "'/installer/caBundle': '/etc/ssl/ca.pem' does not match pattern"),
        ({"installer": {"environment": {"LD_PRELOAD": "x"}}}, "'/installer/environment': additional properties 'LD_PRELOAD' not allowed"),
        ({"session": {"runAsUser": 0}}, "'/session/runAsUser': minimum: got 0, want 1"),
        ({"images": {"checkEverySeconds": 10}}, "'/images/checkEverySeconds'"),
        ({"images": {"allowedRegistries": ["a b"]}}, "'/images/allowedRegistries/0': 'a b' does not match pattern"),
        ({"images": {"allowedRegistries": ["/x"]}}, "'/images/allowedRegistries/0': '/x' does not match pattern"),
        ({"operator": {"logLevel": "loud"}}, "'/operator/logLevel': value must be one of"),
        ({"sizes": {"catalog": []}}, "'/sizes': additional properties 'catalog' not allowed"),
        ({"sizes": {"catalogue": ["Standard_D2_v9"]}}, 'no size of files/aks-sizes.yaml is called "Standard_D2_v9"'),
        ({"sizes": {"override": {"Standard_D2s_v5": {}}}}, '"Standard_D2s_v5" is not selected by sizes.catalogue'),
        ({"sizes": {"extra": [{"azureName": "x"}]}}, "missing property 'capacity'"),
        (
            {"sizes": {"catalogue": ["Standard_D2s_v5"], "extra": [{"azureName": "Standard_D2s_v5", "capacity": {}}]}},
            "is there already; change it by sizes.override",
        ),
    ],
)
def test_mistakes_are_refused_by_name(helm: Helm, tmp_path: Path, values: Manifest, message: str) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    result = helm("template", "flowsession", str(CHART), "-f", str(file))
    assert result.returncode != 0
    assert message in result.stderr
