"""A real autoscaler in the bed: Karpenter, whose kwok provider makes nodes that kwok simulates. Each size has a pool without nodes."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from apiserver.api import eventually
from apiserver.conftest import install_crds, killed_at_exit
from localcluster import binaries
from localcluster.binaries import KARPENTER
from localcluster.daemons import Daemon
from localcluster.ports import free_port
from scale.bed import Bed
from scale.counting import quantity
from scale.sizes import INSTANCE_TYPE, Size

Object = dict[str, Any]

POOLS = "/apis/karpenter.sh/v1/nodepools"
CLAIMS = "/apis/karpenter.sh/v1/nodeclaims"
CLASSES = "/apis/karpenter.kwok.sh/v1alpha1/kwoknodeclasses"
EMPTY_SECONDS = 10
"""Seconds for which a node may stay empty. Karpenter waits this long after the last pod has left before it considers the node."""
_CAPACITY_TYPE = "karpenter.sh/capacity-type"
_ZONE = "topology.kubernetes.io/zone"
_KEPT_CPU, _KEPT_MEMORY = 100, 10 * 2**20
"""Millicores and bytes that the kwok provider subtracts from every node for the kubelet. Our sizes already include AKS's reservations."""


@contextmanager
def autoscaling(bed: Bed, sizes: Sequence[Size], *, boot_seconds: int = 0) -> Iterator[Daemon]:
    """Run Karpenter with a pool for each size. `boot_seconds` is the time from a new machine to its node."""
    binaries.build(KARPENTER)
    provider = binaries.source(KARPENTER, "sigs.k8s.io/karpenter") / "kwok"
    install_crds(bed.api, sorted([*(provider / "charts/crds").glob("*.yaml"), *(provider / "apis/crds").glob("*.yaml")]))
    types = bed.cluster.folder / "instance-types.json"
    types.write_text(json.dumps([instance_type(size) for size in sizes]))
    node_class = {"apiVersion": "karpenter.kwok.sh/v1alpha1", "kind": "KWOKNodeClass", "metadata": {"name": "kwok"}}
    bed.create(CLASSES, {**node_class, "spec": {"nodeRegistrationDelay": f"{boot_seconds}s"}})
    bed.create(POOLS, *(node_pool(size) for size in sizes))
    health = free_port()
    daemon = Daemon(
        "karpenter",
        [KARPENTER.binary("karpenter")],
        folder=bed.cluster.folder,
        configuration=[types],
        environment={
            "KUBECONFIG": str(bed.cluster.plane.kubeconfig),
            "INSTANCE_TYPES_FILE_PATH": str(types),
            "SYSTEM_NAMESPACE": "kube-system",
            "KUBERNETES_MIN_VERSION": "1.19.0-0",
            "KARPENTER_SERVICE": "karpenter",
            "DISABLE_LEADER_ELECTION": "true",
            "METRICS_PORT": str(free_port()),
            "HEALTH_PROBE_PORT": str(health),
            "CPU_REQUESTS": "1000",
            "MEMORY_LIMIT": str(2**30),
        },
    )
    daemon.start()
    with killed_at_exit([daemon]):
        eventually(lambda: _pools_ready(bed, daemon), seconds=60, what="Karpenter has its pools ready")
        yield daemon


def instance_type(size: Size) -> Object:
    """Return a machine that leaves as much to pods as AKS's would."""
    left = size.allocatable()
    cpu = int(quantity(left["cpu"]) * 1000) + _KEPT_CPU
    memory = int(quantity(left["memory"])) + _KEPT_MEMORY
    where = [{"key": _CAPACITY_TYPE, "operator": "In", "values": ["on-demand"]}, {"key": _ZONE, "operator": "In", "values": ["zone-1"]}]
    return {
        "name": size.azure_name,
        "offerings": [{"Price": float(size.price), "Available": True, "Requirements": where}],
        "architecture": "amd64",
        "operatingSystems": ["linux"],
        "resources": {**left, "cpu": f"{cpu}m", "memory": str(memory)},
    }


def node_pool(size: Size) -> Object:
    """Return the pool that an administrator would make for one size."""
    key, _, value = size.taint.partition("=")
    spec = {
        "nodeClassRef": {"group": "karpenter.kwok.sh", "kind": "KWOKNodeClass", "name": "kwok"},
        "requirements": [
            {"key": INSTANCE_TYPE, "operator": "In", "values": [size.azure_name]},
            {"key": _CAPACITY_TYPE, "operator": "In", "values": ["on-demand"]},
        ],
        "taints": [{"key": key, "value": value, "effect": "NoSchedule"}] if size.taint else [],
        "expireAfter": "Never",
    }
    return {
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodePool",
        "metadata": {"name": size.name},
        "spec": {
            "template": {"spec": spec},
            "disruption": {
                "consolidationPolicy": "WhenEmpty",
                "consolidateAfter": f"{EMPTY_SECONDS}s",
                "budgets": [{"nodes": "100%"}],
            },
        },
    }


def _pools_ready(bed: Bed, daemon: Daemon) -> bool:
    daemon.check_alive()
    return all(
        any(c["type"] == "Ready" and c["status"] == "True" for c in pool.get("status", {}).get("conditions") or ())
        for pool in bed.everything(POOLS)
    )
