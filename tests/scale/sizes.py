"""The eight pools of these tests: Azure's sizes as VMSize objects, and the nodes that AKS makes of them."""

from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]

INSTANCE_TYPE = "node.kubernetes.io/instance-type"
GPU = "nvidia.com/gpu"
PODS_PER_NODE = 110
MIB = 2**20
GIB = 2**30
_CPU_RESERVED_MILLI = {1: 60, 2: 100, 4: 140, 8: 180, 16: 260, 32: 420, 64: 740}
"""AKS's reservation by number of cores (learn.microsoft.com/azure/aks/node-resource-reservations)."""


@dataclass(frozen=True)
class Size:
    """One VM size and its pool."""

    azure_name: str
    cpus: int
    memory_gib: int
    disk_gib: int
    sessions_per_node: int
    price: str
    nodes: int
    gpus: int = 0
    taint: str = ""
    """`key=value` of a NoSchedule taint of the pool's nodes, which its sessions tolerate."""

    @property
    def name(self) -> str:
        """Return the VMSize object's name."""
        return self.azure_name.lower().replace("_", "-")

    def allocatable(self) -> dict[str, str]:
        """Return what a node leaves to pods by AKS's reservation formula for Kubernetes 1.29 and later."""
        memory = self.memory_gib * GIB
        reserved = min(20_000_000 * PODS_PER_NODE + 50_000_000, memory // 4) + 100 * MIB
        left = {
            "cpu": f"{self.cpus * 1000 - _CPU_RESERVED_MILLI[self.cpus]}m",
            "memory": f"{(memory - reserved) // 1024}Ki",
            "ephemeral-storage": f"{self.disk_gib * GIB * 9 // 10}",
            "pods": str(PODS_PER_NODE),
        }
        return {**left, GPU: str(self.gpus)} if self.gpus else left

    def vm_size(self) -> Object:
        """Return the VMSize object, as in the chart's catalogue."""
        capacity = {"cpu": str(self.cpus), "memory": f"{self.memory_gib}Gi", "ephemeral-storage": f"{self.disk_gib}Gi"}
        return {
            "apiVersion": "flowsession.dev/v1alpha1",
            "kind": "VMSize",
            "metadata": {"name": self.name},
            "spec": {
                "azureName": self.azure_name,
                "capacity": {**capacity, GPU: str(self.gpus)} if self.gpus else capacity,
                "sessionsPerNode": self.sessions_per_node,
                "nodeSelector": {INSTANCE_TYPE: self.azure_name},
                "tolerations": [self._toleration()] if self.taint else [],
                "pricePerHour": self.price,
                "priorityClassName": self.name,
                "userIsolation": "Node",
                "autoSelect": True,
            },
        }

    def node(self, number: int) -> Object:
        """Return a node of the pool, which kwok simulates."""
        name = f"{self.name}-{number:03d}"
        key, _, value = self.taint.partition("=")
        allocatable = self.allocatable()
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": name,
                "annotations": {"kwok.x-k8s.io/node": "fake"},
                "labels": {
                    INSTANCE_TYPE: self.azure_name,
                    "kubernetes.io/hostname": name,
                    "kubernetes.io/os": "linux",
                    "kubernetes.io/arch": "amd64",
                    "kubernetes.azure.com/agentpool": self.name.removeprefix("standard-").replace("-", ""),
                },
            },
            "spec": {"taints": [{"key": key, "value": value, "effect": "NoSchedule"}]} if self.taint else {},
            "status": {
                "allocatable": allocatable,
                "capacity": {**allocatable, "cpu": str(self.cpus), "memory": f"{self.memory_gib}Gi"},
            },
        }

    def priority_class(self) -> Object:
        """Return the class by which a ResourceQuota can select this size's pods."""
        return {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": self.name},
            "value": 0,
            "preemptionPolicy": "Never",
        }

    def _toleration(self) -> Object:
        key, _, value = self.taint.partition("=")
        return {"key": key, "operator": "Equal", "value": value, "effect": "NoSchedule"}


SIZES = (
    Size("Standard_D2s_v5", 2, 8, 128, 2, "0.096", nodes=100),
    Size("Standard_D4s_v5", 4, 16, 128, 4, "0.192", nodes=66),
    Size("Standard_D8s_v5", 8, 32, 128, 4, "0.384", nodes=66),
    Size("Standard_D16s_v5", 16, 64, 128, 8, "0.768", nodes=34),
    Size("Standard_E4s_v5", 4, 32, 128, 4, "0.252", nodes=66),
    Size("Standard_E8s_v5", 8, 64, 128, 8, "0.504", nodes=34),
    Size("Standard_F8s_v2", 8, 16, 128, 4, "0.338", nodes=67),
    Size("Standard_NC64as_T4_v3", 64, 440, 128, 4, "4.352", nodes=67, gpus=4, taint="sku=gpu"),
)
