"""VM sizes: a session's share of a node, and the status of the VMSize."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from flowsession.api.quantity import listed, parse, parse_all, text
from flowsession.api.size import Toleration, UserIsolation, VMSizeSpec
from flowsession.model.conditions import Verdict
from flowsession.model.draft import Draft
from flowsession.model.plan import Plan
from flowsession.model.sizes import Offer, Pool, Taint
from flowsession.settings import SizeSettings

_RESERVED_CPU = ((1, 60), (2, 100), (4, 140), (8, 180), (16, 260), (32, 420), (64, 740))
"""AKS: cores of a node and the millicores reserved of them (https://learn.microsoft.com/azure/aks/node-resource-reservations)."""

_EVICTION = Fraction(100 * 2**20)
"""Bytes that the kubelet keeps free on AKS 1.29 and later: 100 Mi."""

_SYSTEM_TAINTS = "node.kubernetes.io/"
"""Prefix of the taints for a node's state, such as not-ready. Other taints say what the node is for."""


@dataclass(frozen=True)
class SizeSnapshot:
    """All that a decision about a VMSize depends on."""

    resource_version: str
    generation: int
    status: Mapping[str, Any]
    offer: Offer
    sessions: int
    autoscaler: bool
    namespace: str = ""

    @property
    def name(self) -> str:
        """The VMSize's name."""
        return self.offer.name


class _Draft(Draft):
    KIND = "VMSize"


def offer(name: str, spec: VMSizeSpec, pools: Iterable[Pool], settings: SizeSettings) -> Offer:
    """Return a session's share of one of the size's nodes. Without nodes, estimate what such a node would have."""
    mine = [pool for pool in pools if _is_of(spec, pool)]
    available = _available(spec, mine, settings)
    devices = {resource: _devices(resource, amount, mine) for resource, amount in parse_all(spec.capacity).items() if "/" in resource}
    per_node = int(min([Fraction(spec.sessions_per_node), *(count for count in devices.values() if count >= 1)]))
    requests = {resource: amount / per_node for resource, amount in available.items()}
    requests |= {resource: Fraction(count // per_node) for resource, count in devices.items()}
    requests |= parse_all(spec.requests or {})
    # Amounts in pods are rounded down, and the amounts compared with quotas must equal them.
    requests = {resource: parse(text(resource, amount)) for resource, amount in requests.items()}
    limits = {resource: max(parse(text(resource, amount)), requests[resource]) for resource, amount in available.items()}
    limits |= {resource: requests[resource] for resource in requests if resource not in limits}
    return Offer(
        name, spec, requests, limits, per_node, sum(pool.nodes for pool in mine), any(not _blocked(spec, pool.taints) for pool in mine)
    )


def reserved_by_aks(cpu: Fraction, memory: Fraction, max_pods: int) -> tuple[Fraction, Fraction]:
    """Return what AKS 1.29 and later reserves on a VM: cores, and bytes of memory including the eviction threshold."""
    steps = [Fraction(milli, 1000) for cores, milli in _RESERVED_CPU if cores <= cpu]
    kube = min(Fraction((20 * max_pods + 50) * 10**6), memory / 4)
    return steps[-1] if steps else Fraction(60, 1000), kube + _EVICTION


def _available(spec: VMSizeSpec, pools: list[Pool], settings: SizeSettings) -> dict[str, Fraction]:
    """Return one node's cores and bytes of memory for sessions: without what daemonsets request, but at least half of the node's."""
    capacity = parse_all(spec.capacity)
    reserved = dict(zip(("cpu", "memory"), reserved_by_aks(capacity["cpu"], capacity["memory"], settings.max_pods_per_node), strict=True))
    found = {}
    for resource in ("cpu", "memory"):
        live = [pool.allocatable[resource] for pool in pools if pool.allocatable.get(resource)]
        whole = min(live) if live else max(capacity[resource] - reserved[resource], capacity[resource] / 2)
        found[resource] = max(whole - parse(settings.daemonset_requests.get(resource, "0")), whole / 2)
    return found


def _devices(resource: str, capacity: Fraction, pools: list[Pool]) -> Fraction:
    """Return the number of devices of one node. Nodes without any are ignored: their device plugin does not run yet."""
    live = [pool.allocatable[resource] for pool in pools if pool.allocatable.get(resource, Fraction(0)) >= 1]
    return min(live) if live else capacity


def _is_of(spec: VMSizeSpec, pool: Pool) -> bool:
    taints = tuple(taint for taint in pool.taints if not taint.key.startswith(_SYSTEM_TAINTS))
    return all(pool.labels.get(key) == value for key, value in (spec.node_selector or {}).items()) and not _blocked(spec, taints)


def _blocked(spec: VMSizeSpec, taints: tuple[Taint, ...]) -> bool:
    return any(
        taint.effect != "PreferNoSchedule" and not any(_tolerates(toleration, taint) for toleration in spec.tolerations or ())
        for taint in taints
    )


def _tolerates(toleration: Toleration, taint: Taint) -> bool:
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.key and toleration.key != taint.key:
        return False
    return toleration.operator == "Exists" or (toleration.value or "") == taint.value


def decide(snapshot: SizeSnapshot, now: float) -> Plan:
    """Return the VMSize's plan: its status."""
    draft = _Draft(snapshot, now, {})
    draft.put("nodes", snapshot.offer.nodes)
    draft.put("sessions", snapshot.sessions)
    verdict = _verdict(snapshot)
    draft.set_condition("Available", verdict.status, verdict.reason, verdict.message)
    return draft.plan()


def _verdict(snapshot: SizeSnapshot) -> Verdict:
    found, gets = snapshot.offer, _gets(snapshot.offer)
    if found.usable:
        return Verdict(True, "NodesPresent", gets)
    selector = ", ".join(f"{key}={value}" for key, value in (found.spec.node_selector or {}).items())
    missing = f"no node {f'has the labels {selector}' if selector else 'is there'} and taints that the size tolerates"
    if found.nodes:
        missing = f"none of its {found.nodes} nodes takes new pods now"
    if snapshot.autoscaler:
        return Verdict(True, "ScaleFromZero", f"{missing}; the autoscaler adds one for the first session; {gets}")
    return Verdict(False, "NoNodes", f"{missing}; add such nodes, or fix nodeSelector and tolerations; {gets}")


def _gets(found: Offer) -> str:
    isolated = " of the same user" if found.spec.user_isolation is UserIsolation.NODE and found.per_node > 1 else ""
    words = f"a session requests {listed(found.requests)} ({found.per_node}{isolated} on a node)"
    if found.per_node < found.spec.sessions_per_node:
        words += f"; sessionsPerNode is {found.spec.sessions_per_node}, but devices are not shared by halves"
    return words
