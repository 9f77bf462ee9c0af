"""VM sizes: a session's share of a node, and the VMSize's status."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowsession.api.quantity import listed, parse, text, texts
from flowsession.model.plan import Plan
from flowsession.model.sizes import Taint
from flowsession.reconcile.size import offer as sizes
from flowsession.reconcile.size.offer import SizeSnapshot, reserved_by_aks
from flowsession.settings import SizeSettings
from unit.builders import NOW, applied, condition
from unit.sizing import D2, offer, pool

GIB = 2**30
GPU = {"cpu": "4", "memory": "28Gi", "nvidia.com/gpu": "1"}

# -- quantities


@pytest.mark.parametrize(
    ("written", "amount"),
    [
        ("2", 2), ("500m", Fraction(1, 2)), ("0.5", Fraction(1, 2)), ("8Gi", 8 * GIB), ("218.75Gi", Fraction(875, 4) * GIB), ("1e3", 1000),
        ("100M", 10**8), ("1k", 1000), ("7152652Ki", 7152652 * 1024), ("1Ti", 2**40), ("3E", 3 * 10**18), ("250u", Fraction(1, 4000)),
    ],
)  # fmt: skip
def test_quantities_are_read_exactly(written, amount):
    assert parse(written) == amount


@pytest.mark.parametrize("junk", ["", "two", "8GB", "1,5", "Gi", "--1", "nan"])
def test_junk_is_no_quantity(junk):
    with pytest.raises(ValueError, match="is no quantity"):
        parse(junk)


@given(st.integers(1, 10**15), st.sampled_from(["cpu", "memory", "nvidia.com/gpu", "requests.cpu", "limits.memory", "pods"]))
def test_what_is_written_is_never_more_than_what_was_meant(thousandths, resource):
    amount = Fraction(thousandths, 1000)
    assert parse(text(resource, amount)) <= amount
    assert amount - parse(text(resource, amount)) < 2**20


# -- the share


# Azure's own examples: https://learn.microsoft.com/azure/aks/node-resource-reservations
@pytest.mark.parametrize(
    ("memory", "max_pods", "reserved"),
    [(8 * 10**9, 30, 650 * 10**6), (4 * 10**9, 70, 1000 * 10**6)],
    ids=["8 GB, 30 pods", "4 GB, 70 pods"],
)
def test_aks_reserves_memory_as_its_documentation_says(memory, max_pods, reserved):
    assert reserved_by_aks(Fraction(2), Fraction(memory), max_pods)[1] == reserved + 100 * 2**20


@pytest.mark.parametrize(
    ("cores", "milli"), [(1, 60), (2, 100), (4, 140), (8, 180), (16, 260), (20, 260), (32, 420), (48, 420), (64, 740), (96, 740)]
)
def test_aks_reserves_processors_in_steps(cores, milli):
    assert reserved_by_aks(Fraction(cores), Fraction(GIB), 30)[0] == Fraction(milli, 1000)


def test_without_nodes_the_share_is_of_the_capacity_less_what_aks_and_daemonsets_take():
    got = offer(sessionsPerNode=4, settings=SizeSettings(daemonset_requests={"cpu": "300m", "memory": "500Mi"}, max_pods_per_node=30))
    assert got.requests["cpu"] == Fraction(2000 - 100 - 300, 4 * 1000)
    assert texts(got.requests) == {"cpu": "400m", "memory": "1743Mi"}  # (8 GiB - 650 MB - 100 MiB - 500 MiB) / 4
    assert texts(got.limits) == {"cpu": "1600m", "memory": "6972Mi"}, "it may burst to the whole node"
    assert (got.nodes, got.usable) == (0, False)


def test_with_nodes_the_share_is_of_what_the_least_of_them_can_give():
    pools = (pool({"pool": "a"}, cpu="1900m", memory="6Gi"), pool({"pool": "a"}, cpu="1800m", memory="7Gi"), pool({"pool": "b"}, cpu="8"))
    got = offer(D2, *pools, nodeSelector={"pool": "a"}, sessionsPerNode=2)
    assert texts(got.requests) == {"cpu": "900m", "memory": "3Gi"}
    assert got.nodes == 2


def test_daemonsets_are_left_half_a_node_at_most():
    tiny = offer(D2, pool(cpu="400m", memory="600Mi"), settings=SizeSettings(daemonset_requests={"cpu": "300m", "memory": "500Mi"}))
    assert texts(tiny.requests) == {"cpu": "200m", "memory": "300Mi"}


def test_requests_of_the_size_itself_replace_the_share():
    got = offer(D2, pool(), sessionsPerNode=2, requests={"memory": "1Gi", "ephemeral-storage": "5Gi"})
    assert texts(got.requests) == {"cpu": "950m", "memory": "1Gi", "ephemeral-storage": "5Gi"}
    assert texts(got.limits) == {"cpu": "1900m", "memory": "6Gi", "ephemeral-storage": "5Gi"}


@pytest.mark.parametrize(
    ("gpus", "sessions", "per_node", "each"),
    [(1, 1, 1, 1), (1, 4, 1, 1), (4, 4, 4, 1), (4, 3, 3, 1), (4, 2, 2, 2), (8, 1, 1, 8), (8, 3, 3, 2)],
)
def test_gpus_come_whole_and_are_requested_as_they_are_limited(gpus, sessions, per_node, each):
    got = offer(D2, capacity=GPU | {"nvidia.com/gpu": str(gpus)}, sessionsPerNode=sessions)
    assert got.per_node == per_node
    assert got.requests["nvidia.com/gpu"] == got.limits["nvidia.com/gpu"] == each
    assert got.requests["cpu"] == parse(text("cpu", got.limits["cpu"] / per_node))


def test_a_node_whose_device_plugin_is_not_there_yet_tells_nothing_of_gpus():
    assert offer(D2, pool(cpu="4", memory="20Gi"), capacity=GPU).requests["nvidia.com/gpu"] == 1
    assert offer(D2, pool(cpu="4", memory="20Gi", gpus="2"), capacity=GPU | {"nvidia.com/gpu": "4"}).requests["nvidia.com/gpu"] == 2


CAPACITIES = st.fixed_dictionaries(
    {"cpu": st.integers(1, 416).map(str), "memory": st.integers(1, 12000).map(lambda gib: f"{gib}Gi")},
    optional={"nvidia.com/gpu": st.integers(1, 8).map(str)},
)


@given(
    CAPACITIES,
    st.integers(1, 250),
    st.lists(st.tuples(st.integers(100, 400_000), st.integers(200, 10**7)), max_size=4),
    st.integers(0, 1000),
    st.integers(10, 500),
)
def test_a_nodes_sessions_fit_on_the_node(capacity, sessions, nodes, daemonsets, max_pods):
    """Whatever the numbers, as many sessions as the size says fit on one node, and each may burst. With GPUs, each gets at least one."""
    settings = SizeSettings(daemonset_requests={"cpu": f"{daemonsets}m", "memory": f"{daemonsets}Mi"}, max_pods_per_node=max_pods)
    pools = [pool(cpu=f"{cpu}m", memory=f"{memory}Mi") for cpu, memory in nodes]
    got = offer(D2, *pools, capacity=capacity, sessionsPerNode=sessions, settings=settings)
    assert 1 <= got.per_node <= sessions
    for resource in ("cpu", "memory"):
        room = min((p.allocatable[resource] for p in pools), default=parse(capacity[resource]))
        assert got.per_node * got.requests[resource] <= room
        assert got.requests[resource] <= got.limits[resource] <= room
    if "nvidia.com/gpu" in capacity:
        share = got.requests["nvidia.com/gpu"]
        assert share == got.limits["nvidia.com/gpu"] >= 1
        assert share.denominator == 1
        assert share * got.per_node <= parse(capacity["nvidia.com/gpu"])


# -- nodes

GPU_TAINT = Taint("sku", "gpu", "NoSchedule")
CORDONED = Taint("node.kubernetes.io/unschedulable", "", "NoSchedule")


@pytest.mark.parametrize(
    ("tolerations", "nodes"),
    [
        ([], 0),
        ([{"key": "sku", "value": "gpu", "effect": "NoSchedule"}], 1),
        ([{"key": "sku", "value": "gpu"}], 1),
        ([{"key": "sku", "operator": "Exists"}], 1),
        ([{"operator": "Exists"}], 1),
        ([{"key": "sku", "value": "cpu", "effect": "NoSchedule"}], 0),
        ([{"key": "sku", "value": "gpu", "effect": "NoExecute"}], 0),
        ([{"key": "other", "operator": "Exists"}], 0),
    ],
)
def test_nodes_with_taints_that_the_size_does_not_tolerate_are_not_of_it(tolerations, nodes):
    assert offer(D2, pool(taints=(GPU_TAINT,)), tolerations=tolerations).nodes == nodes


def test_a_taint_that_only_asks_to_stay_away_keeps_nobody_out():
    assert offer(D2, pool(taints=(Taint("busy", "", "PreferNoSchedule"),))).usable


def test_a_cordoned_node_is_of_the_size_but_takes_nobody():
    got = offer(D2, pool(taints=(CORDONED,), nodes=3))
    assert (got.nodes, got.usable) == (3, False)


# -- the status


def snapshot(found, *, autoscaler: bool = False, sessions: int = 0, **fields):
    known = {"resource_version": "5", "generation": 2, "status": {}}
    return SizeSnapshot(**{**known, **fields}, offer=found, sessions=sessions, autoscaler=autoscaler)


@pytest.mark.parametrize(
    ("found", "autoscaler", "status", "reason", "says"),
    [
        (
            offer(D2, pool(nodes=3), sessionsPerNode=2),
            False,
            "True",
            "NodesPresent",
            "a session requests cpu 950m, memory 3Gi (2 on a node)",
        ),
        (offer(D2, nodeSelector={"pool": "a"}), True, "True", "ScaleFromZero", "no node has the labels pool=a"),
        (offer(D2, nodeSelector={"pool": "a"}), False, "False", "NoNodes", "fix nodeSelector"),
        (offer(D2, pool(taints=(CORDONED,), nodes=3)), False, "False", "NoNodes", "none of its 3 nodes takes new pods now"),
        (offer(D2, pool(), userIsolation="Node", sessionsPerNode=2), False, "True", "NodesPresent", "(2 of the same user on a node)"),
        (
            offer(D2, capacity=GPU, sessionsPerNode=4),
            True,
            "True",
            "ScaleFromZero",
            "sessionsPerNode is 4, but devices are not shared by halves",
        ),
    ],
)
def test_whether_a_size_is_available(found, autoscaler, status, reason, says):
    plan = sizes.decide(snapshot(found, autoscaler=autoscaler), NOW)
    got = condition(plan.status.status, "Available")
    assert (got["status"], got["reason"]) == (status, reason)
    assert says in got["message"]


def test_a_status_that_is_right_is_not_written_again():
    before = snapshot(offer(D2, pool(nodes=2)), sessions=7)
    status = applied({}, sizes.decide(before, NOW).status.status)
    assert (status["nodes"], status["sessions"], status["observedGeneration"]) == (2, 7, 2)
    assert sizes.decide(snapshot(offer(D2, pool(nodes=2)), sessions=7, status=status), NOW + 100) == Plan()


def test_amounts_are_listed_for_people():
    assert listed(offer(D2, pool()).requests) == "cpu 1900m, memory 6Gi"
