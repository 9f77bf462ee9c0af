"""A real scheduler and six nodes without kubelets, for tests that only look at the scheduler's decisions."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from apiserver.api import Api
from apiserver.recorder import kill_process
from localcluster import binaries
from localcluster.controlplane import ControlPlane
from localcluster.ports import free_port

NODES = [f"node-{number}" for number in range(6)]
NAMESPACES = ["red", "green", "blue"]
CPU, MEMORY = "1900m", "6Gi"
"""The allocatable CPU and memory of each node."""


@contextlib.contextmanager
def six_nodes() -> Iterator[Api]:
    """Yield an API server with six nodes, and its own etcd and scheduler."""
    binaries.build(binaries.KUBERNETES)
    folder = Path(tempfile.mkdtemp(prefix="fs-sched-"))
    components = ("etcd", "kube-apiserver", "kube-scheduler")
    plane = ControlPlane(folder, etcd_port=free_port(), etcd_peer_port=free_port(), apiserver_port=free_port(), components=components)
    try:
        plane.start()
        found = Api(plane.server, plane.token, plane.ca)
        for name in NODES:
            found.post("/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": _labels(name)}})
            gives = {"cpu": CPU, "memory": MEMORY, "pods": "110"}
            ready = [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "ready"}]
            found.patch(f"/api/v1/nodes/{name}/status", {"status": {"allocatable": gives, "capacity": gives, "conditions": ready}})
            found.patch(f"/api/v1/nodes/{name}", {"spec": {"taints": None}})
        for name in NAMESPACES:
            found.post("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
            account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
            found.post(f"/api/v1/namespaces/{name}/serviceaccounts", account)
        yield found
    finally:
        for daemon in plane.daemons():
            if pid := daemon.pid():
                kill_process(pid)
        plane.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _labels(name: str) -> dict[str, str]:
    return {"pool": "a", "kubernetes.io/hostname": name}
