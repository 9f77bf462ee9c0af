"""How Kubernetes counts a pod: quantities, requests, and the quotas that apply. Follows its documentation, not our code."""

from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any

Object = dict[str, Any]
Amounts = dict[str, Fraction]

_SUFFIXES = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "m": Fraction(1, 1000)}
_BARE = ("cpu", "memory", "ephemeral-storage")
"""Resources that a quota may also name without `requests.`."""


def quantity(text: str | int) -> Fraction:
    """Return the value of a Kubernetes quantity."""
    text = str(text)
    for suffix, factor in _SUFFIXES.items():
        if text.endswith(suffix):
            return Fraction(Decimal(text.removesuffix(suffix))) * factor
    return Fraction(Decimal(text))


def requests(pod: Object) -> Amounts:
    """Return what the scheduler counts: the sum over containers. Rejects pods with init containers or overhead."""
    assert not pod["spec"].get("overhead") and not pod["spec"].get("initContainers"), f"not a pod that this can count: {pod['metadata']}"
    return _sum(pod, "requests")


def limits(pod: Object) -> Amounts:
    """Return the sum over containers."""
    return _sum(pod, "limits")


def charges(requested: Amounts, limited: Amounts) -> Amounts:
    """Return what a ResourceQuota counts for a pod with these requests and limits, under every name that it may use."""
    counted: Amounts = {"pods": Fraction(1), "count/pods": Fraction(1)}
    for resource, amount in requested.items():
        counted[f"requests.{resource}"] = amount
        if resource in _BARE:
            counted[resource] = amount
    return counted | {f"limits.{resource}": amount for resource, amount in limited.items()}


def in_scope(pod: Object, quota: Object) -> bool:
    """Return whether the quota counts this pod."""
    spec = quota["spec"]
    terms = [{"scopeName": scope, "operator": "Exists"} for scope in spec.get("scopes", ())]
    terms += spec.get("scopeSelector", {}).get("matchExpressions", ())
    return all(_matches(pod, term) for term in terms)


def _matches(pod: Object, term: Object) -> bool:
    spec = pod["spec"]
    scope, operator = term["scopeName"], term["operator"]
    if scope == "PriorityClass":
        name = spec.get("priorityClassName", "")
        listed = name in term.get("values", ())
        return {"In": listed, "NotIn": not listed, "Exists": bool(name), "DoesNotExist": not name}[operator]
    assert operator == "Exists", f"a scope that this can't count: {term}"
    asks = bool(_sum(pod, "requests") or _sum(pod, "limits"))
    ends = spec.get("activeDeadlineSeconds") is not None
    crosses = any(each.get("namespaces") or each.get("namespaceSelector") is not None for each in _affinity_terms(spec))
    found = {
        "Terminating": ends,
        "NotTerminating": not ends,
        "BestEffort": not asks,
        "NotBestEffort": asks,
        "CrossNamespacePodAffinity": crosses,
    }
    return found[scope]


def _affinity_terms(spec: Object) -> Iterator[Object]:
    for kind in ("podAffinity", "podAntiAffinity"):
        found = spec.get("affinity", {}).get(kind, {})
        yield from found.get("requiredDuringSchedulingIgnoredDuringExecution", ())
        yield from (weighted["podAffinityTerm"] for weighted in found.get("preferredDuringSchedulingIgnoredDuringExecution", ()))


def _sum(pod: Object, kind: str) -> Amounts:
    total: Amounts = defaultdict(Fraction)
    for container in pod["spec"]["containers"]:
        for resource, text in container.get("resources", {}).get(kind, {}).items():
            total[resource] += quantity(text)
    return total
