"""The test bed: a control plane with a scheduler, a kwok that simulates the kubelets, and functions to fill it."""

import os
import signal
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import urllib3

from apiserver.api import Api, Refused, eventually
from apiserver.conftest import Cluster, private_cluster
from localcluster import binaries
from localcluster.binaries import KWOK
from localcluster.controlplane import LOOPBACK, ControlPlane
from localcluster.daemons import Daemon
from localcluster.ports import free_port
from scale.agents import Switchboard
from scale.sizes import INSTANCE_TYPE, Size

Object = dict[str, Any]

_CONTROLLERS = (
    "garbage-collector-controller,namespace-controller,node-lifecycle-controller,resourcequota-controller,serviceaccount-controller"
)
_COMPONENTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
_PAGE = 500
_ALGORITHM = "scheduler_scheduling_algorithm_duration_seconds"
_NAMES = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


class ScalePlane(ControlPlane):
    """A whole control plane, plus kwok.

    The lease of a simulated node lasts ten minutes, and the controller waits an hour for it, so a busy machine loses no node by
    accident. The scheduler may write as fast as it decides: its default limit of 50 requests a second would dominate the measurement.
    """

    pod_network = "127.90.0.0/16"

    @cached_property
    def scheduler_port(self) -> int:
        """Return the port where the scheduler serves its metrics to anybody on this machine."""
        return free_port()

    def daemons(self) -> list[Daemon]:
        found = super().daemons()
        more = {
            "kube-controller-manager": [f"--controllers={_CONTROLLERS}", "--node-monitor-grace-period=1h"],
            "kube-scheduler": [
                "--kube-api-qps=2000",
                "--kube-api-burst=4000",
                f"--secure-port={self.scheduler_port}",
                f"--bind-address={LOOPBACK}",
                f"--cert-dir={self.folder}/scheduler",
                "--authorization-always-allow-paths=/metrics",
            ],
        }
        for daemon in found:
            daemon.argv += more.get(daemon.name, [])
        return [*found, self._kwok()]

    def start(self) -> bool:
        binaries.build(KWOK)
        return super().start()

    def _kwok(self) -> Daemon:
        stages = Path(__file__).with_name("stages.yaml")
        argv: list[str | Path] = [
            KWOK.binary("kwok"),
            f"--kubeconfig={self.kubeconfig}",
            f"--config={stages}",
            "--manage-all-nodes",
            f"--cidr={self.pod_network}",
            "--node-lease-duration-seconds=600",
            f"--node-ip={LOOPBACK}",
        ]
        return Daemon("kwok", argv, folder=self.folder, configuration=[stages])


@dataclass(frozen=True)
class Scheduled:
    """The scheduler's own metrics: the number of attempts, and the seconds that its algorithm took."""

    attempts: int
    seconds: float

    def since(self, before: "Scheduled") -> float:
        """Return the milliseconds per attempt since then."""
        return 1000 * (self.seconds - before.seconds) / max(1, self.attempts - before.attempts)


@dataclass
class Bed:
    """The cluster, with the operations that tests need."""

    cluster: Cluster

    @property
    def api(self) -> Api:
        return self.cluster.api

    def everything(self, path: str) -> list[Object]:
        """Return all objects of a kind in all namespaces, read in pages."""
        found: list[Object] = []
        token = ""
        while True:
            page = self.api.get(f"{path}?limit={_PAGE}" + (f"&continue={token}" if token else ""))
            found += page["items"]
            if not (token := page["metadata"].get("continue", "")):
                return found

    def nodes(self) -> list[Object]:
        return self.everything("/api/v1/nodes")

    def pods(self) -> list[Object]:
        return self.everything("/api/v1/pods")

    def post_all(self, path: str, bodies: Sequence[Object], *, at_once: int = 8) -> list[Object | Refused]:
        """Post each body, and return the API server's responses or refusals in order. `{namespace}` in the path is the body's."""

        def post(body: Object) -> Object | Refused:
            try:
                answer: Object = self.api.post(path.replace("{namespace}", body["metadata"].get("namespace", "")), body)
            except Refused as refused:
                return refused
            return answer

        with ThreadPoolExecutor(at_once) as workers:
            return list(workers.map(post, bodies))

    def create(self, path: str, *bodies: Object) -> None:
        """Create all of them. Existing ones are skipped, and the first other refusal is raised."""
        for answer in self.post_all(path, bodies):
            if isinstance(answer, Refused) and answer.status != 409:
                raise answer

    def add_pools(self, sizes: Sequence[Size]) -> None:
        """Create the pools' nodes and wait until all are Ready and schedulable."""
        nodes = [size.node(number) for size in sizes for number in range(size.nodes)]
        self.create("/api/v1/nodes", *nodes)
        names = {node["metadata"]["name"] for node in nodes}
        eventually(lambda: names <= {node["metadata"]["name"] for node in self.nodes() if open_to_pods(node)}, seconds=120)

    def add_namespaces(self, names: Sequence[str]) -> None:
        """Create namespaces and wait for the service account that pods need."""
        self.create("/api/v1/namespaces", *({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in names))
        for name in names:
            eventually(lambda name=name: self.api.find(f"/api/v1/namespaces/{name}/serviceaccounts/default"), seconds=30)

    def add_quotas(self, *quotas: Object) -> None:
        """Create quotas and return once they are in force. The API server admits nothing before the controller has counted."""
        self.create("/api/v1/namespaces/{namespace}/resourcequotas", *quotas)

        def counted() -> bool:
            return all(quota.get("status", {}).get("hard") == quota["spec"]["hard"] for quota in self.everything("/api/v1/resourcequotas"))

        eventually(counted, seconds=30, what="quotas are counted")

    def waiting(self) -> int:
        """Return the number of pods without a node."""
        return len(self.api.call("GET", "/api/v1/pods?fieldSelector=spec.nodeName%3D", accept=_NAMES)["items"] or ())

    def until_scheduled(self, *, quiet: float = 3, seconds: float = 300) -> float:
        """Wait until all pods have a node, or none got one for `quiet` seconds.

        Returns the seconds from the call until the last one got its node.
        """
        began = changed = time.monotonic()
        before = -1
        while (left := self.waiting()) and time.monotonic() - changed < quiet:
            assert time.monotonic() - began < seconds, f"after {seconds} s {left} pods are without a node"
            if left != before:
                before, changed = left, time.monotonic()
            time.sleep(0.02)
        return (changed if left else time.monotonic()) - began

    def scheduled(self) -> Scheduled:
        """Return the scheduler's own count and time, without binding."""
        plane = self.cluster.plane
        assert isinstance(plane, ScalePlane)
        with urllib3.PoolManager(cert_reqs="CERT_NONE", assert_hostname=False) as http, warnings.catch_warnings():
            warnings.simplefilter("ignore", urllib3.exceptions.InsecureRequestWarning)
            text = http.request("GET", f"https://{LOOPBACK}:{plane.scheduler_port}/metrics", timeout=20).data.decode()
        found = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith(_ALGORITHM))
        return Scheduled(int(float(found.get(f"{_ALGORITHM}_count", 0))), float(found.get(f"{_ALGORITHM}_sum", 0)))

    @contextmanager
    def scheduler_held(self) -> Iterator[None]:
        """Pause the scheduler, so that the work that accumulates can be timed as one batch."""
        pid = self.cluster.pid("kube-scheduler")
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def remove(self, path: str) -> None:
        """Delete every object of a namespaced kind and return once they are gone."""
        prefix, plural = path.rsplit("/", 1)
        for namespace in {item["metadata"]["namespace"] for item in self.everything(path)}:
            self.api.delete(f"{prefix}/namespaces/{namespace}/{plural}", {"gracePeriodSeconds": 0})
        eventually(lambda: not self.api.get(f"{path}?limit=1")["items"], seconds=120, what=f"no {plural} any more")

    def until_empty(self, *, seconds: float = 120) -> None:
        """Return once no pods are left. The garbage collector discovers new kinds of owners only every half minute."""
        eventually(lambda: not self.api.get("/api/v1/pods?limit=1")["items"], seconds=seconds, what="no pods any more")


@contextmanager
def made() -> Iterator[tuple[Bed, Switchboard]]:
    """Yield a bed without nodes, and the agents of all its future pods. Stops everything at the end."""
    network = Switchboard.free_network()
    plane = type("Plane", (ScalePlane,), {"pod_network": f"{network}.0.0/16"})
    with private_cluster(plane, _COMPONENTS) as cluster, Switchboard(cluster.api, network) as switchboard:
        yield Bed(cluster), switchboard


def open_to_pods(node: Object) -> bool:
    """Return whether the node is Ready and has no taint that keeps pods off unready nodes."""
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in node.get("status", {}).get("conditions", ()))
    return ready and not any(taint["key"].startswith("node.kubernetes.io/") for taint in node["spec"].get("taints", ()))


def pool_of(node: Object) -> str:
    """Return the VM size of a node."""
    return str(node["metadata"]["labels"].get(INSTANCE_TYPE, ""))
