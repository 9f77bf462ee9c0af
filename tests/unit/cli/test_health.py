"""`doctor`: each check's verdict and way out, on a cluster that is healthy except for one thing."""

import json

import pytest
from click.testing import CliRunner

from flowsession import __version__
from flowsession_cli import app, cluster, health
from flowsession_cli.errors import CliError, Forbidden
from unit.cli.fakes import FakeCluster, condition, ready_status

DEPLOYMENT = {
    "metadata": {"name": "flowsession", "namespace": "system", "labels": {"app.kubernetes.io/version": __version__}},
    "status": {"readyReplicas": 1},
}
EVERYTHING = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
REFUSED = Forbidden("ada may not list deployments")


class Cluster(FakeCluster):
    """A healthy cluster as kubectl sees it."""

    def __init__(self):
        super().__init__()
        self.__dict__.update(
            versions={"serverVersion": version(37), "clientVersion": version(37)},
            kinds=list(health.KINDS),
            fields={kind: list(fields) for kind, fields in health.FIELDS.items()},
            deployments=[DEPLOYMENT],
            rules={"resourceRules": [EVERYTHING]},
            allowed=[],
        )

    def call(self, *words, stdin=""):
        if words[0] == "version":
            return json.dumps(self.versions)
        if words[0] == "config":
            return "team"
        if words[2].startswith("/openapi"):
            spec = {kind: {"spec": {"properties": dict.fromkeys(fields, 0)}} for kind, fields in self.fields.items()}
            return json.dumps({"components": {"schemas": {f"dev.v1alpha1.{kind}": {"properties": found} for kind, found in spec.items()}}})
        if not self.kinds:
            raise CliError("not found")
        return json.dumps({"resources": [{"name": name} for kind in self.kinds for name in (kind, f"{kind}/status")]})

    def review(self, version, kind, spec=None):
        if kind == "SelfSubjectRulesReview":
            assert spec == {"namespace": "team"}
            return {"status": self.rules}
        asked = spec["resourceAttributes"]
        return {"status": {"allowed": (asked["verb"], asked["resource"], asked.get("subresource")) in self.allowed}}

    def objects(self, kind, *options):
        if kind == self.__dict__.get("hidden"):
            raise REFUSED
        if kind != "deployments.apps":
            return super().objects(kind, *options)
        if isinstance(self.deployments, CliError):
            raise self.deployments
        return self.deployments


def version(minor):
    return {"major": "1", "minor": f"{minor}+", "gitVersion": f"v1.{minor}.0"}


@pytest.fixture
def fake(monkeypatch):
    fake = Cluster()
    fake.put("ComputeSession", "chat", spec={}, status=ready_status() | {"imageDigest": "runtime@sha256:1"})
    monkeypatch.setattr("flowsession_cli.cluster.Cluster", lambda **_: fake)
    return fake


def told(fake):
    return [(line.good, line.text) for line in health.examined(fake)]


def test_all_is_well(fake):
    done = CliRunner().invoke(app.cli, ["doctor"])
    assert done.exit_code == 0, done.output
    assert done.output.splitlines() == [
        "ok   cluster v1.37.0, kubectl v1.37.0",
        "ok   the cluster takes you for ada@example.com",
        "ok   flowsession.dev/v1alpha1 with 5 kinds",
        "ok   the CRDs have all fields that this program writes",
        f"ok   operator flowsession in namespace system, version {__version__}",
        "ok   rights in namespace team: all that the commands need",
        "ok   VM sizes: none is installed, sessions get the chart's default requests on any node",
        "ok   images: nodes have pulled all 1 that sessions of namespace team run",
    ]


def test_a_namespace_that_is_missing(fake):
    fake.__dict__["missing"] = "team"
    assert (False, "there is no namespace team") in told(fake)


def size(fake, *, nodes, available):
    status = {"nodes": nodes, "conditions": [condition("Available", available, "Any", "")]}
    fake.things[cluster.SIZE, "d2"] = {"spec": {"azureName": "Standard_D2s_v5"}, "status": status}


def fails_to_pull(fake):
    bad = condition("Ready", "False", "ImagePullFailed", "image x can't be pulled; check its name")
    fake.put("ComputeSession", "bad", spec={}, status={"observedGeneration": 1, "conditions": [bad]})


def asks_in_vain(fake):
    newer = condition("NewerImageAvailable", "Unknown", "RegistryUnreachable", "registry x doesn't answer")
    fake.put("FlowEnvironment", "env", spec={}, status={"observedGeneration": 1, "conditions": [newer]})


def has_none(fake):
    fake.deployments.clear()
    fake.put("ComputeSession", "new", spec={}, status={})


def sees_no_sizes(fake):
    fake.__dict__["hidden"] = cluster.SIZE


def is_behind(fake):
    fake.deployments = REFUSED
    fake.put("ComputeSession", "new", spec={}, status={})


CASES = {
    "old cluster": (lambda fake: fake.versions.update(serverVersion=version(29)), False, "flowsession needs 1.30 or newer"),
    "kubectl far away": (lambda fake: fake.versions.update(clientVersion=version(30)), None, "more than 1 minor version apart"),
    "no CRDs": (lambda fake: fake.kinds.clear(), False, "the cluster has no flowsession, it doesn't serve flowsession.dev/v1alpha1"),
    "a kind missing": (lambda fake: fake.kinds.remove("flowruns"), False, "older than this program: flowruns missing; upgrade the chart"),
    "a field missing": (lambda fake: fake.fields["FlowRun"].remove("runYaml"), False, "FlowRun.spec.runYaml missing; upgrade the chart"),
    "no operator": (has_none, False, "there is no operator: no deployment has the label"),
    "operator of another label": (lambda fake: fake.deployments.clear(), True, "the operator has looked at all"),
    "operator not seen": (lambda fake: fake.__dict__.update(deployments=REFUSED), True, "the operator has looked at all"),
    "operator behind": (is_behind, False, "the operator has not looked at new: ask whoever administers the cluster"),
    "sizes without nodes": (lambda fake: size(fake, nodes=0, available="False"), False, "none of the 1 has nodes"),
    "sizes": (lambda fake: size(fake, nodes=1, available="True"), True, "VM sizes: 1, with nodes now: Standard_D2s_v5"),
    "sizes not seen": (sees_no_sizes, None, "VM sizes can't be seen with your rights"),
    "image": (fails_to_pull, False, "bad: image x can't be pulled; check its name"),
    "registry": (asks_in_vain, None, "environment env: registry x doesn't answer"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_not_as_it_shall_be_has_its_way_out(fake, case):
    change, good, text = CASES[case]
    fake.__dict__["deployments"] = list(fake.deployments)
    change(fake)
    found = [line for line in told(fake) if text in line[1]]
    assert [line[0] for line in found] == [good], told(fake)


def test_a_missing_right_is_named_with_its_role_and_what_needs_it(fake):
    ours = {"verbs": ["*"], "apiGroups": ["flowsession.dev"], "resources": ["*"]}
    core = {
        "verbs": ["get", "list", "create", "patch", "update", "delete"],
        "apiGroups": [""],
        "resources": ["configmaps", "pods", "*/exec"],
    }
    only = {"verbs": ["*"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["one"]}
    fake.rules["resourceRules"] = [ours, core, only]
    bad = [text for good, text in told(fake) if good is False]
    assert (
        "ada@example.com may not create pods/portforward in namespace team: the cluster's role edit has that right; needed by open" in bad
    )
    assert "ada@example.com may not list events in namespace team: the cluster's role view has that right; needed by why and status" in bad
    secrets = "ada@example.com may not get, list, create, update, delete secrets in namespace team: the cluster's role edit has that right"
    assert f"{secrets}; needed by connection" in bad
    assert not [text for text in bad if "pods/exec" in text or "computesessions" in text]
    assert CliRunner().invoke(app.cli, ["doctor"]).exit_code == 1


def test_where_rules_are_incomplete_each_right_is_asked_for(fake):
    fake.rules.update(resourceRules=[EVERYTHING | {"resources": ["configmaps"]}], incomplete=True)
    fake.allowed.extend([("create", "pods", "exec"), ("get", "pods", None)])
    bad = " ".join(text for good, text in told(fake) if good is False)
    assert "pods/exec" not in bad
    assert "may not create pods/portforward" in bad


def test_a_cluster_that_does_not_answer_ends_it(fake, monkeypatch):
    monkeypatch.setattr(Cluster, "call", lambda *_, **__: (_ for _ in ()).throw(CliError("the cluster doesn't answer")))
    assert told(fake) == [(False, "the cluster doesn't answer")]
