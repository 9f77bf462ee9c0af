"""A pod of higher priority that fits on a session's node only without the session."""

import contextlib
from collections.abc import Iterator

from .conftest import LABELS, Cluster, Object


@contextlib.contextmanager
def urgent_pod(cluster: Cluster, status: Object) -> Iterator[None]:
    """Run the pod for the duration of the block. `status` is that of the session to be evicted. For tests that have the whole cluster."""
    cluster.until_nodes_are_free()
    node = cluster.get("node", status["nodeName"])
    assert node
    everywhere = cluster.within("").kubectl.list("pods", "-A", "--field-selector", f"spec.nodeName={status['nodeName']}")
    requested = {
        pod["metadata"]["name"]: sum(_millis(c["resources"].get("requests", {}).get("cpu", "0")) for c in pod["spec"]["containers"])
        for pod in everywhere
        if pod["status"]["phase"] not in ("Succeeded", "Failed")
    }
    others = sum(requested.values()) - requested[status["podName"]]
    room = _millis(node["status"]["allocatable"]["cpu"]) - others
    name = f"urgent-{cluster.namespace}"
    urgent = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "urgent"},
        "spec": {
            "priorityClassName": name,
            "nodeSelector": {"kubernetes.io/hostname": status["nodeName"]},
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "c", "image": cluster.get("pod", status["podName"])["spec"]["containers"][0]["image"],
                            "command": ["sleep", "infinity"], "resources": {"requests": {"cpu": f"{room}m"}}}],
        },
    }  # fmt: skip
    metadata = {"name": name, "labels": LABELS}
    cluster.apply({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": metadata, "value": 1_000_000})
    try:
        cluster.apply(urgent)
        yield
    finally:
        cluster.kubectl("delete", "pod", "urgent", "--wait=false")
        cluster.kubectl("delete", "priorityclass", name)


def _millis(quantity: str) -> int:
    return int(quantity[:-1]) if quantity.endswith("m") else int(quantity) * 1000
