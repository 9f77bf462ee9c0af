"""The cluster's shape: its nodes, addresses and ports."""

from dataclasses import dataclass

POD_RANGE = "10.244.0.0/16"
NODE_RANGE = "10.245.0.0/24"
INTERFACE = "flowsession0"
"""The interface with the addresses of NODE_RANGE. The machine's own addresses may change while the cluster runs, these don't."""

API_ADDRESS = "10.245.0.1"
API_PORT = 16443
ETCD_PORT = 12379
ETCD_PEER_PORT = 12380
KUBELET_PORT = 10250
KUBELET_HEALTH_PORT = 10248
PROXY_HEALTH_PORT = 10256
PROXY_METRICS_PORT = 10249


@dataclass(frozen=True)
class Node:
    """One kubelet with its containerd."""

    name: str
    address: str
    pod_range: str
    instance_type: str
    pool: str

    @property
    def cgroup(self) -> str:
        """Return the path of the cgroup, in every hierarchy, for exactly this node's pods."""
        return f"/flowsession-{self.name}"

    @property
    def network(self) -> str:
        """Return the name of its CNI network, under which CNI keeps state."""
        return f"flowsession-{self.name}"


NODES = (
    Node("node-a", "10.245.0.11", "10.244.1.0/24", "Standard_D2s_v5", "d2"),
    Node("node-b", "10.245.0.12", "10.244.2.0/24", "Standard_D4s_v5", "d4"),
)
