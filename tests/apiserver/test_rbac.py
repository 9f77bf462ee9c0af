"""The operator under exactly the chart's roles and admission policies: it has all rights that it uses, and uses all that it has."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from apiserver import policies
from apiserver.api import eventually
from apiserver.conftest import Cluster
from apiserver.lab import Lab
from apiserver.operator_process import NAMESPACE, Operator, Zygote
from apiserver.recorder import Recorder, Request
from apiserver.test_instances import Instances
from apiserver.test_sizes import D2, FAST, Sizes
from localcluster import kubeconfig
from localcluster.kubeconfig import Api as Access

TEMPLATES = ("rbac", "serviceaccount")
Right = tuple[str, str]
"""A verb, and group/resource."""


@pytest.fixture(scope="module")
def manifests() -> list[dict[str, Any]]:
    """Return the chart's manifests for the operator's access."""
    return policies.rendered(*TEMPLATES)


@pytest.fixture
def confined(lab: Lab, cluster: Cluster, enforced: object, manifests: list[dict[str, Any]]) -> Iterator[Lab]:
    """Run the operator as the chart's ServiceAccount, before its key exists."""
    applied = cluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(manifests))
    assert applied.returncode == 0, applied.stderr
    (account,) = [m["metadata"]["name"] for m in manifests if m["kind"] == "ServiceAccount"]
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
    token = lab.api.post(f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{account}/token", asked)["status"]["token"]
    lab.api.delete(f"/api/v1/namespaces/{NAMESPACE}/secrets/flowsession-agent-keys")
    access = Access(lab.recorder.url, cluster.plane.ca, token)
    zygote = Zygote(kubeconfig.write(cluster.folder / "confined.kubeconfig", access, user="confined"))
    shared = lab.operator
    lab.operator = Operator(zygote, lab.recorder, folder=cluster.folder, archive=cluster.folder / "agent.pyz")
    yield lab
    lab.operator.kill()
    zygote.stop()
    lab.recorder.kill = shared.kill
    lab.operator = shared


def granted(manifests: list[dict[str, Any]]) -> set[Right]:
    return {
        (verb, f"{group}/{resource}")
        for role in manifests
        if role["kind"] in ("ClusterRole", "Role")
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def used(request: Request) -> Right:
    """Return the right that a request needs, as the API server derives it
    (https://kubernetes.io/docs/reference/access-authn-authz/authorization/#determine-the-request-verb)."""
    group = request.path.split("/")[2] if request.path.startswith("/apis/") else ""
    one = bool(request.name)
    reading = "get" if one else "watch" if request.watches else "list"
    verbs = {"GET": reading, "POST": "create", "PATCH": "patch", "PUT": "update", "DELETE": "delete" if one else "deletecollection"}
    return verbs[request.method], f"{group}/{request.kind}"


def run_in_a_session_of_its_own(lab: Lab) -> None:
    lab.create_run("alone", user="eve@example.com")
    made = lab.until_run("Running", "alone")["sessionName"]
    lab.api.delete(lab.path("flowruns", "alone"))
    lab.api.delete(lab.path("computesessions", made))
    eventually(lambda: not lab.pods(), what="its pod is gone")


def test_from_creation_to_the_idle_end_it_needs_every_right_that_it_has_and_no_other(
    confined: Lab, manifests: list[dict[str, Any]]
) -> None:
    lab, before = confined, confined.recorder.mark()
    conflict = Recorder.answer(409, "Conflict", "injected")
    faults = [
        lab.recorder.inject(lab.writes_to_namespace(line), conflict)
        for line in (
            "PATCH flowenvironments/status",
            "PATCH computesessions/status",
            "PATCH computeinstances/status",
            "PATCH flowruns/status",
            "DELETE pods",
        )
    ]
    faults.append(lab.recorder.inject(lambda request: request.line == "PATCH vmsizes/status", conflict))
    sizes, instances = Sizes(lab), Instances(lab)
    sizes.create(D2)
    lab.operator.start(constants=FAST)
    sizes.available(D2, "NoNodes")
    lab.environment_of_flow(labelled=False, flow__dag__yaml="environment: {image: 'team/flow:1'}\nnodes: []\n")
    instances.create()
    instances.until("Running")
    instances.change(running=False)
    instances.until("Stopped")
    run_in_a_session_of_its_own(lab)
    lab.create_run(sessionRef={"name": "ada"})
    lab.until_run("SessionMissing")
    lab.kubelet.hold = True
    lab.create_session(idle={"timeoutSeconds": 3600})
    pod = eventually(lambda: lab.pods()[0] if lab.pods() else None, what="its pod")
    full = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available"}
    lab.kubelet.set_status(pod, {"conditions": [full]})
    lab.until_condition("ComputeAllocated", "Unschedulable")
    lab.kubelet.release()
    lab.until_ready()
    lab.agent().outputs = b"packed"
    lab.until_run("Running")
    lab.api.patch(lab.path("flowruns", "answers"), {"spec": {"cancel": True, "ttlSecondsAfterFinished": 0}})
    eventually(lambda: not lab.api.get(lab.path("flowruns"))["items"], what="the run is over, and deleted")
    for edited in ("one", "two"):  # the second time increments the same Events and deletes the edits saved first
        lab.agent().edit(edited)
        lab.change_session(suspend=True)
        lab.until_condition("Ready", "Suspended")
        eventually(lambda: lab.session()["status"]["phase"] == "Suspended", what="its pod is gone")
        lab.change_session(suspend=False)
        lab.until_ready()
    lab.operator.kill()
    lab.backdate(seconds=3590)
    lab.operator.start(constants=FAST)
    lab.until_condition("Active", "IdleSoon")  # and the annotations for autoscalers are removed
    lab.settle()
    lab.change_session(idle={"timeoutSeconds": 5})
    eventually(lab.gone, seconds=30, what="the idle session ends")
    sizes.remove_all()
    assert all(fault.done.is_set() for fault in faults)
    requests = [request for request in lab.recorder.requests(since=before) if not request.kind.startswith("/")]
    own = ("", lab.namespace, NAMESPACE)  # what other tests left is refused for other reasons: their namespaces have no ServiceAccount
    assert [str(request) for request in requests if request.status == 403 and request.namespace in own] == []
    assert lab.operator.lines("error") == []
    assert {used(request) for request in requests} == granted(manifests)
