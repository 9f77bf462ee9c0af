"""VM sizes as decisions see them: what they offer, what a pod of a size costs, and the quotas."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from flowsession.api.quantity import Amounts, parse
from flowsession.api.size import UserIsolation, VMSizeSpec

Labels = Mapping[str, str]

_BOTH_WAYS = frozenset({"cpu", "memory", "ephemeral-storage"})
"""Resources whose plain name in a quota means requests."""


@dataclass(frozen=True)
class Scope:
    """A scope of a quota: which pods it counts."""

    name: str
    operator: str = "Exists"
    values: tuple[str, ...] = ()


@dataclass(frozen=True)
class QuotaView:
    """A ResourceQuota, as its status has it."""

    name: str
    hard: Amounts
    used: Amounts
    scopes: tuple[Scope, ...] = ()


@dataclass(frozen=True)
class PodCost:
    """What quotas count of a pod. A session's pod has requests and no deadline."""

    requests: Amounts
    limits: Amounts
    priority_class: str = ""
    across_namespaces: bool = False
    """Whether its (anti-)affinity applies across namespaces."""
    of: str = "a session"
    """Whose pod it is, in messages."""
    usage: Mapping[str, Fraction] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "usage", _usage(self.requests, self.limits))


@dataclass(frozen=True)
class Taint:
    """A taint of a node."""

    key: str
    value: str
    effect: str


@dataclass(frozen=True)
class Pool:
    """Nodes that no size can distinguish."""

    labels: Labels
    taints: tuple[Taint, ...]
    allocatable: Amounts
    """For each resource, the least that any of these nodes has."""
    nodes: int


@dataclass(frozen=True)
class Offer:
    """A size that a session may get now."""

    name: str
    """Name of the VMSize object."""
    spec: VMSizeSpec
    requests: Amounts
    limits: Amounts
    per_node: int
    """How many such sessions share a node."""
    nodes: int
    usable: bool
    """Whether at least one of its nodes takes new pods."""
    cost: PodCost = field(init=False)
    """What quotas count of a pod of this size."""
    rank: tuple[bool, bool, Fraction, Fraction, str] = field(init=False)
    """The lower, the better: sizes with nodes first, then by price, by disk (the largest first) and by name."""

    def __post_init__(self) -> None:
        isolated = self.spec.user_isolation is UserIsolation.NODE
        object.__setattr__(self, "cost", PodCost(self.requests, self.limits, self.spec.priority_class_name, across_namespaces=isolated))
        price, disk = self.spec.price_per_hour, parse(self.spec.capacity.get("ephemeral-storage", "0"))
        object.__setattr__(self, "rank", (not self.usable, price is None, parse(price or "0"), -disk, self.name))


def _usage(requests: Amounts, limits: Amounts) -> dict[str, Fraction]:
    used = {"pods": Fraction(1), "count/pods": Fraction(1)}
    for resource, amount in requests.items():
        used[f"requests.{resource}"] = amount
        if resource in _BOTH_WAYS:
            used[resource] = amount
    for resource, amount in limits.items():
        if resource in _BOTH_WAYS:
            used[f"limits.{resource}"] = amount
    return used
