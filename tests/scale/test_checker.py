"""The checker itself: a correct cluster, and one violation after the other."""

import copy
from typing import Any

import pytest

from scale.checker import Facts, Report, check
from scale.counting import charges, in_scope, quantity, requests
from scale.sizes import INSTANCE_TYPE, Size
from scale.standin import share_of

SMALL = Size("Standard_D4s_v5", 4, 16, 128, 4, "0.192", nodes=3)
GPUS = Size("Standard_NC64as_T4_v3", 64, 440, 128, 4, "4.352", nodes=1, gpus=4, taint="sku=gpu")


def session(name: str, user: str = "ada", size: Size = SMALL, namespace: str = "team") -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": namespace}, "spec": {"user": user, "compute": {"vmSize": size.azure_name}}}


def pod(of: dict[str, Any], node: str, size: Size = SMALL) -> dict[str, Any]:
    meta = {"name": of["metadata"]["name"], "namespace": of["metadata"]["namespace"]}
    return {
        "metadata": {**meta, "labels": {"flowsession.dev/session": meta["name"]}},
        "spec": {
            **({"nodeName": node} if node else {}),
            "priorityClassName": size.name,
            "containers": [{"resources": {"requests": share_of(size)}}],
        },
        "status": {"phase": "Running"},
    }


def quota(hard: dict[str, str], **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "quota", "namespace": "team"}, "spec": {"hard": hard, **spec}}


class World:
    """Ada's two sessions on one node, Bob's on another. Each test breaks something."""

    def __init__(self) -> None:
        self.sessions = [session("a1"), session("a2"), session("b1", "bob")]
        self.nodes = [size.node(number) for size in (SMALL, GPUS) for number in range(size.nodes)]
        self.pods = [pod(of, SMALL.node(number)["metadata"]["name"]) for of, number in zip(self.sessions, (0, 0, 1), strict=True)]
        self.quotas: list[dict[str, Any]] = []

    def check(self) -> Report:
        return check(Facts(self.nodes, self.pods, self.sessions, [SMALL.vm_size(), GPUS.vm_size()], self.quotas))

    def rules(self) -> dict[str, int]:
        return self.check().by_rule


@pytest.fixture
def world() -> World:
    return World()


def test_a_cluster_that_is_right_has_no_violation(world: World) -> None:
    report = world.check()
    assert report.violations == []
    assert report.placed == 3
    assert report.packing == 1


def test_a_pod_in_another_pool_is_found(world: World) -> None:
    world.nodes[1]["metadata"]["labels"][INSTANCE_TYPE] = "Standard_D8s_v5"
    (found,) = world.check().violations
    assert found.rule == "Pool" and "team/b1" in str(found) and "Standard_D8s_v5" in found.text


def test_two_users_on_one_node_are_found(world: World) -> None:
    world.pods[2]["spec"]["nodeName"] = world.pods[0]["spec"]["nodeName"]
    (found,) = world.check().violations
    assert found.rule == "Isolation" and found.text == "hosts ada, bob"


def test_two_users_of_different_namespaces_on_one_node_are_found(world: World) -> None:
    world.sessions[2]["metadata"]["namespace"] = world.pods[2]["metadata"]["namespace"] = "another"
    world.pods[2]["spec"]["nodeName"] = world.pods[0]["spec"]["nodeName"]
    assert world.rules() == {"Isolation": 1}


def test_users_may_share_a_node_whose_size_does_not_part_them(world: World) -> None:
    world.pods[2]["spec"]["nodeName"] = world.pods[0]["spec"]["nodeName"]
    shared = SMALL.vm_size()
    shared["spec"]["userIsolation"] = "None"
    assert check(Facts(world.nodes, world.pods, world.sessions, [shared])).violations == []


@pytest.mark.parametrize(("resource", "text"), [("cpu", "966m"), ("cpu", "963m"), ("memory", "1Gi")])
def test_requests_that_are_not_the_share_are_found(world: World, resource: str, text: str) -> None:
    assert share_of(SMALL)["cpu"] == "965m"
    world.pods[0]["spec"]["containers"][0]["resources"]["requests"][resource] = text
    (found,) = world.check().violations
    assert found.rule == "Share" and resource in found.text


def test_a_missing_device_is_found(world: World) -> None:
    world.sessions.append(session("g1", "eve", GPUS))
    world.pods.append(pod(world.sessions[-1], GPUS.node(0)["metadata"]["name"], GPUS))
    assert world.rules() == {}
    del world.pods[-1]["spec"]["containers"][0]["resources"]["requests"]["nvidia.com/gpu"]
    assert world.rules() == {"Share": 1}


def test_the_share_is_of_what_nodes_give_not_of_what_the_size_says(world: World) -> None:
    for node in world.nodes:
        node["status"]["allocatable"]["cpu"] = "2"
    assert world.rules()["Share"] == 3


def test_what_is_left_to_daemonsets_is_not_shared(world: World) -> None:
    facts = Facts(world.nodes, world.pods, world.sessions, [SMALL.vm_size()], left_to_daemonsets={"cpu": "300m"})
    assert check(facts).by_rule == {"Share": 3}
    for each in world.pods:
        each["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "890m"
    assert check(facts).violations == []


def test_daemonsets_take_no_more_than_a_half(world: World) -> None:
    for each in world.pods:
        each["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "482m"
    facts = Facts(world.nodes, world.pods, world.sessions, [SMALL.vm_size()], left_to_daemonsets={"cpu": "3"})
    assert check(facts).violations == []


def test_a_size_s_own_requests_override_the_share(world: World) -> None:
    size = SMALL.vm_size()
    size["spec"]["requests"] = {"cpu": "100m"}
    assert check(Facts(world.nodes, world.pods, world.sessions, [size])).by_rule == {"Share": 3}
    for each in world.pods:
        each["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "100m"
    assert check(Facts(world.nodes, world.pods, world.sessions, [size])).violations == []


def test_a_node_with_more_than_it_can_give_is_found(world: World) -> None:
    for number in range(4):
        world.sessions.append(session(f"a{number + 3}"))
        world.pods.append(pod(world.sessions[-1], world.pods[0]["spec"]["nodeName"]))
    assert world.rules() == {"Allocatable": 2}  # cpu and memory


def test_pods_of_others_count_for_what_a_node_can_give(world: World) -> None:
    stranger = pod(session("d"), world.pods[0]["spec"]["nodeName"])
    stranger["metadata"]["labels"] = {}
    stranger["spec"]["containers"][0]["resources"]["requests"] = {"cpu": "3"}
    world.pods.append(stranger)
    assert world.rules() == {"Allocatable": 1}


@pytest.mark.parametrize("hard", [{"pods": "2"}, {"count/pods": "2"}, {"requests.cpu": "2"}, {"cpu": "2"}, {"requests.memory": "8Gi"}])
def test_a_quota_that_is_exceeded_is_found(world: World, hard: dict[str, str]) -> None:
    world.quotas = [quota(hard)]
    assert world.rules() == {"Quota": 1}


def test_a_quota_counts_only_the_pods_of_its_priority_class(world: World) -> None:
    of_others = {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["another"]}]}
    ours = {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": [SMALL.name]}]}
    world.quotas = [quota({"pods": "0"}, scopeSelector=of_others)]
    assert world.rules() == {}
    world.quotas = [quota({"pods": "2"}, scopeSelector=ours)]
    assert world.rules() == {"Quota": 1}


def test_a_session_that_the_quota_has_no_room_for_may_be_without_a_pod(world: World) -> None:
    world.sessions.append(session("a3"))
    world.quotas = [quota({"pods": "3"})]
    report = world.check()
    assert report.violations == [] and report.refused_by_quota == 1


def test_what_a_quota_counts_of_one_more_pod_is_known_from_the_others(world: World) -> None:
    term = {"namespaceSelector": {}, "topologyKey": "kubernetes.io/hostname"}
    for each in world.pods:
        each["spec"]["affinity"] = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    world.sessions.append(session("a3"))
    world.quotas = [quota({"pods": "3"}, scopes=["CrossNamespacePodAffinity"])]
    report = world.check()
    assert report.violations == [] and report.refused_by_quota == 1


def test_a_session_that_the_quota_has_room_for_must_have_a_pod(world: World) -> None:
    world.sessions.append(session("a3"))
    world.quotas = [quota({"pods": "4"})]
    assert world.rules() == {"Unplaced": 1}


def test_a_pod_without_a_node_is_found(world: World) -> None:
    del world.pods[0]["spec"]["nodeName"]
    (found,) = world.check().violations
    assert found.rule == "Unplaced" and "has no node" in found.text


def test_two_pods_of_one_session_and_pods_of_none_are_found(world: World) -> None:
    world.pods.append(copy.deepcopy(world.pods[0]))
    world.pods.append(pod(session("gone"), world.nodes[2]["metadata"]["name"]))
    assert world.rules() == {"Twice": 1, "Stranger": 1}


def test_pods_that_ended_do_not_count(world: World) -> None:
    ended = copy.deepcopy(world.pods[2])
    ended["spec"]["nodeName"] = world.pods[0]["spec"]["nodeName"]
    ended["status"]["phase"] = "Failed"
    world.pods.append(ended)
    assert world.rules() == {}


def test_packing_tells_how_many_nodes_fewer_would_do(world: World) -> None:
    world.pods[1]["spec"]["nodeName"] = world.nodes[2]["metadata"]["name"]
    report = world.check()
    assert report.violations == []
    assert (report.nodes_needed, report.nodes_used) == (2, 3)


@pytest.mark.parametrize(
    ("text", "value"), [("1500m", 1.5), ("2", 2), ("1Ki", 1024), ("1.5Gi", 1.5 * 2**30), ("3k", 3000), ("1e3", 1000), (7, 7)]
)
def test_quantities(text: str, value: float) -> None:
    assert quantity(text) == value


def test_what_a_quota_counts_of_a_pod() -> None:
    one = pod(session("g", size=GPUS), "n", GPUS)
    counted = charges(requests(one), {})
    assert counted["requests.nvidia.com/gpu"] == 1 and "nvidia.com/gpu" not in counted
    assert counted["cpu"] == counted["requests.cpu"]


@pytest.mark.parametrize(
    ("scope", "fits"),
    [
        ("NotTerminating", True),
        ("Terminating", False),
        ("BestEffort", False),
        ("NotBestEffort", True),
        ("CrossNamespacePodAffinity", False),
    ],
)
def test_scopes_of_quotas(scope: str, fits: bool) -> None:
    one = pod(session("a"), "n")
    assert in_scope(one, quota({"pods": "1"}, scopes=[scope])) is fits
