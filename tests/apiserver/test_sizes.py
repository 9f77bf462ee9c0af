"""VM sizes against a real API server: validation, quota admission, and how changes of sizes, quotas and nodes affect sessions."""

from collections.abc import Iterator
from typing import Any

import pytest

from apiserver.api import FLOWSESSION, eventually, stays
from apiserver.lab import Lab, refusal
from apiserver.operator_process import SETTINGS

D2, D4 = "Standard_D2s_v5", "Standard_D4s_v5"
SIZES = f"{FLOWSESSION}/vmsizes"
FAST = {"flowsession.engine.nodes:COUNT_SECONDS": 0.2, "flowsession.engine.nodes:LIST_SECONDS": 0.5}
NO_DAEMONSETS = SETTINGS | {"sizes": {"daemonsetRequests": {}}}


def name_of(azure_name: str) -> str:
    return azure_name.lower().replace("_", "-")


class Sizes:
    """The actions of a platform team."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.nodes: list[str] = []
        self.classes: list[str] = []

    def create(self, azure_name: str = D2, *, name: str = "", **spec: Any) -> Any:
        body = {
            "apiVersion": "flowsession.dev/v1alpha1",
            "kind": "VMSize",
            "metadata": {"name": name or name_of(azure_name)},
            "spec": {"azureName": azure_name, "capacity": {"cpu": "2", "memory": "8Gi"}, **spec},
        }
        return self.lab.api.post(f"{SIZES}?fieldValidation=Strict", body)

    def classed(self, azure_name: str, price: str, **spec: Any) -> None:
        """Create a size with its own PriorityClass, as the chart does."""
        name = f"flowsession-{name_of(azure_name)}"
        self.classes.append(name)
        body = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": 0}
        self.lab.api.post("/apis/scheduling.k8s.io/v1/priorityclasses", body)
        self.create(azure_name, pricePerHour=price, priorityClassName=name, **spec)

    def delete(self, azure_name: str = D2) -> None:
        self.lab.api.delete(f"{SIZES}/{name_of(azure_name)}")

    def node(self, name: str, labels: dict[str, str], **allocatable: str) -> None:
        self.nodes.append(name)
        self.lab.api.post("/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}})
        gives = {"pods": "110", **allocatable}
        self.lab.api.patch(f"/api/v1/nodes/{name}/status", {"status": {"allocatable": gives, "capacity": gives}})
        # The API server taints new nodes as not ready.
        self.lab.api.patch(f"/api/v1/nodes/{name}", {"spec": {"taints": None}})

    def quota(self, name: str = "team", *, of: str = "", **hard: str) -> None:
        """Create a quota and return once the quota controller has counted. Until then the admission refuses everything."""
        selector = {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": [f"flowsession-{name_of(of)}"]}]}
        amounts = {key.replace("__", "."): amount for key, amount in hard.items()}
        spec = {"hard": amounts} | ({"scopeSelector": selector} if of else {})
        body = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": name}, "spec": spec}
        self.lab.api.post(self.lab.path("resourcequotas"), body)
        path = self.lab.path("resourcequotas", name)
        eventually(lambda: self.lab.api.get(path).get("status", {}).get("used") is not None, what="the quota is counted")

    def change_quota(self, name: str = "team", **hard: str) -> None:
        self.lab.api.patch(self.lab.path("resourcequotas", name), {"spec": {"hard": {k.replace("__", "."): v for k, v in hard.items()}}})

    def available(self, azure_name: str, reason: str, **status: int) -> Any:
        def so() -> Any:
            found = self.lab.api.get(f"{SIZES}/{name_of(azure_name)}").get("status") or {}
            condition = next((c for c in found.get("conditions") or () if c["type"] == "Available"), {})
            assert condition.get("reason") == reason, found
            assert {name: found.get(name) for name in status} == status, found
            return condition

        return eventually(so)

    def remove_all(self) -> None:
        for item in self.lab.api.get(SIZES)["items"]:
            self.lab.api.delete(f"{SIZES}/{item['metadata']['name']}")
        for node in self.nodes:
            self.lab.api.delete(f"/api/v1/nodes/{node}")
        for name in self.classes:
            self.lab.api.delete(f"/apis/scheduling.k8s.io/v1/priorityclasses/{name}")


@pytest.fixture
def sizes(lab: Lab) -> Iterator[Sizes]:
    """Yield the sizes' helper, with no operator running."""
    found = Sizes(lab)
    yield found
    found.remove_all()


def start(lab: Lab) -> None:
    lab.operator.start(settings=NO_DAEMONSETS, constants=FAST)
    lab.create_environment()


def size_of(lab: Lab, session: str = "ada") -> str:
    return str(lab.the_pod(session)["metadata"]["labels"].get("flowsession.dev/vm-size", ""))


# -- what the API server accepts


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"capacity": {"cpu": "0", "memory": "8Gi"}}, "every quantity must be greater than zero"),
        ({"capacity": {"cpu": "-2", "memory": "8Gi"}}, "spec.capacity.cpu"),
        ({"capacity": {"cpu": "2"}}, "capacity must give cpu and memory"),
        ({"capacity": {"cpu": "2", "memory": "8Gi", "gpu": "1"}}, "extended ones such as nvidia.com/gpu"),
        ({"capacity": {"cpu": "2", "memory": "8Gi", "nvidia.com/gpu": "500m"}}, "a device is never shared by halves"),
        ({"capacity": {"cpu": "2", "memory": "8Gi", "nvidia.com/gpu": "0.5"}}, "a device is never shared by halves"),
        ({"requests": {"nvidia.com/gpu": "1"}}, "nor of a resource that capacity does not list"),
        ({"requests": {"cpu": "3"}}, "requests can't be more than the capacity"),
        ({"sessionsPerNode": 0}, "should be greater than or equal to 1"),
        ({"pricePerHour": "9 cents"}, "spec.pricePerHour"),
        ({"pricePerHour": "-1"}, "spec.pricePerHour"),
        ({"name": "small"}, "standard-d2s-v5 for Standard_D2s_v5"),
        ({"azure_name": "Standard_B2s"}, "VM series D and above"),
        ({"tolerations": [{"key": "a", "operator": "Exists", "value": "b"}]}, "operator Exists has no value"),
        ({"tolerations": [{"operator": "Equal", "value": "b"}]}, "needs operator Exists"),
        ({"tolerations": [{"key": "a", "value": "b", "tolerationSeconds": 5}]}, "tolerationSeconds needs effect NoExecute"),
        ({"userIsolation": "User"}, 'supported values: "None", "Node"'),
    ],
)
def test_mistakes_are_refused_with_what_to_do(sizes: Sizes, spec: dict[str, Any], says: str) -> None:
    assert says in refusal(sizes.create, **spec)


def test_a_good_size_is_taken_and_shown(sizes: Sizes) -> None:
    made = sizes.create(
        "Standard_NC4as_T4_v3", capacity={"cpu": "4", "memory": "28Gi", "ephemeral-storage": "176Gi", "nvidia.com/gpu": "1"}
    )
    assert (made["spec"]["sessionsPerNode"], made["spec"]["userIsolation"], made["spec"]["autoSelect"]) == (1, "None", True)


# -- how a session gets a size


def test_a_named_size_gives_the_session_its_share_and_the_vmsize_tells(sizes: Sizes, lab: Lab) -> None:
    sizes.node("pool-a-1", {"pool": "a"}, cpu="1900m", memory="6Gi")
    sizes.create(D2, nodeSelector={"pool": "a"}, sessionsPerNode=2, userIsolation="Node")
    start(lab)
    lab.create_session(compute={"vmSize": D2})
    session = lab.until_ready()
    assert session["status"]["vmSize"] == D2
    spec = lab.the_pod()["spec"]
    assert spec["containers"][0]["resources"] == {
        "requests": {"cpu": "950m", "memory": "3Gi", "ephemeral-storage": "0"},
        "limits": {"cpu": "1900m", "memory": "6Gi", "ephemeral-storage": "20Gi"},
    }
    (term,) = spec["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    user = lab.the_pod()["metadata"]["labels"]["flowsession.dev/user"]
    assert {"key": "flowsession.dev/user", "operator": "NotIn", "values": [user]} in term["labelSelector"]["matchExpressions"]
    sizes.available(D2, "NodesPresent", nodes=1, sessions=1)


def test_with_sizes_a_start_costs_no_more_writes(sizes: Sizes, lab: Lab) -> None:
    sizes.create(D2)
    start(lab)
    lab.until_environment("Resolved")
    before = lab.recorder.mark()
    lab.create_session()
    lab.until_ready()
    lab.settle()
    lines = lab.lines(since=before, without=("flowenvironments", "configmaps", "events"))
    assert lines.count("POST pods") == 1
    assert lines.count("PATCH computesessions/status") in (1, 2), "Ready, and before it a start of more than half a second"
    assert len(lines) <= 3


def test_an_unknown_size_names_the_nearest_and_heals_when_it_comes(sizes: Sizes, lab: Lab) -> None:
    sizes.create(D4)
    start(lab)
    lab.create_session(compute={"vmSize": D2})
    lab.until_condition("ComputeAllocated", "SizeNotFound", says=D4)
    sizes.create(D2)
    assert lab.until_ready()["status"]["vmSize"] == D2


def test_nothing_big_enough_is_told_and_heals_when_a_bigger_size_comes(sizes: Sizes, lab: Lab) -> None:
    sizes.create(D2)
    start(lab)
    lab.create_environment("big", minimumCompute={"cpu": "3", "memory": "1Gi"})
    lab.create_session(environment="big")
    lab.until_condition("ComputeAllocated", "NoSizeFits", says="cpu 3, memory 1Gi")
    sizes.create(D4, capacity={"cpu": "4", "memory": "16Gi"})
    assert lab.until_ready()["status"]["vmSize"] == D4


# -- quota


def test_each_size_has_its_quota_and_the_next_best_is_taken(sizes: Sizes, lab: Lab) -> None:
    sizes.classed(D2, "0.1")
    sizes.classed(D4, "0.2")
    sizes.quota("d2", of=D2, pods="1")
    sizes.quota("d4", of=D4, pods="1")
    start(lab)
    for name, size in (("ada", D2), ("bob", D4)):
        lab.create_session(name)
        assert lab.until_ready(name)["status"]["vmSize"] == size
    before = lab.recorder.mark()
    lab.create_session("cy")
    lab.until_condition("ComputeAllocated", "QuotaExceeded", "cy", says="quota 'd2' has 0 of 1 pods left")
    assert "quota 'd4'" in lab.condition("ComputeAllocated", "cy")["message"]
    lab.settle()
    assert not [line for line in lab.lines(since=before) if line == "POST pods"], "what is known to be full is not asked for"
    lab.api.delete(lab.path("computesessions", "bob"))
    assert lab.until_ready("cy")["status"]["vmSize"] == D4


def test_a_raised_quota_is_noticed_at_once(sizes: Sizes, lab: Lab) -> None:
    sizes.create(D2, requests={"cpu": "500m", "memory": "1Gi"})
    sizes.quota(requests__cpu="400m")
    start(lab)
    lab.create_session()
    lab.until_condition("ComputeAllocated", "QuotaExceeded", says="has 400m of 400m requests.cpu left, a session needs 500m")
    sizes.change_quota(requests__cpu="500m")
    lab.until_ready(seconds=20)


@pytest.mark.parametrize("scopes", [["NotTerminating"], ["NotBestEffort"], ["Terminating"], ["BestEffort"], ["CrossNamespacePodAffinity"]])
def test_scoped_quotas_are_read_as_the_admission_reads_them(sizes: Sizes, lab: Lab, scopes: list[str]) -> None:
    """A session counts against the scopes that match it, and the operator sends no POST that the quota would refuse."""
    sizes.create(D2, userIsolation="Node")
    body = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": {"hard": {"pods": "0"}, "scopes": scopes}}
    lab.api.post(lab.path("resourcequotas"), body)
    eventually(lambda: lab.api.get(lab.path("resourcequotas", "q")).get("status", {}).get("used") is not None, what="counted")
    start(lab)
    lab.create_session()
    if scopes[0] in ("Terminating", "BestEffort"):
        lab.until_ready()
    else:
        lab.until_condition("ComputeAllocated", "QuotaExceeded", says="quota 'q' has 0 of 0 pods left")
        assert "POST pods" not in lab.lines()


def test_when_somebody_is_faster_the_next_size_is_tried_at_once(sizes: Sizes, lab: Lab) -> None:
    sizes.classed(D2, "0.1")
    sizes.classed(D4, "0.2")
    start(lab)
    refused = lab.recorder.answer(
        403, "Forbidden", "pods is forbidden: exceeded quota: d2, requested: pods=1, used: pods=1, limited: pods=1"
    )
    lab.recorder.inject(lab.writes_to_namespace("POST pods"), refused)
    lab.create_session()
    assert lab.until_ready(seconds=20)["status"]["vmSize"] == D4
    assert lab.lines().count("POST pods") == 2


def test_ten_sessions_at_once_share_out_two_quotas(sizes: Sizes, lab: Lab) -> None:
    sizes.classed(D2, "0.1")
    sizes.classed(D4, "0.2")
    sizes.quota("d2", of=D2, pods="4")
    sizes.quota("d4", of=D4, pods="3")
    start(lab)
    names = [f"s{number}" for number in range(10)]
    for name in names:
        lab.create_session(name)

    def shared_out() -> bool:
        found = [pod["metadata"]["labels"]["flowsession.dev/vm-size"] for pod in lab.pods()]
        waiting = [name for name in names if lab.condition("ComputeAllocated", name)["reason"] == "QuotaExceeded"]
        assert (found.count(D2), found.count(D4), len(waiting)) == (4, 3, 3), (found, waiting)
        return True

    eventually(shared_out)
    lab.api.patch(lab.path("resourcequotas", "d2"), {"spec": {"hard": {"pods": "7"}}})
    for name in names:
        lab.until_ready(name)


# -- changes under running sessions


def test_another_size_restarts_the_session_and_its_owner_is_told(sizes: Sizes, lab: Lab) -> None:
    sizes.create(D2)
    sizes.create(D4)
    start(lab)
    lab.create_session(compute={"vmSize": D2})
    lab.until_ready()
    first = lab.the_pod()["metadata"]["uid"]
    lab.change_session(compute={"vmSize": D4})
    eventually(lambda: [pod["metadata"]["uid"] for pod in lab.pods()] not in ([], [first]), what="another pod")
    lab.until_event("ComputeChanged")
    eventually(lambda: lab.session()["status"].get("vmSize") == D4 and lab.condition("Ready")["status"] == "True", what="it runs there")
    assert size_of(lab) == D4


def test_a_size_deleted_or_changed_while_in_use_harms_nobody(sizes: Sizes, lab: Lab) -> None:
    sizes.node("pool-a-1", {"pool": "a"}, cpu="2", memory="7Gi")
    sizes.create(D2, nodeSelector={"pool": "a"})
    start(lab)
    lab.create_session(compute={"vmSize": D2})
    lab.until_ready()
    pod, before = lab.the_pod()["metadata"]["uid"], lab.recorder.mark()
    sizes.available(D2, "NodesPresent", nodes=1)
    lab.api.patch("/api/v1/nodes/pool-a-1", {"metadata": {"labels": {"pool": "b"}}})
    sizes.available(D2, "NoNodes", nodes=0)
    sizes.delete(D2)
    stays(lambda: [found["metadata"]["uid"] for found in lab.pods()] == [pod], seconds=1.0)
    assert lab.condition("Ready")["status"] == "True"
    assert lab.session()["status"]["vmSize"] == D2
    assert "DELETE pods" not in lab.lines(since=before)


# -- availability


def test_a_size_without_nodes_says_whether_an_autoscaler_helps(sizes: Sizes, lab: Lab) -> None:
    sizes.create(D2, nodeSelector={"pool": "a"})
    lab.operator.start(settings=SETTINGS | {"sizes": {"autoscaler": True}}, constants=FAST)
    sizes.available(D2, "ScaleFromZero", nodes=0, sessions=0)
    lab.operator.restart(settings=NO_DAEMONSETS, constants=FAST)
    sizes.available(D2, "NoNodes", nodes=0)
    sizes.node("pool-a-1", {"pool": "a"}, cpu="1900m", memory="6Gi")
    assert "a session requests cpu 1900m, memory 6Gi" in sizes.available(D2, "NodesPresent", nodes=1)["message"]


def test_counts_are_written_once_for_many_sessions(sizes: Sizes, lab: Lab) -> None:
    sizes.create(D2)
    lab.operator.start(settings=NO_DAEMONSETS, constants={"flowsession.engine.nodes:COUNT_SECONDS": 1.0})
    lab.create_environment()
    eventually(lambda: [r for r in lab.recorder.requests("") if r.line == "PATCH vmsizes/status"], what="the first status")
    before = lab.recorder.mark()
    for number in range(8):
        lab.create_session(f"s{number}")
    for number in range(8):
        lab.until_ready(f"s{number}")
    sizes.available(D2, "NoNodes", sessions=8)
    written = [r for r in lab.recorder.requests("", since=before) if r.line == "PATCH vmsizes/status"]
    assert 1 <= len(written) <= 4, "at most one in each second"


def test_while_it_waits_for_a_node_the_autoscalers_words_are_in_the_status(sizes: Sizes, lab: Lab) -> None:
    sizes.create(D2)
    lab.kubelet.hold = True
    lab.operator.start(settings=NO_DAEMONSETS, constants=FAST | {"flowsession.reconcile.scheduling:SHORTEST_PAUSE": 0.2})
    lab.create_environment()
    lab.create_session()
    eventually(lab.pods, what="its pod")
    pod = lab.the_pod()
    scheduled = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/1 nodes are available: Insufficient cpu",
    }
    lab.kubelet.set_status(pod, {"conditions": [scheduled]})
    lab.until_condition("ComputeAllocated", "Unschedulable", says="Insufficient cpu")
    meta = pod["metadata"]
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{meta['name']}.1"},
        "involvedObject": {"kind": "Pod", "namespace": lab.namespace, "name": meta["name"], "uid": meta["uid"]},
        "reason": "TriggeredScaleUp",
        "message": "pod triggered scale-up: [{d2 0->1 (max: 5)}]",
        "source": {"component": "cluster-autoscaler"},
        "type": "Normal",
        "lastTimestamp": "2026-11-22T20:00:00Z",
    }
    lab.api.post(lab.path("events"), event)
    lab.until_condition("ComputeAllocated", "ScalingUp", says="[{d2 0->1 (max: 5)}]")
    lab.kubelet.release()
    lab.until_ready()


def test_a_mended_size_is_taken_up_by_who_still_waits_for_a_node(sizes: Sizes, lab: Lab) -> None:
    sizes.create(D2, nodeSelector={"pool": "wrong"})
    lab.kubelet.hold = True
    start(lab)
    lab.create_session()
    eventually(lab.pods, what="its pod")
    scheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "didn't match node selector"}
    lab.kubelet.set_status(lab.the_pod(), {"conditions": [scheduled]})
    lab.until_condition("ComputeAllocated", "Unschedulable", says="node selector")
    lab.api.patch(f"{SIZES}/{name_of(D2)}", {"spec": {"nodeSelector": {"pool": "right"}}})
    eventually(lambda: [pod["spec"]["nodeSelector"] for pod in lab.pods()] == [{"pool": "right"}], what="a pod for the right nodes")
    lab.until_event("ComputeChanged")
    lab.kubelet.release()
    lab.until_ready()


def test_two_hundred_sizes(sizes: Sizes, lab: Lab) -> None:
    for number in range(200):
        sizes.create(f"Standard_D{number}s_v9", pricePerHour=f"{number + 1}.5")
    start(lab)
    lab.create_session()
    assert lab.until_ready(seconds=30)["status"]["vmSize"] == "Standard_D0s_v9"
