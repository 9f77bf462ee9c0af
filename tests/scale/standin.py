"""Makes session pods as the documents describe them, without an operator: to measure the scheduler and to validate the bed."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import Any

from apiserver.api import Refused
from scale.bed import Bed
from scale.counting import quantity
from scale.sizes import GPU, SIZES, Size

Object = dict[str, Any]

MANAGED_BY = "app.kubernetes.io/managed-by"
USER = "flowsession.dev/user"
HOSTNAME = "kubernetes.io/hostname"
_NOT_SHARED = ("pods", "ephemeral-storage")
BY_NAME = {size.azure_name: size for size in SIZES}


@dataclass
class StandIn:
    """`apart`: a node serves one user only. `together`: a user's pods prefer nodes that already serve this user."""

    bed: Bed
    apart: bool = True
    together: bool = True
    left_to_daemonsets = MappingProxyType[str, str]({})
    """Nothing is reserved: pods share the whole node."""
    quiet: float = 3
    """Seconds without any pod getting a node, after which the rest counts as unschedulable."""

    @contextmanager
    def running(self) -> Iterator[None]:
        """Do nothing, since it needs no process."""
        yield

    def place(self, sessions: Sequence[Object]) -> list[Object]:
        """Create their pods and return the sessions. Refusals by quota are expected, any other is raised."""
        for answer in self.bed.post_all("/api/v1/namespaces/{namespace}/pods", [self.pod_of(session) for session in sessions]):
            if isinstance(answer, Refused) and "exceeded quota" not in answer.message:
                raise answer
        self.bed.until_scheduled(quiet=self.quiet)
        return list(sessions)

    def pod_of(self, session: Object) -> Object:
        """Return the pod of a session on the size that it names."""
        size = BY_NAME[session["spec"]["compute"]["vmSize"]]
        meta = session["metadata"]
        share = share_of(size)
        labels = {
            MANAGED_BY: "flowsession",
            "flowsession.dev/session": meta["name"],
            USER: hashlib.sha256(session["spec"]["user"].encode()).hexdigest()[:32],
        }
        resources = {"requests": share, "limits": {GPU: share[GPU]} if GPU in share else {}}
        spec = size.vm_size()["spec"]
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": meta["name"], "namespace": meta["namespace"], "labels": labels},
            "spec": {
                "automountServiceAccountToken": False,
                "nodeSelector": spec["nodeSelector"],
                "tolerations": spec["tolerations"],
                "priorityClassName": spec["priorityClassName"],
                "affinity": self._affinity(),
                "containers": [{"name": "session", "image": "runtime:test", "resources": resources}],
            },
        }

    def _affinity(self) -> Object:
        everywhere = {"namespaceSelector": {}, "topologyKey": HOSTNAME}
        found: Object = {}
        if self.apart:
            anybody = {"matchExpressions": [{"key": USER, "operator": "Exists"}]}
            term = {**everywhere, "labelSelector": anybody, "mismatchLabelKeys": [USER]}
            found["podAntiAffinity"] = {"requiredDuringSchedulingIgnoredDuringExecution": [term]}
        if self.together:
            # The API server refuses a key in both labelSelector and matchLabelKeys, so this selector uses another one.
            term = {**everywhere, "labelSelector": {"matchLabels": {MANAGED_BY: "flowsession"}}, "matchLabelKeys": [USER]}
            found["podAffinity"] = {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": term}]}
        return found


def share_of(size: Size) -> dict[str, str]:
    """Return what a node of this size gives to each of its sessions: whole millicores, mebibytes and devices."""
    given = {
        resource: quantity(text) / size.sessions_per_node for resource, text in size.allocatable().items() if resource not in _NOT_SHARED
    }
    return {resource: _written(resource, amount) for resource, amount in given.items()}


def _written(resource: str, amount: Fraction) -> str:
    match resource:
        case "cpu":
            return f"{int(amount * 1000)}m"
        case "memory":
            return f"{int(amount // 2**20)}Mi"
    return str(int(amount))
