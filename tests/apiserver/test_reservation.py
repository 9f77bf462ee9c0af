"""The promise of a compute instance, kept by the real scheduler: no stranger takes the reserved room, and the sessions get it."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from apiserver.api import Api, eventually
from apiserver.scheduling import CPU, MEMORY, six_nodes
from flowsession.api.instance import ComputeInstanceSpec
from flowsession.manifests import anchor_pod, placement, session_pod
from flowsession.model.views import InstanceView
from flowsession.reconcile.instance.chain import anchor_of
from flowsession.reconcile.instance.snapshot import InstanceSnapshot
from flowsession.reconcile.session.start import pod_of
from unit.builders import resolved, session_snapshot, session_spec
from unit.sizing import D2, offer
from unit.sizing import pool as nodes

SESSIONS = 20


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    with six_nodes() as found:
        yield found


def size(isolation: str) -> Any:
    return offer(D2, nodes({"pool": "a"}, cpu=CPU, memory=MEMORY), nodeSelector={"pool": "a"}, sessionsPerNode=4, userIsolation=isolation)


def post(api: Api, manifest: dict[str, Any]) -> str:
    meta = manifest["metadata"]
    api.post(f"/api/v1/namespaces/{meta['namespace']}/pods", manifest)
    return f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"


def reserve(api: Api, user: str, isolation: str) -> str:
    """Create the anchor that the operator would create, and return its node."""
    snapshot = InstanceSnapshot(
        namespace="red",
        name=f"{user}-{isolation.lower()}",
        uid="0123456789",
        resource_version="1",
        generation=1,
        deleting=False,
        spec=ComputeInstanceSpec(user=user, vm_size=D2),
        status={},
        resume="",
        pods=(),
    )
    path = post(api, anchor_pod.manifest(anchor_of(snapshot, size(isolation), 1)))
    node: str = eventually(lambda: api.get(path)["spec"].get("nodeName"), what="the anchor has a node", seconds=30)
    return node


def session(user: str, number: int = 1) -> dict[str, Any]:
    snapshot = replace(session_snapshot(spec=session_spec(user=user)), namespace="red", name=f"{user}-{number}", uid=f"{number:012d}")
    return session_pod.manifest(pod_of(snapshot, resolved(), 1))


def stranger(name: str, node: str, **requests: str) -> dict[str, Any]:
    container = {"name": "c", "image": "x", "resources": {"requests": requests}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "green"},
        "spec": {"containers": [container], "nodeSelector": {"kubernetes.io/hostname": node}},
    }


def refused(api: Api, path: str, *words: str) -> bool:
    found = api.get(path)
    assert not found["spec"].get("nodeName"), found["spec"]
    said = [c["message"] for c in found["status"].get("conditions") or () if c["type"] == "PodScheduled"]
    assert said and any(word in said[0] for word in words), said
    return True


@pytest.mark.parametrize("isolation", ["None", "Node"])
def test_a_stranger_cannot_take_the_room_and_the_sessions_get_it(api: Api, isolation: str) -> None:
    node = reserve(api, f"ann-{isolation.lower()}", isolation)
    strangers = [
        post(api, stranger(f"cpu-{isolation.lower()}", node, cpu="10m")),
        post(api, stranger(f"memory-{isolation.lower()}", node, memory="10Mi")),
    ]
    other = placement.placed(session(f"bob-{isolation.lower()}"), size(isolation))
    other["spec"]["nodeSelector"] = {"kubernetes.io/hostname": node}
    strangers.append(post(api, other))
    for path in strangers:
        eventually(lambda path=path: refused(api, path, "Insufficient", "anti-affinity"), seconds=30)

    view = InstanceView("box", f"ann-{isolation.lower()}", node=node, vm_size=D2, resources={"cpu": CPU, "memory": MEMORY})
    own = [post(api, anchor_pod.placed_on(session(view.user, number), view, size(isolation))) for number in range(SESSIONS)]

    def all_there() -> bool:
        assert [api.get(path)["spec"].get("nodeName") for path in own] == [node] * SESSIONS
        return True

    eventually(all_there, seconds=60)
    limits = api.get(own[0])["spec"]["containers"][0]["resources"]["limits"]
    assert limits == {"cpu": CPU, "memory": MEMORY}, "each may use all that is reserved"
    assert api.get(own[0])["status"]["qosClass"] == "Burstable"
    for path in strangers:
        assert refused(api, path, "Insufficient", "anti-affinity")
