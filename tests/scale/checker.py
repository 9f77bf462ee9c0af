"""Checks from a cluster's raw objects whether every session is placed correctly. Independent of how the operator decides."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from scale import counting
from scale.counting import Amounts

Object = dict[str, Any]

SESSION = "flowsession.dev/session"
_DISK = "ephemeral-storage"
"""Not part of the promised share: a separate limit says how much a session may fill."""
_GRAIN = {"cpu": Fraction(1, 1000), "memory": Fraction(2**20)}
"""Amounts by which a share may be rounded down. Other resources are whole numbers."""


@dataclass(frozen=True)
class Facts:
    """Objects as the API server returns them. Sizes are VMSize objects, quotas the ResourceQuotas of all namespaces."""

    nodes: Sequence[Object]
    pods: Sequence[Object]
    sessions: Sequence[Object]
    sizes: Sequence[Object]
    quotas: Sequence[Object] = ()
    left_to_daemonsets: Mapping[str, str] = field(default_factory=dict)
    """What every node reserves for daemonsets before the rest is shared, by the operator's settings. At most half of the node."""


@dataclass(frozen=True)
class Violation:
    """`rule` is one of Pool, Isolation, Share, Allocatable, Quota, Twice, Stranger, Unplaced."""

    rule: str
    about: str
    text: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.about}: {self.text}"


@dataclass(frozen=True)
class Report:
    """The findings. `packing` is the minimum number of nodes for the users' sessions, divided by the number that they have: 1 is best."""

    violations: list[Violation]
    placed: int
    refused_by_quota: int
    """Number of sessions without a pod because the namespace's quota has no room for one."""
    nodes_used: int
    nodes_needed: int
    by_rule: dict[str, int] = field(default_factory=dict)

    @property
    def packing(self) -> float:
        return self.nodes_needed / self.nodes_used if self.nodes_used else 1.0


def check(facts: Facts) -> Report:
    """Check every rule. A correct cluster has no violations."""
    return _Check(facts).report()


class _Check:
    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.nodes = {node["metadata"]["name"]: node for node in facts.nodes}
        self.sizes = {key: size for size in facts.sizes for key in (size["metadata"]["name"], size["spec"]["azureName"])}
        self.pods = [pod for pod in facts.pods if pod.get("status", {}).get("phase") not in ("Succeeded", "Failed")]
        self.of_session: dict[tuple[str, str], list[Object]] = defaultdict(list)
        for pod in self.pods:
            if name := pod["metadata"].get("labels", {}).get(SESSION):
                self.of_session[pod["metadata"]["namespace"], name].append(pod)
        self.sessions = {_key(session): session for session in facts.sessions}

    def report(self) -> Report:
        unplaced = list(self._unplaced())
        violations = [
            *self._strangers_and_twins(),
            *self._pools(),
            *self._isolation(),
            *self._shares(),
            *self._allocatable(),
            *self._quotas(),
            *(violation for violation in unplaced if violation),
        ]
        used, needed = self._packing()
        by_rule: dict[str, int] = defaultdict(int)
        for violation in violations:
            by_rule[violation.rule] += 1
        placed = sum(1 for _ in self._placed())
        return Report(violations, placed, unplaced.count(None), used, needed, dict(by_rule))

    def _placed(self) -> Iterator[tuple[Object, Object, Object, Object]]:
        """Yield (session, its size, pod, node) of every session's pod that has a node."""
        for key, pods in self.of_session.items():
            for pod in pods:
                node = self.nodes.get(pod["spec"].get("nodeName", ""))
                if key in self.sessions and node is not None and (size := self._size(self.sessions[key])):
                    yield self.sessions[key], size, pod, node

    def _size(self, session: Object) -> Object | None:
        """Return the size that the session names, or the one that was chosen for it."""
        named = session["spec"].get("compute", {}).get("vmSize") or session.get("status", {}).get("vmSize", "")
        return self.sizes.get(named)

    def _strangers_and_twins(self) -> Iterator[Violation]:
        for key, pods in self.of_session.items():
            if key not in self.sessions:
                yield Violation("Stranger", _name(pods[0]), "the pod of a session that there is not")
            if len(pods) > 1:
                yield Violation("Twice", "/".join(key), f"{len(pods)} pods: {', '.join(pod['metadata']['name'] for pod in pods)}")

    def _pools(self) -> Iterator[Violation]:
        for session, size, pod, node in self._placed():
            labels = node["metadata"].get("labels", {})
            for label, value in size["spec"].get("nodeSelector", {}).items():
                if labels.get(label) != value:
                    text = f"{pod['metadata']['name']} lies on {node['metadata']['name']} with {label}={labels.get(label)}, not {value}"
                    yield Violation("Pool", "/".join(_key(session)), text)

    def _isolation(self) -> Iterator[Violation]:
        users: dict[str, set[str]] = defaultdict(set)
        isolated: set[str] = set()
        for session, size, _, node in self._placed():
            users[node["metadata"]["name"]].add(session["spec"]["user"])
            if size["spec"].get("userIsolation") == "Node":
                isolated.add(node["metadata"]["name"])
        for node_name in sorted(isolated):
            if len(users[node_name]) > 1:
                yield Violation("Isolation", node_name, f"hosts {', '.join(sorted(users[node_name]))}")

    def _shares(self) -> Iterator[Violation]:
        for session, size, pod, _ in self._placed():
            asked = counting.requests(pod)
            for resource, share in self._share(size).items():
                grain = _GRAIN.get(resource, Fraction(1))
                found = asked.get(resource, Fraction(0))
                if not share - grain < found <= share:
                    text = f"requests {float(found):g} {resource}, its share is {float(share):g}"
                    yield Violation("Share", "/".join(_key(session)), text)

    def _share(self, size: Object) -> Amounts:
        """Return what the smallest node of the pool can give to one session, for each resource of the size except its disk."""
        spec = size["spec"]
        selected = [
            node
            for node in self.nodes.values()
            if all(node["metadata"].get("labels", {}).get(label) == value for label, value in spec.get("nodeSelector", {}).items())
        ]
        fixed = {resource: counting.quantity(text) for resource, text in (spec.get("requests") or {}).items()}
        shares: Amounts = {}
        for resource in spec["capacity"].keys() - {_DISK}:
            given = min(counting.quantity(node["status"]["allocatable"].get(resource, "0")) for node in selected)
            kept = counting.quantity(self.facts.left_to_daemonsets.get(resource, "0"))
            shares[resource] = max(given - kept, given / 2 if kept else given) / spec["sessionsPerNode"]
        return shares | fixed

    def _allocatable(self) -> Iterator[Violation]:
        asked: dict[str, Amounts] = defaultdict(lambda: defaultdict(Fraction))
        for pod in self.pods:
            if node_name := pod["spec"].get("nodeName"):
                for resource, amount in {**counting.requests(pod), "pods": Fraction(1)}.items():
                    asked[node_name][resource] += amount
        for node_name, amounts in asked.items():
            given = self.nodes[node_name]["status"]["allocatable"]
            for resource, amount in amounts.items():
                if amount > counting.quantity(given.get(resource, "0")):
                    text = f"its pods request {float(amount):g} {resource} of {given.get(resource, '0')}"
                    yield Violation("Allocatable", node_name, text)

    def _quotas(self) -> Iterator[Violation]:
        for quota in self.facts.quotas:
            used = self._used(quota)
            for resource, hard in quota["spec"].get("hard", {}).items():
                if used.get(resource, Fraction(0)) > counting.quantity(hard):
                    yield Violation("Quota", _name(quota), f"{float(used[resource]):g} {resource} of {hard}")

    def _used(self, quota: Object) -> Amounts:
        used: Amounts = defaultdict(Fraction)
        for pod in self.pods:
            if pod["metadata"]["namespace"] == quota["metadata"]["namespace"] and counting.in_scope(pod, quota):
                for resource, amount in counting.charges(counting.requests(pod), counting.limits(pod)).items():
                    used[resource] += amount
        return used

    def _unplaced(self) -> Iterator[Violation | None]:
        """Yield a violation for every session without a node, or None if the quota has no room for its pod."""
        for key, session in self.sessions.items():
            pods = self.of_session.get(key, [])
            if any(pod["spec"].get("nodeName") for pod in pods):
                continue
            size = self._size(session)
            if pods or size is None:
                reason = f"{pods[0]['metadata']['name']} has no node" if pods else "has no size"
                yield Violation("Unplaced", "/".join(key), reason)
            elif self._has_room(key[0], size):
                yield Violation("Unplaced", "/".join(key), "has no pod, and the quota has room for one")
            else:
                yield None

    def _has_room(self, namespace: str, size: Object) -> bool:
        """Return whether every quota admits one more pod of this size: like an existing one, or else with the size's share."""
        one = next((pod for _, other, pod, _ in self._placed() if other is size), None)
        if one is None:
            resources = {"requests": dict.fromkeys(self._share(size), "1")}
            one = {"spec": {"containers": [{"resources": resources}], "priorityClassName": size["spec"].get("priorityClassName", "")}}
            more = counting.charges(self._share(size), {})
        else:
            more = counting.charges(counting.requests(one), counting.limits(one))
        for quota in self.facts.quotas:
            if quota["metadata"]["namespace"] != namespace or not counting.in_scope(one, quota):
                continue
            used = self._used(quota)
            for resource, hard in quota["spec"].get("hard", {}).items():
                if used.get(resource, Fraction(0)) + more.get(resource, Fraction(0)) > counting.quantity(hard):
                    return False
        return True

    def _packing(self) -> tuple[int, int]:
        """Return the number of nodes that users have, and the minimum number, summed over users and sizes."""
        nodes: dict[tuple[str, str], set[str]] = defaultdict(set)
        count: dict[tuple[str, str], int] = defaultdict(int)
        per_node: dict[str, int] = {}
        for session, size, _, node in self._placed():
            pair = session["spec"]["user"], size["metadata"]["name"]
            nodes[pair].add(node["metadata"]["name"])
            count[pair] += 1
            per_node[size["metadata"]["name"]] = size["spec"]["sessionsPerNode"]
        needed = sum(math.ceil(number / per_node[size]) for (_, size), number in count.items())
        return sum(len(names) for names in nodes.values()), needed


def _key(thing: Object) -> tuple[str, str]:
    return thing["metadata"]["namespace"], thing["metadata"]["name"]


def _name(thing: Object) -> str:
    return "/".join(_key(thing))
