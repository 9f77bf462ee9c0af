"""What the ResourceQuotas of a namespace leave for one more pod, counted as the API server's quota admission counts
(k8s.io/kubernetes/pkg/quota/v1/evaluator/core/pods.go)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from flowsession.api.quantity import parse, text
from flowsession.model.sizes import PodCost, QuotaView, Scope


@dataclass(frozen=True)
class Shortage:
    """A resource of which a quota has too little left."""

    quota: str
    resource: str
    needs: Fraction
    left: Fraction
    hard: Fraction
    of: str = "a session"

    @property
    def for_good(self) -> bool:
        """Whether the pod needs more than the whole quota."""
        return self.needs > self.hard

    def __str__(self) -> str:
        left, hard, needs = (text(self.resource, amount) for amount in (self.left, self.hard, self.needs))
        return f"quota {self.quota!r} has {left} of {hard} {self.resource} left, {self.of} needs {needs}"


def read(body: Mapping[str, Any]) -> QuotaView:
    """Read a ResourceQuota from its wire form. Until the quota controller has counted, nothing counts as used."""
    spec, status = body.get("spec") or {}, body.get("status") or {}
    plain = tuple(Scope(name) for name in spec.get("scopes") or ())
    selected = tuple(
        Scope(item.get("scopeName", ""), item.get("operator", "Exists"), tuple(item.get("values") or ()))
        for item in (spec.get("scopeSelector") or {}).get("matchExpressions") or ()
    )
    return QuotaView(
        name=body["metadata"]["name"],
        hard={name: parse(amount) for name, amount in (status.get("hard") or spec.get("hard") or {}).items()},
        used={name: parse(amount) for name, amount in (status.get("used") or {}).items()},
        scopes=plain + selected,
    )


def counts(quota: QuotaView, pod: PodCost) -> bool:
    """Return whether the quota counts this pod: all its scopes must match."""
    return all(_FITS.get(scope.name, _never)(scope, pod) for scope in quota.scopes)


def lacks(quotas: tuple[QuotaView, ...], pod: PodCost) -> list[Shortage]:
    """Return all resources that one more such pod lacks, in the quotas' order; empty if there is room."""
    found = []
    for quota in quotas:
        if not counts(quota, pod):
            continue
        for resource, hard in quota.hard.items():
            needs, used = pod.usage.get(resource, Fraction(0)), quota.used.get(resource, Fraction(0))
            if needs > 0 and used + needs > hard:
                found.append(Shortage(quota.name, resource, needs, max(hard - used, Fraction(0)), hard, pod.of))
    return found


def in_refusal(message: str) -> list[Shortage]:
    """Return the lacks that the API server's message names: "exceeded quota: NAME, requested: A=1,B=2, used: A=0,B=1, limited: A=1,B=2"."""
    head, _, rest = message.partition(", requested: ")
    requested, _, rest = rest.partition(", used: ")
    used, _, limited = rest.partition(", limited: ")
    name = head.rpartition("exceeded quota: ")[2]
    needs, taken, hard = (dict(item.split("=", 1) for item in part.split(",") if "=" in item) for part in (requested, used, limited))
    try:
        amounts = {key: (parse(needs[key]), parse(taken.get(key, "0")), parse(hard[key])) for key in needs if key in hard}
    except ValueError:
        return []
    return [
        Shortage(name, key, need, max(most - gone, Fraction(0)), most) for key, (need, gone, most) in amounts.items() if gone + need > most
    ]


def way_out(lacking: Sequence[list[Shortage]], *, end: str, or_else: str = "") -> str:
    """Return advice, given the lacks of each candidate. `end`: how to make room. `or_else`: what else helps.

    Ending other sessions does not help a pod that needs more than the whole quota.
    """
    worst = [next((lack for lack in found if lack.for_good), None) for found in lacking]
    hopeless = [lack for lack in worst if lack is not None]
    if not hopeless or len(hopeless) < len(worst):
        return f"{end}, or have the quota raised{or_else}"
    message = "that is more than the whole quota, so ending others does not help: have the quota raised"
    if burst := next((lack.resource for lack in hopeless if lack.resource.startswith("limits.")), ""):
        instead = burst.replace("limits.", "requests.", 1)
        message += f", or limit {instead} instead ({burst} counts what may be burst to, not what is reserved)"
    return message + or_else


def first(found: list[Shortage]) -> Shortage:
    """Return the lack to report, preferably one that ending other sessions would not change."""
    return next((lack for lack in found if lack.for_good), found[0])


def _priority(scope: Scope, pod: PodCost) -> bool:
    match scope.operator:
        case "In":
            return pod.priority_class in scope.values
        case "NotIn":
            return pod.priority_class not in scope.values
        case "DoesNotExist":
            return not pod.priority_class
    return bool(pod.priority_class)


def _never(_: Scope, __: PodCost) -> bool:
    return False


_FITS: dict[str, Callable[[Scope, PodCost], bool]] = {
    "Terminating": _never,  # pods with activeDeadlineSeconds
    "NotTerminating": lambda _, __: True,
    "BestEffort": lambda _, pod: not pod.requests and not pod.limits,
    "NotBestEffort": lambda _, pod: bool(pod.requests or pod.limits),
    "PriorityClass": _priority,
    "CrossNamespacePodAffinity": lambda _, pod: pod.across_namespaces,
}
