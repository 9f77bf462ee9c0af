"""The identities of sessions, on real kubelets: the pod's ServiceAccount, its pull Secrets, a change, and missing accounts."""

import base64
import json
from typing import Any

from .conftest import Cluster, Object, environment, session
from .registry import Registry

FOLDER = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "flow", "labels": {"flowsession.dev/source": "true"}},
    "data": {"flow.dag.yaml": "inputs: {}\noutputs: {}\nnodes: []\n"},
}
OF_FOLDER = environment(source={"configMap": {"name": "flow"}}, requirementsText="")
ASSIGNABLE = {"labels": {"flowsession.dev/assignable": "true"}}


def account(name: str, *, secrets: tuple[str, ...] = (), **meta: Any) -> Object:
    pulls = {"imagePullSecrets": [{"name": secret} for secret in secrets]} if secrets else {}
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, **meta}, **pulls}


def managed(name: str) -> Object:
    return {"type": "Managed", "serviceAccountName": name}


def pod_of(cluster: Cluster, name: str = "s") -> Object:
    found = cluster.get("pod", cluster.status(name)["podName"])
    assert found
    return found


def mounts(pod: Object) -> list[str]:
    return [mount["mountPath"] for mount in pod["spec"]["containers"][0].get("volumeMounts", [])]


def test_the_users_own_service_account_is_found_by_its_annotation_alone(cluster: Cluster) -> None:
    cluster.apply(account("alices", annotations={"flowsession.dev/user": "alice@example.com"}), environment())
    cluster.apply(session(), session("bobs", user="bob@example.com"))
    assert cluster.until_ready("s")["identity"] == {"serviceAccountName": "alices"}
    pod = pod_of(cluster)
    assert pod["spec"]["serviceAccountName"] == "alices"
    assert pod["metadata"]["labels"]["azure.workload.identity/use"] == "true"
    assert mounts(pod) == [], "no token of the cluster's own"
    assert "identity" not in cluster.until_ready("bobs")
    bobs = pod_of(cluster, "bobs")
    assert bobs["spec"]["serviceAccountName"] == "default"
    assert mounts(bobs) == []
    assert "azure.workload.identity/use" not in bobs["metadata"]["labels"]


def test_one_that_may_not_be_assigned_is_refused_until_it_may(cluster: Cluster) -> None:
    cluster.apply(
        account("runner"),
        environment(),
        session(identity=managed("runner")),
        session("t", user="bob@example.com", identity=managed("late")),
    )
    refused = cluster.until_condition("s", "Ready", status="False", reason="IdentityNotAssignable")
    assert 'labelled flowsession.dev/assignable: "true"' in refused["message"]
    cluster.until_condition("t", "Ready", status="False", reason="IdentityNotFound")
    assert cluster.kubectl.list("pods") == []
    cluster.kubectl("label", "serviceaccount", "runner", "flowsession.dev/assignable=true")
    cluster.apply(account("late", **ASSIGNABLE))
    assert cluster.until_ready("s")["identity"] == {"serviceAccountName": "runner"}
    cluster.until_ready("t")


def test_a_change_restarts_the_session_with_its_edits_and_an_event(cluster: Cluster) -> None:
    cluster.apply(account("runner", **ASSIGNABLE), FOLDER, OF_FOLDER, session())
    before = cluster.until_ready("s")
    cluster.exec(before["podName"], "sh", "-c", "echo mine > /session/flow/own.txt")
    cluster.patch("csess", "s", {"spec": {"identity": managed("gone")}})
    stays = cluster.until_condition("s", "ComputeAllocated", status="False", reason="IdentityNotFound")
    assert "goes on with no identity" in stays["message"]
    assert cluster.status("s")["podName"] == before["podName"]
    cluster.patch("csess", "s", {"spec": {"identity": {"type": "Managed", "serviceAccountName": None}}})
    cluster.until("it acts as the first assignable", lambda: (s := cluster.status("s")).get("phase") == "Running" and s.get("identity"))
    after = cluster.status("s")
    assert after["identity"] == {"serviceAccountName": "runner"}
    assert cluster.exec(after["podName"], "cat", "/session/flow/own.txt").strip() == "mine"
    (told,) = cluster.until_event("s", "IdentityChanged")
    assert "from no identity to ServiceAccount 'runner'" in told["message"]
    cluster.kubectl("delete", "serviceaccount", "runner")
    cluster.patch("csess", "s", {"spec": {"idle": {"timeoutSeconds": 1800}}})
    assert cluster.status("s")["podName"] == after["podName"], "what becomes of the ServiceAccount restarts nothing"


def test_the_identity_pulls_the_image_and_says_what_to_grant_until_it_can(cluster: Cluster) -> None:
    with Registry(user="team", password="secret") as registry:
        cluster.apply(environment(baseImage=registry.image), session())
        refused = cluster.until_condition("s", "Ready", status="False", reason="ImagePullFailed")
        for words in (
            "authorization failed",
            "the session has no identity",
            "flowsession.dev/user: alice@example.com",
            f"imagePullSecrets for {registry.host}",
        ):
            assert words in refused["message"], refused["message"]
        login = base64.b64encode(b"team:secret").decode()
        config = {"auths": {registry.host: {"auth": login}}}
        cluster.apply(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "type": "kubernetes.io/dockerconfigjson",
                "metadata": {"name": "login"},
                "stringData": {".dockerconfigjson": json.dumps(config)},
            },
            account("alices", secrets=("login",), annotations={"flowsession.dev/user": "alice@example.com"}),
        )
        # The image is pulled but cannot start a session: it has no Python.
        failed = cluster.until_condition("s", "Ready", status="False", reason="PodFailed", seconds=90)
        assert "no python3" in failed["message"]
        assert pod_of(cluster)["spec"]["imagePullSecrets"] == [{"name": "login"}]
        assert registry.logins == {"team"}
