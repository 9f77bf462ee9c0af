"""The chart's admission policies on a real API server: a session lets nobody read what they can't read, or act for others."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from apiserver import policies
from apiserver.api import FLOWSESSION, MERGE, Api, Object, Refused, eventually
from apiserver.conftest import Cluster
from apiserver.lab import refusal
from flowsession.api import crds
from flowsession.api import policies as generator
from flowsession.api.schema import structural

ALICE, BOB = "alice@example.com", "bob@example.com"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
_numbers = itertools.count(1)


class Team:
    """A namespace whose people may use sessions, and nothing else unless granted."""

    def __init__(self, api: Api, namespace: str = "") -> None:
        self.api = api
        self.namespace = namespace or f"team{next(_numbers)}"
        if not namespace:
            api.post("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}})
        for user in (ALICE, BOB):
            policies.bind(api, user, policies.USER_ROLE, self.namespace)

    def path(self, kind: str, name: str = "") -> str:
        return f"{FLOWSESSION}/namespaces/{self.namespace}/{kind.lower()}s" + (f"/{name}" if name else "")

    def create(self, user: str, kind: str, spec: Object, name: str = "") -> Object:
        meta: Object = {"name": name} if name else {"generateName": "x-"}
        body = {"apiVersion": "flowsession.dev/v1alpha1", "kind": kind, "metadata": meta, "spec": spec}
        answer: Object = self.api.acting_for(user).post(self.path(kind) + "?fieldValidation=Strict", body)
        return answer

    def session(self, by: str, name: str = "", **spec: Any) -> Object:
        return self.create(by, "ComputeSession", {"environmentRef": {"name": "env"}, "user": by, **spec}, name)

    def change(self, user: str, kind: str, name: str, body: Object) -> Object:
        answer: Object = self.api.acting_for(user).patch(self.path(kind, name), body)
        return answer

    def replace(self, user: str, kind: str, name: str, spec: Object) -> Object:
        """Replace the spec by PUT, which removes omitted fields. Retries on conflict, since an operator may write the status."""

        def put() -> Object | None:
            body = {**self.api.get(self.path(kind, name)), "spec": spec}
            try:
                answer: Object = self.api.acting_for(user).call("PUT", self.path(kind, name), body)
            except Refused as refused:
                if refused.status == 409:
                    return None
                raise
            return answer

        answer = eventually(put, what="it is replaced")
        assert answer is not None
        return answer

    def grant(self, user: str, resource: str, verb: str, *names: str, group: str = "") -> None:
        """Grant the right and return once the authorizer applies it."""
        role = f"role{next(_numbers)}"
        rule = {"apiGroups": [group], "resources": [resource], "verbs": [verb], **({"resourceNames": list(names)} if names else {})}
        subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}
        cluster = resource == "users"
        kind, base = ("ClusterRole", RBAC) if cluster else ("Role", f"{RBAC}/namespaces/{self.namespace}")
        self.api.post(f"{base}/{kind.lower()}s", {"apiVersion": RBAC[6:], "kind": kind, "metadata": {"name": role}, "rules": [rule]})
        ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role}
        body = {"apiVersion": RBAC[6:], "kind": f"{kind}Binding", "metadata": {"name": role}, "roleRef": ref, "subjects": [subject]}
        self.api.post(f"{base}/{kind.lower()}bindings", body)
        where = {} if cluster else {"namespace": self.namespace}
        for name in names or ("",):
            asked = {"user": user, "resourceAttributes": {"group": group, "resource": resource, "verb": verb, "name": name, **where}}
            review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": asked}
            path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
            eventually(lambda review=review, path=path: self.api.post(path, review)["status"]["allowed"], what=f"{user} may {verb}")


@pytest.fixture
def team(cluster: Cluster, enforced: object) -> Team:
    return Team(cluster.api)


def secret(*names: str) -> list[Object]:
    """Return variables from keys of these Secrets."""
    return [{"name": f"V{n}", "valueFrom": {"secretKeyRef": {"name": name, "key": "key"}}} for n, name in enumerate(names)]


# -- references


NAMED: dict[tuple[str, str], Callable[[str], Object]] = {
    ("ComputeSession", "env.[].valueFrom.secretKeyRef.name"): lambda name: {"env": secret(name)},
    ("ComputeSession", "env.[].valueFrom.configMapKeyRef.name"): lambda name: {
        "env": [{"name": "A", "value": "1"}, {"name": "V", "valueFrom": {"configMapKeyRef": {"name": name, "key": "key"}}}]
    },
    ("ComputeSession", "claims.[].claimName"): lambda name: {"claims": [{"claimName": name}]},
    ("ComputeSession", "identity.serviceAccountName"): lambda name: {"identity": {"type": "Managed", "serviceAccountName": name}},
    ("ComputeInstance", "identity.serviceAccountName"): lambda name: {"identity": {"type": "Managed", "serviceAccountName": name}},
    ("FlowEnvironment", "source.configMap.name"): lambda name: {"source": {"configMap": {"name": name}}},
    ("FlowEnvironment", "source.archive.configMap.name"): lambda name: {
        "source": {"archive": {"configMap": {"name": name, "key": "flow.zip"}}}
    },
    ("FlowEnvironment", "source.git.credentialsSecretName"): lambda name: {
        "source": {"git": {"url": "https://git.example.com/flows.git", "credentialsSecretName": name}}
    },
    ("FlowEnvironment", "source.persistentVolumeClaim.claimName"): lambda name: {"source": {"persistentVolumeClaim": {"claimName": name}}},
    ("FlowEnvironment", "connections.[].secretName"): lambda name: {"connections": [{"name": "open_ai", "secretName": name}]},
    ("FlowEnvironment", "tracing.headersSecretName"): lambda name: {
        "tracing": {"otlpEndpoint": "https://otlp.example.com", "headersSecretName": name}
    },
    ("FlowEnvironment", "installer.credentialsSecretName"): lambda name: {"installer": {"credentialsSecretName": name}},
    ("FlowEnvironment", "installer.caBundleConfigMapName"): lambda name: {"installer": {"caBundleConfigMapName": name}},
    ("FlowRun", "identity.serviceAccountName"): lambda name: {
        "identity": {"type": "Managed", "serviceAccountName": name},
        "data": {"path": "data.jsonl"},
    },
    ("FlowRun", "data.configMap.name"): lambda name: {"data": {"configMap": {"name": name, "key": "data.jsonl"}}},
    ("FlowRun", "data.persistentVolumeClaim.claimName"): lambda name: {
        "data": {"persistentVolumeClaim": {"claimName": name, "path": "data.jsonl"}}
    },
    ("FlowRun", "outputs.persistentVolumeClaim.claimName"): lambda name: {
        "data": {"path": "data.jsonl"},
        "outputs": {"persistentVolumeClaim": {"claimName": name}},
    },
}
"""A spec for each field that refers to an object, by kind and path."""

REFERENCES = [(kind.name, reference) for kind in crds.KINDS for reference in generator.references(structural(kind.spec))]


@pytest.mark.parametrize(("kind", "reference"), REFERENCES, ids=lambda one: one if isinstance(one, str) else ".".join(one.path))
def test_who_may_not_read_it_may_not_refer_to_it(team: Team, kind: str, reference: generator.Reference) -> None:
    required = {
        "ComputeSession": {"environmentRef": {"name": "env"}, "user": ALICE},
        "ComputeInstance": {"vmSize": "Standard_D2s_v5", "user": ALICE},
        "FlowEnvironment": {},
        "FlowRun": {"environmentRef": {"name": "env"}, "user": ALICE, "sessionRef": {"name": "none"}},
    }[kind]
    spec = required | NAMED[kind, ".".join(reference.path)]("theirs")
    verb = "impersonate" if reference.resource == "serviceaccounts" else "get"
    said = refusal(team.create, ALICE, kind, spec)
    assert f"theirs, and {ALICE} may not {verb} it in namespace {team.namespace}" in said
    assert f"have the verb {verb} on {reference.resource} granted" in said
    assert team.api.get(team.path(kind))["items"] == []
    team.grant(ALICE, reference.resource, verb, "theirs")
    team.create(ALICE, kind, spec)


def test_each_of_several_secrets_is_checked_and_one_that_is_named_often_once(team: Team) -> None:
    team.grant(ALICE, "secrets", "get", "mine", "mine-too")
    team.session(ALICE, env=secret(*["mine", "mine-too"] * 100))
    said = refusal(team.session, ALICE, env=secret("mine", "mine-too", "mine", "theirs"))
    assert "spec names Secret theirs" in said


def test_more_secrets_than_can_be_checked_need_the_right_to_all(team: Team) -> None:
    many = [f"s{n}" for n in range(9)]
    team.grant(ALICE, "secrets", "get", *many)
    team.session(ALICE, env=secret(*many[:8]))
    assert "more than 8 different Secrets" in refusal(team.session, ALICE, env=secret(*many))
    team.grant(BOB, "secrets", "get")
    team.session(BOB, env=secret(*many))


def test_a_change_of_all_that_an_environment_refers_to_is_not_too_much_to_check(team: Team) -> None:
    def named(n: int, source: Object) -> Object:
        connections = [{"name": f"c{n}", "secretName": f"c{n}"} for n in range(5 * n, 5 * n + 5)]
        installer = {"credentialsSecretName": f"feed{n}", "caBundleConfigMapName": f"ca{n}"}
        tracing = {"otlpEndpoint": "https://otlp.example.com", "headersSecretName": f"otlp{n}"}
        return {"source": source, "connections": connections, "installer": installer, "tracing": tracing}

    names = [f"{name}{n}" for n in range(2) for name in ("feed", "otlp")] + [f"c{n}" for n in range(10)]
    assert len(names) == 14  # as many as the policy checks one by one
    team.grant(ALICE, "secrets", "get", *names)
    team.grant(ALICE, "configmaps", "get", "ca0", "ca1", "flow", "packed")
    team.create(ALICE, "FlowEnvironment", named(0, {"configMap": {"name": "flow"}}), "all")
    team.replace(ALICE, "FlowEnvironment", "all", named(1, {"archive": {"configMap": {"name": "packed", "key": "flow.zip"}}}))
    assert "feed1, and bob" in refusal(team.change, BOB, "FlowEnvironment", "all", {"spec": {"connections": None}})


def test_a_secret_of_another_namespace_is_no_help(team: Team, cluster: Cluster) -> None:
    elsewhere = Team(cluster.api)
    elsewhere.grant(ALICE, "secrets", "get", "shared")
    assert "Secret shared" in refusal(team.session, ALICE, env=secret("shared"))


def test_an_identity_without_a_name_may_turn_out_to_be_any(team: Team) -> None:
    team.grant(ALICE, "serviceaccounts", "impersonate", "runner")
    team.session(ALICE, identity={"type": "Managed", "serviceAccountName": "runner"})
    for unnamed in ({"type": "Managed"}, {"type": "Managed", "clientID": "0000-1111"}):
        assert "name one in spec.identity.serviceAccountName" in refusal(team.session, ALICE, identity=unnamed)
    team.grant(BOB, "serviceaccounts", "impersonate")
    team.session(BOB, identity={"type": "Managed"})


# -- for whom


def test_nobody_starts_a_session_or_an_instance_for_somebody_else_without_the_right_to(team: Team) -> None:
    said = refusal(team.session, BOB, user=ALICE)
    assert f"spec.user is {ALICE}, and {BOB} may not act for them" in said
    assert "verb impersonate on users" in said
    assert "may not act" in refusal(team.create, BOB, "ComputeInstance", {"user": ALICE, "vmSize": "Standard_D2s_v5"})
    portal = "portal@example.com"
    policies.bind(team.api, portal, policies.USER_ROLE, team.namespace)
    team.grant(portal, "users", "impersonate", ALICE)
    team.session(portal, user=ALICE)
    assert "may not act" in refusal(team.session, portal, user=BOB)


def test_who_names_nobody_means_themselves(team: Team) -> None:
    made = team.create(ALICE, "ComputeSession", {"environmentRef": {"name": "env"}}, "mine")
    assert made["spec"]["user"] == ALICE
    assert team.create(ALICE, "ComputeInstance", {"vmSize": "Standard_D2s_v5"})["spec"]["user"] == ALICE
    replaced = team.replace(BOB, "ComputeSession", "mine", {"environmentRef": {"name": "env"}, "suspend": True})
    assert (replaced["spec"]["user"], replaced["spec"]["suspend"]) == (ALICE, True)


def test_a_program_has_to_say_whom_it_means(team: Team) -> None:
    robot = f"system:serviceaccount:{team.namespace}:robot"
    policies.bind(team.api, robot, policies.USER_ROLE, team.namespace)
    assert "spec.user: Required value" in refusal(team.create, robot, "ComputeSession", {"environmentRef": {"name": "env"}})
    team.session(robot)


# -- changes


def test_others_may_stop_a_session_but_not_change_what_runs_in_it(team: Team) -> None:
    team.grant(ALICE, "secrets", "get", "mine")
    team.session(ALICE, "s", env=secret("mine"))
    for harmless in ({"suspend": True}, {"idle": {"timeoutSeconds": 60}}, {"onChange": "Wait"}):
        team.change(BOB, "ComputeSession", "s", {"spec": harmless})
    for led_out in (
        {"env": [*secret("mine"), {"name": "HTTPS_PROXY", "value": "http://bob.example.com"}]},
        {"identity": {"type": "Managed", "serviceAccountName": "bobs"}},
        {"baseImage": "bob.example.com/flow:1"},
        {"podMetadata": {"annotations": {"sidecar": "yes"}}},
    ):
        said = refusal(team.change, BOB, "ComputeSession", "s", {"spec": led_out})
        assert "may not" in said
    team.change(ALICE, "ComputeSession", "s", {"spec": {"env": [*secret("mine"), {"name": "A", "value": "1"}]}})


def test_what_runs_beside_something_is_changed_by_those_only_who_may_read_it(team: Team) -> None:
    team.grant(ALICE, "configmaps", "get", "flow")
    team.create(ALICE, "FlowEnvironment", {"source": {"configMap": {"name": "flow"}}}, "env")
    said = refusal(team.change, BOB, "FlowEnvironment", "env", {"spec": {"installer": {"indexURL": "https://bob.example.com/simple"}}})
    assert "ConfigMap flow" in said
    assert "ConfigMap flow" in refusal(team.change, BOB, "FlowEnvironment", "env", {"spec": {"source": None, "requirementsText": "pandas"}})
    team.change(ALICE, "FlowEnvironment", "env", {"spec": {"source": None, "requirementsText": "pandas"}})
    team.change(BOB, "FlowEnvironment", "env", {"spec": {"requirementsText": "polars"}})


def test_credentials_are_sent_elsewhere_by_those_only_who_may_read_them(team: Team) -> None:
    team.grant(ALICE, "secrets", "get", "login")
    git = {"url": "https://git.example.com/flows.git", "credentialsSecretName": "login"}
    team.create(ALICE, "FlowEnvironment", {"source": {"git": git}}, "env")
    said = refusal(team.change, BOB, "FlowEnvironment", "env", {"spec": {"source": {"git": {"url": "https://bob.example.com/flows.git"}}}})
    assert "Secret login" in said


def test_what_does_not_touch_the_spec_needs_no_rights_of_its_authors(team: Team) -> None:
    """The garbage collector removes finalizers, GitOps applies the same spec again, and the operator writes the status."""
    team.grant(ALICE, "secrets", "get", "mine")
    made = team.session(ALICE, "s", env=secret("mine"))
    team.change(BOB, "ComputeSession", "s", {"metadata": {"finalizers": ["example.com/held"], "labels": {"a": "b"}}})
    same = {key: made[key] for key in ("apiVersion", "kind", "spec")} | {"metadata": {"name": "s"}}
    path = team.path("ComputeSession", "s")
    bob = team.api.acting_for(BOB)
    bob.call("PATCH", f"{path}?fieldManager=gitops&force=true", same, content_type="application/apply-patch+yaml")
    team.api.patch(f"{path}/status", {"status": {"phase": "Running"}})
    bob.delete(path)
    assert team.api.get(path)["metadata"]["deletionTimestamp"]
    with pytest.raises(Refused):
        team.change(BOB, "ComputeSession", "s", {"spec": {"env": secret("mine", "mine-too")}})
    bob.call("PATCH", path, {"metadata": {"finalizers": None}}, content_type=MERGE)
    assert team.api.find(path) is None


@pytest.mark.parametrize("what", ["reset", "install", "resume", "keep-alive", "restart"])
def test_requests_by_annotation_are_the_users_own(team: Team, what: str) -> None:
    """A reset wipes the session's folder. Kinds of requests that do not exist yet are covered too."""
    name = f"flowsession.dev/{what}-requested-at"
    team.session(ALICE, "s")
    team.create(ALICE, "ComputeInstance", {"user": ALICE, "vmSize": "Standard_D2s_v5"}, "i")
    for kind, one in (("ComputeSession", "s"), ("ComputeInstance", "i")):
        asked = {"metadata": {"annotations": {name: "2026-11-22T20:00:00Z"}}}
        assert f"{BOB} may not act for them" in refusal(team.change, BOB, kind, one, asked)
        team.change(ALICE, kind, one, asked)
        for other in ("2026-11-22T21:00:00Z", None):
            assert "may not act" in refusal(team.change, BOB, kind, one, {"metadata": {"annotations": {name: other}}})
        team.change(BOB, kind, one, {"metadata": {"annotations": {"example.com/note": "hello"}}})
    assert "may not act" in refusal(team.session, BOB, user=ALICE)


def test_pod_metadata_gets_nobody_a_token(team: Team) -> None:
    labels = {"azure.workload.identity/use": "true"}
    assert "azure.workload.identity/" in refusal(team.session, ALICE, podMetadata={"labels": labels})


# -- the policies themselves


def test_every_expression_fits_the_schemas(cluster: Cluster, enforced: list[Object]) -> None:
    """The API server's own type checker confirms it."""
    for policy in (one for one in enforced if one["kind"] == "ValidatingAdmissionPolicy"):
        path = f"/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/{policy['metadata']['name']}"
        checked = eventually(
            lambda path=path: (cluster.api.get(path).get("status") or {}).get("typeChecking") is not None and cluster.api.get(path),
            what="it is checked",
            seconds=30,
        )
        assert not checked["status"]["typeChecking"].get("expressionWarnings"), checked["status"]
