"""The operator as its own process in the bed, and sessions created through it."""

import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import yaml

from apiserver.api import FLOWSESSION, Refused
from apiserver.conftest import killed_at_exit
from apiserver.operator_process import CHECKOUT, NAMESPACE, SETTINGS, environment
from flowsession_agent import build
from localcluster.daemons import Daemon
from scale import workload
from scale.bed import Bed
from scale.sizes import PODS_PER_NODE, SIZES

Object = dict[str, Any]

_EVERY_SECONDS = 0.5
SESSIONS = f"{FLOWSESSION}/computesessions"
SIZED = (CHECKOUT / "crds" / "vmsizes.yaml").exists()
"""Whether the VMSize kind exists."""


@dataclass
class OperatorInBed:
    """Creates sessions as people do. The operator makes their pods."""

    bed: Bed
    autoscaler: bool = False
    """Whether the operator assumes that nodes are added on demand."""
    left_to_daemonsets = MappingProxyType({"cpu": "100m", "memory": "200Mi"})

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the operator, with the catalogue of sizes if the kind exists."""
        if SIZED:
            self.bed.create(f"{FLOWSESSION}/vmsizes", *(size.vm_size() for size in SIZES))
        daemon = self._daemon()
        daemon.start()
        with killed_at_exit([daemon]):
            yield

    def place(self, sessions: Sequence[Object], *, seconds: float = 300) -> list[Object]:
        """Create the sessions, and return them once each is Ready or kept out by the quota."""
        for namespace in sorted({session["metadata"]["namespace"] for session in sessions}):
            self.bed.create(f"{FLOWSESSION}/namespaces/{namespace}/flowenvironments", workload.environment(namespace))
        for answer in self.bed.post_all(f"{FLOWSESSION}/namespaces/{{namespace}}/computesessions?fieldValidation=Strict", sessions):
            if isinstance(answer, Refused):
                raise answer

        def settled() -> list[Object]:
            found = self.bed.everything(SESSIONS)
            states = Counter(state(session) for session in found)
            assert set(states) <= {"Ready", "QuotaExceeded"} and states.total() == len(sessions), states
            return found

        # Listing a thousand sessions costs both the API server and us, so rare polling keeps the measurement undisturbed.
        deadline = time.monotonic() + seconds
        while True:
            time.sleep(_EVERY_SECONDS)
            with suppress(AssertionError) if time.monotonic() < deadline else nullcontext():
                return settled()

    def _sizes(self) -> Object:
        """Return the settings for all sizes. For a pool without nodes the operator must assume the same nodes as ours."""
        return {
            "autoscaler": self.autoscaler,
            "daemonsetRequests": dict(self.left_to_daemonsets),
            "maxPodsPerNode": PODS_PER_NODE,
        }

    def _daemon(self) -> Daemon:
        folder = self.bed.cluster.folder
        archive, settings = folder / "agent.pyz", folder / "settings.yaml"
        build.build(str(archive))
        settings.write_text(yaml.safe_dump({**SETTINGS, **({"sizes": self._sizes()} if SIZED else {})}))
        words = ["--settings", settings, "--agent", archive, "--port", "0", "--namespace", NAMESPACE, "--log-level", "info"]
        kubeconfig = str(self.bed.cluster.plane.kubeconfig)
        return Daemon(
            "operator",
            [sys.executable, "-m", "flowsession", *words],
            folder=folder,
            configuration=[settings],
            environment=environment(KUBECONFIG=kubeconfig),
        )


def state(session: Object) -> str:
    """Return "Ready", or the reason why it is not."""
    conditions = {c["type"]: c for c in session.get("status", {}).get("conditions", ())}
    if conditions.get("Ready", {}).get("status") == "True":
        return "Ready"
    return str((conditions.get("ComputeAllocated") or conditions.get("Ready") or {}).get("reason", "Untold"))
