"""The promise of userIsolation: Node, kept by the real scheduler: no node ever has sessions of two users, in any order of arrival."""

from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from apiserver.api import Api, eventually
from apiserver.scheduling import NAMESPACES, six_nodes
from flowsession.manifests import placement, session_pod
from flowsession.reconcile.session.start import pod_of
from unit.builders import resolved, session_snapshot, session_spec
from unit.sizing import D2, offer
from unit.sizing import pool as nodes

SIZE = offer(D2, nodes({"pool": "a"}), nodeSelector={"pool": "a"}, sessionsPerNode=4, userIsolation="Node")


@pytest.fixture
def api() -> Iterator[Api]:
    with six_nodes() as found:
        yield found


def start(api: Api, user: str, namespace: str, number: int = 1) -> None:
    """Create the pod that the operator would create."""
    snapshot = replace(
        session_snapshot(spec=session_spec(user=user)),
        namespace=namespace,
        name=f"{user}-{number}",
        uid=f"{abs(hash((user, number))):012d}",
    )
    api.post(f"/api/v1/namespaces/{namespace}/pods", placement.placed(session_pod.manifest(pod_of(snapshot, resolved(), 1)), SIZE))


def pods(api: Api) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.get("/api/v1/pods")["items"]
    return found


def users_by_node(api: Api) -> dict[str, set[str]]:
    found = defaultdict(set)
    for one in pods(api):
        if node := one["spec"].get("nodeName"):
            found[node].add(one["metadata"]["annotations"]["flowsession.dev/user"])
    return dict(found)


def scheduled(api: Api, count: int) -> bool:
    assert sum(bool(one["spec"].get("nodeName")) for one in pods(api)) == count
    return True


def test_no_two_users_on_a_node_and_ones_own_sessions_together(api: Api) -> None:
    orders = [(user, NAMESPACES[number % 3], number) for number in range(1, 4) for user in ("ann", "bob", "cy", "dan")]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda order: start(api, *order), orders))
    eventually(lambda: scheduled(api, len(orders)), seconds=30)
    found = users_by_node(api)
    assert all(len(users) == 1 for users in found.values()), found
    assert len(found) == 4, "three sessions of a user fit on one node, in whatever namespace they are"

    start(api, "eve", "red")
    start(api, "fred", "green")
    eventually(lambda: scheduled(api, 14), seconds=30)
    start(api, "grace", "blue")

    def refused() -> bool:
        (waiting,) = [one for one in pods(api) if not one["spec"].get("nodeName")]
        said = [c["message"] for c in waiting["status"].get("conditions") or () if c["type"] == "PodScheduled"]
        assert said
        assert "anti-affinity" in said[0], said
        return True

    eventually(refused, seconds=30)
    assert all(len(users) == 1 for users in users_by_node(api).values())
