"""The cache of sizes, nodes and quotas: which objects each change concerns."""

from typing import Any

import pytest

from flowsession.api.session import ComputeSessionSpec
from flowsession.engine import nodes
from flowsession.engine.store import objects
from flowsession.engine.store.keys import Key
from flowsession.engine.store.sizing import Sizing, refused
from flowsession.model.sizes import Taint
from flowsession.model.views import Refusal
from flowsession.settings import SizeSettings
from unit.builders import NOW
from unit.engine.store.test_cache import pod, session
from unit.sizing import D2, D4, pool

ADA, BOB = ("team", "ada"), ("team", "bob")
SIZE = Key("VMSize", "", "standard-d2s-v5")


def size(name: str = D2, version: int = 1, **more: Any) -> dict[str, Any]:
    spec = {"azureName": name, "capacity": {"cpu": "2", "memory": "8Gi"}, **more.pop("spec", {})}
    meta = {"name": name.lower().replace("_", "-"), "uid": f"uid-{name}", "resourceVersion": str(version), "generation": 1}
    return {"kind": "VMSize", "metadata": meta, "spec": spec, **more}


def quota(version: int = 1, *, used: str = "0", hard: str = "5", namespace: str = "team") -> dict[str, Any]:
    meta = {"name": "q", "namespace": namespace, "uid": "q-1", "resourceVersion": str(version)}
    return {
        "kind": "ResourceQuota",
        "metadata": meta,
        "spec": {"hard": {"pods": hard}},
        "status": {"hard": {"pods": hard}, "used": {"pods": used}},
    }


def entry(name: str = "ada", *, vm_size: str = "", status: Any = None) -> objects.SessionEntry:
    body = session(name=name, status=status or {})
    body["spec"]["compute"] = {"vmSize": vm_size}
    found = objects.session(body)
    assert isinstance(found.spec, ComputeSessionSpec)
    return found


@pytest.fixture
def sizing() -> Sizing:
    """With two sessions: ADA's waits for a pod, BOB's has one."""
    found = Sizing(SizeSettings(daemonset_requests={}))
    found.note(ADA, entry(), placed=False)
    found.note(BOB, entry("bob"), placed=True)
    return found


def key(name: tuple[str, str]) -> Key:
    return Key("ComputeSession", *name)


def test_a_size_concerns_itself_and_who_waits_for_a_pod(sizing):
    assert sizing.sizes.observe(size()) == {SIZE, key(ADA)}
    assert sizing.nodes_wanted


def test_a_size_concerns_who_names_it_even_with_a_pod(sizing):
    sizing.wishes.change(BOB, None, entry("bob", vm_size="Standard_D2s_v5"))
    assert sizing.sizes.observe(size()) == {SIZE, key(ADA), key(BOB)}
    assert sizing.sizes.forget(("", SIZE.name)) == {SIZE, key(ADA), key(BOB)}
    assert sizing.offers() == ()


def test_a_sizes_own_status_wakes_nobody_else(sizing):
    sizing.sizes.observe(size())
    assert sizing.sizes.observe(size(version=2, status={"nodes": 3})) == {SIZE}
    assert sizing.sizes.observe(size(version=1)) == set(), "late news is none"


def test_a_quota_concerns_who_waits_in_its_namespace_and_only_when_there_may_be_more_room(sizing):
    assert sizing.quotas.observe(quota(1, used="5")) == {key(ADA)}
    assert sizing.quotas.observe(quota(2, used="4")) == {key(ADA)}
    assert sizing.quotas.observe(quota(3, used="5")) == set()
    assert sizing.quotas.observe(quota(4, used="5", hard="6")) == {key(ADA)}
    assert sizing.quotas.observe(quota(5, namespace="other")) == set()
    assert sizing.quotas.forget(("team", "q")) == {key(ADA)}
    assert sizing.quotas_of("team") == ()


def test_a_refusal_holds_until_a_quota_has_more_room(sizing, monkeypatch):
    monkeypatch.setattr(sizing, "_clock", iter([NOW, NOW + 2]).__next__)
    sizing.quotas.observe(quota(1, used="5"))
    refusal = Refusal("QuotaExceeded", "full", NOW + 1, 1, {"": "full"})
    assert sizing.still_holds(refusal, "team") is refusal
    sizing.quotas.observe(quota(2, used="4"))
    assert sizing.still_holds(refusal, "team") is None
    other = Refusal("PodRefused", "no", NOW + 1, 1)
    assert sizing.still_holds(other, "team") is other


def test_suspended_and_deleted_sessions_wait_for_nothing(sizing):
    sizing.note(ADA, entry(status={"suspended": {"by": "User"}}), placed=False)
    assert sizing.sizes.observe(size()) == {SIZE}
    sizing.note(ADA, entry(vm_size=D2), placed=False)
    sizing.note(ADA, None, placed=False)
    assert sizing.sizes.observe(size(version=2, spec={"sessionsPerNode": 2})) == {SIZE}


def test_nodes_concern_the_sizes_that_they_change_and_who_waits(sizing):
    sizing.sizes.observe(size(spec={"nodeSelector": {"pool": "a"}}))
    sizing.sizes.observe(size(D4, spec={"nodeSelector": {"pool": "b"}}))
    assert sizing.set_pools((pool({"pool": "a"}, nodes=2),)) == {SIZE, key(ADA)}
    assert sizing.set_pools((pool({"pool": "a"}, nodes=2), pool({"pool": "c"}, nodes=9))) == set()
    assert sizing.snapshot(SIZE.name).offer.nodes == 2


def test_relabelled_nodes_wake_no_session_that_runs(sizing):
    sizing.sizes.observe(size(spec={"nodeSelector": {"pool": "a"}}))
    sizing.set_pools((pool({"pool": "a"}),))
    sizing.note(ADA, entry(), placed=True)
    assert sizing.set_pools((pool({"pool": "b"}),)) == {SIZE}


def test_sessions_are_counted_by_the_size_of_their_pods(sizing):
    sizing.sizes.observe(size(status={"sessions": 1}))
    bodies = [pod(uid=f"p{n}") for n in range(4)]
    for body in bodies[1:]:
        body["metadata"]["labels"]["flowsession.dev/vm-size"] = D2
    bodies[3]["metadata"]["deletionTimestamp"] = "2026-11-22T20:00:00Z"
    entries = [objects.pod(body) for body in bodies]
    assert sizing.count(entries[:2]) == set(), "the status is right already"
    assert sizing.count(entries) == {SIZE}
    assert sizing.snapshot(SIZE.name).sessions == 2
    assert sizing.count([]) == {SIZE}, "fewer is news too"


def test_a_quota_that_can_t_be_read_is_told_of(sizing):
    with pytest.raises(objects.Unreadable, match="no quantity"):
        sizing.quotas.observe(quota(1, hard="many"))


def test_refusals_of_one_round_add_up_and_another_round_is_slower():
    first = refused(None, "QuotaExceeded", "a", "d2", NOW)
    second = refused(first, "QuotaExceeded", "b", "d4", NOW + 1)
    assert (second.count, second.sizes) == (1, {"d2": "a", "d4": "b"})
    third = refused(second, "QuotaExceeded", "c", "d2", NOW + 2)
    assert (third.count, third.sizes) == (2, {"d2": "c"})
    assert refused(third, "PodRefused", "d", "d2", NOW + 3).count == 1


# -- reading nodes


def node(labels: dict[str, str], taints: Any = (), **allocatable: str) -> dict[str, Any]:
    gives = allocatable or {"cpu": "2", "memory": "8Gi"}
    return {"metadata": {"name": "n", "labels": labels}, "spec": {"taints": list(taints)}, "status": {"allocatable": gives}}


def test_nodes_are_grouped_by_what_sizes_look_at():
    grouped: dict[Any, Any] = {}
    gpu = {"key": "sku", "value": "gpu", "effect": "NoSchedule"}
    page = [
        node({"pool": "a", "host": "1"}, cpu="2", memory="8Gi"),
        node({"pool": "a", "host": "2"}, cpu="1900m", memory="9Gi"),
        node({"pool": "a", "host": "3"}, [gpu]),
        node({"host": "4"}, cpu="junk", memory="1Gi"),
    ]
    nodes.gather(page, {"pool"}, {"cpu", "memory"}, grouped)
    nodes.gather([node({"pool": "a", "host": "5"})], {"pool"}, {"cpu", "memory"}, grouped)
    found = {(tuple(p.labels.items()), p.taints): p for p in nodes.pools(grouped)}
    plain = found[(("pool", "a"),), ()]
    assert (plain.nodes, plain.allocatable) == (3, pool(cpu="1900m", memory="8Gi").allocatable)
    assert found[(("pool", "a"),), (Taint("sku", "gpu", "NoSchedule"),)].nodes == 1
    assert "cpu" not in found[(), ()].allocatable


def test_two_hundred_sizes_and_five_thousand_nodes_are_few_pools():
    sizing = Sizing()
    for number in range(200):
        sizing.sizes.observe(size(f"Standard_D{number}s_v5", spec={"nodeSelector": {"type": str(number)}}))
    grouped: dict[Any, Any] = {}
    nodes.gather((node({"type": str(n % 8), "host": str(n)}) for n in range(5000)), {"type"}, {"cpu", "memory"}, grouped)
    assert len(grouped) == 8
    sizing.set_pools(nodes.pools(grouped))
    assert sorted(offer.nodes for offer in sizing.offers())[-9:] == [0] + [625] * 8
