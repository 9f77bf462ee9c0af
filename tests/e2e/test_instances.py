"""Compute instances on a real node pool: the reservation, the sessions' share of it, idle stop and start, and moves."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from .conftest import BUSY, Cluster, Object, environment, session
from .test_vm_sizes import SMALL, priority_class, size

pytestmark = pytest.mark.whole_cluster

USER = "alice@example.com"
FLOW = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "flow", "labels": {"flowsession.dev/source": "true"}},
    "data": {"flow.dag.yaml": "inputs: {}\noutputs: {}\nnodes: []\n"},
}


@pytest.fixture
def pool(cluster: Cluster) -> Iterator[Cluster]:
    """Create one size with one node. Only the reservation, not isolation, keeps strangers off."""
    cluster.until_nodes_are_free()
    found = size(SMALL, price="0.096", userIsolation="None")
    name = found["metadata"]["name"]
    cluster.apply(priority_class(SMALL), found, FLOW, environment(source={"configMap": {"name": "flow"}}), environment("other"))
    cluster.until("it has a node", lambda: (cluster.get("vmsize", name) or {}).get("status", {}).get("nodes") == 1, 100)
    yield cluster
    cluster.kubectl("delete", "computeinstances", "--all")
    cluster.kubectl("delete", "vmsizes", name)
    cluster.kubectl("delete", "priorityclasses", found["spec"]["priorityClassName"])


def instance(name: str = "box", **spec: object) -> Object:
    return {
        "apiVersion": "flowsession.dev/v1alpha1",
        "kind": "ComputeInstance",
        "metadata": {"name": name},
        "spec": {"user": USER, "vmSize": SMALL, **spec},
    }


def on(name: str = "s", *, of: str = "plain", action: str = "Delete") -> Object:
    return session(name, of=of, action=action, compute={"type": "Instance", "instanceRef": {"name": "box"}})


def until_phase(cluster: Cluster, phase: str, seconds: float = 120.0) -> Object:
    def so() -> Object | None:
        status: Object = (cluster.get("cinst", "box") or {}).get("status", {})
        return status if status.get("phase") == phase else None

    return cluster.until(f"the instance is {phase}", so, seconds)


def waits(cluster: Cluster, reason: str, name: str = "s") -> None:
    cluster.until_condition(name, "ComputeAllocated", status="False", reason=reason)
    label = f"flowsession.dev/session={name}"
    cluster.until("its pod is gone", lambda: cluster.kubectl.list("pods", "-l", label) == [])


def cgroup(cluster: Cluster, pod: str, unified: str, *legacy: str) -> list[int]:
    """Return the numbers in the container's control file of cgroup v2, or in the control files of v1 if the node has v1."""
    read = f"cat {unified} 2>/dev/null || cat {' '.join(legacy)}"
    return list(map(int, cluster.exec(pod, "sh", "-c", f"cd /sys/fs/cgroup; {read}").split()))


def test_a_stranger_cannot_take_the_room_and_the_sessions_get_it(pool: Cluster) -> None:
    pool.apply(instance(), on("one"), on("two", of="other"))
    first, second = pool.until_ready("one"), pool.until_ready("two")
    status = until_phase(pool, "Running")
    assert first["nodeName"] == second["nodeName"] == status["nodeName"]
    pool.apply(session("stranger", of="other", user="bob@example.com", compute={"vmSize": SMALL}))
    refused = pool.until_condition("stranger", "ComputeAllocated", status="False", reason="Unschedulable")
    assert "Insufficient" in refused["message"], "the scheduler's own words"

    anchor = pool.get("pod", status["podName"])
    assert anchor
    reserved = anchor["spec"]["containers"][0]["resources"]["limits"]
    quota, period = cgroup(pool, first["podName"], "cpu.max", "cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")
    assert quota * 1000 == int(reserved["cpu"].removesuffix("m")) * period, "each may use all processors of the reservation"
    (most,) = cgroup(pool, first["podName"], "memory.max", "memory/memory.limit_in_bytes")
    assert most >= 2**31, "and all of its memory"
    used = "b = bytearray(1 << 30); b[::4096] = b'x' * len(b[::4096]); print(len(b))"
    assert pool.exec(second["podName"], "python", "-c", used).strip() == str(1 << 30), "a gibibyte, of which it requests nothing"
    (used_by_anchor,) = cgroup(pool, status["podName"], "memory.current", "memory/memory.usage_in_bytes")
    assert used_by_anchor < 16 * 2**20, "the anchor itself needs next to nothing"

    pool.patch("cinst", "box", {"spec": {"running": False}})
    waits(pool, "InstanceStopped", "one")
    until_phase(pool, "Stopped")
    pool.until_ready("stranger")
    pool.patch("cinst", "box", {"spec": {"running": True}})
    pool.until("the node is taken", lambda: _reason(pool) == "Unschedulable", 60)
    pool.kubectl("delete", "csess", "stranger")
    pool.until_ready("one")
    assert (pool.get("cinst", "box") or {})["status"]["incarnation"] == 2, "one stop, one more anchor"


def _reason(cluster: Cluster) -> str:
    return str(cluster.condition("box", "Ready", "computeinstance").get("reason"))


def test_idleness_stops_it_and_a_request_starts_it_with_what_was_edited(pool: Cluster) -> None:
    pool.apply(instance(idle={"timeoutSeconds": 20}), on(action="None"))
    before = pool.until_ready("s")
    pool.exec(before["podName"], "sh", "-c", "echo mine > /session/flow/own.txt")
    pool.exec(before["podName"], "python", "-c", BUSY)
    assert pool.status("s")["podName"] == before["podName"], "it is not stopped while somebody works"
    waits(pool, "InstanceStopped")
    stopped = until_phase(pool, "Stopped")
    assert stopped["stopped"]["by"] == "Idle"
    pool.until_event("box", "Stopped")
    told = [event["reason"] for event in pool.events("box")]
    assert told.index("IdleSoon") < told.index("Stopped")
    at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    pool.kubectl("annotate", "cinst", "box", f"flowsession.dev/resume-requested-at={at}")
    after = pool.until_ready("s")
    assert pool.exec(after["podName"], "cat", "/session/flow/own.txt").strip() == "mine"
    assert until_phase(pool, "Running")["handledRequests"] == {"resume": at}


def test_a_session_that_no_node_takes_moves_onto_the_instance_that_has_the_node(pool: Cluster) -> None:
    pool.apply(instance())
    assert until_phase(pool, "Running")["cost"]["perHour"] == "0.0960"
    pool.apply(session(compute={"vmSize": SMALL}))
    pool.until_condition("s", "ComputeAllocated", status="False", reason="Unschedulable")
    pool.patch("csess", "s", {"spec": {"compute": {"type": "Instance", "vmSize": None, "instanceRef": {"name": "box"}}}})
    ready = pool.until_ready("s")
    assert ready["nodeName"] == until_phase(pool, "Running")["nodeName"]
    pool.until_event("s", "ComputeChanged")
