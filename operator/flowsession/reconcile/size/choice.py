"""The choice of a VM size: the one with a given name, or the best one with quota in the namespace."""

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass

from flowsession.api.environment import MinimumCompute
from flowsession.api.quantity import listed, parse
from flowsession.model.sizes import Offer, PodCost, QuotaView
from flowsession.model.views import Refusal
from flowsession.reconcile.restarts import pause
from flowsession.reconcile.size import quota
from flowsession.reconcile.size.quota import lacks

MOST_NAMED = 8
"""Maximum number of sizes in a message."""

END = "end sessions"
"""How people make room in a quota."""

_BELOW_D = re.compile(r"(basic[_-]|standard[_-][abc]\d)", re.IGNORECASE)


@dataclass(frozen=True)
class NoSize:
    """Why the session or instance gets no size."""

    reason: str
    message: str
    look_again_at: float | None = None


def canonical(name: str) -> str:
    """Return the name of a size's VMSize object: Standard_D2s_v5 and standard-d2s-v5 are the same."""
    return name.lower().replace("_", "-")


def within_quota(
    candidates: list[Offer],
    quotas: tuple[QuotaView, ...],
    before: Refusal | None,
    now: float,
    *,
    namespace: str,
    cost: Callable[[Offer], PodCost],
    end: str,
    or_else: str = "",
) -> Offer | NoSize:
    """Return the best size that the namespace's quotas have room for, or why none has. `end`, `or_else`: advice, as in quota.way_out."""
    refusal = present(before, now)
    if refusal is not None and refusal.reason != "QuotaExceeded":
        return NoSize(refusal.reason, refusal.message, end_of(refusal))
    sizes = refusal.sizes if refusal else {}
    lacking = {offer.name: found for offer in candidates if (found := lacks(quotas, cost(offer)))}
    for offer in sorted(candidates, key=lambda offer: offer.rank):
        if offer.name not in lacking and offer.name not in sizes:
            return offer
    words = [
        f"{offer.spec.azure_name}: {quota.first(lacking[offer.name]) if offer.name in lacking else sizes[offer.name]}"
        for offer in candidates
    ]
    way = quota.way_out([lacking.get(offer.name) or quota.in_refusal(sizes[offer.name]) for offer in candidates], end=end, or_else=or_else)
    message = f"no quota in namespace {namespace!r}: {_some(words, '; ', len(candidates))}; {way}"
    return NoSize("QuotaExceeded", message, end_of(refusal) if refusal else None)


def refused(refusal: Refusal) -> NoSize:
    """Return the API server's message, with advice if it is about a quota."""
    way = f"; {quota.way_out([quota.in_refusal(refusal.message)], end=END)}" if refusal.reason == "QuotaExceeded" else ""
    return NoSize(refusal.reason, refusal.message + way, end_of(refusal))


def named(name: str, offers: tuple[Offer, ...]) -> list[Offer] | NoSize:
    """Return the size with this name, or why it is missing."""
    wanted = canonical(name)
    for offer in offers:
        if offer.name == wanted:
            return [offer]
    if _BELOW_D.match(name):
        return NoSize(
            "SizeNotFound", f"{name} is below the D series: sizes are VM series D and above, as in Azure; {_instead(wanted, offers)}"
        )
    return NoSize("SizeNotFound", f"there is no VMSize for {name!r}; {_instead(wanted, offers)}")


def _instead(wanted: str, offers: tuple[Offer, ...]) -> str:
    if not offers:
        return "no VMSize is installed in this cluster: leave spec.compute.vmSize out, or have a VMSize created"
    by_name = {offer.name: offer.spec.azure_name for offer in offers}
    near = difflib.get_close_matches(wanted, by_name, n=3, cutoff=0.4) or sorted(by_name)[:3]
    return f"name one that is there, such as {', '.join(by_name[name] for name in near)}"


def fitting(offers: tuple[Offer, ...], minimum: MinimumCompute | None) -> list[Offer] | NoSize:
    """Return the sizes for a session that names none, or why none fits."""
    if not offers:
        return []
    eligible = [offer for offer in offers if offer.spec.auto_select]
    if not eligible:
        return NoSize(
            "NoSizeFits", f"none of the {len(offers)} VMSizes has autoSelect; name one in spec.compute.vmSize: {_some_names(offers)}"
        )
    asked = {name: parse(amount) for name, amount in (minimum.to_wire() if minimum else {}).items()}
    fitting = [offer for offer in eligible if all(offer.requests.get(name, 0) >= amount for name, amount in asked.items())]
    if fitting:
        return fitting
    most = {name: max(offer.requests.get(name, parse("0")) for offer in eligible) for name in asked}
    return NoSize(
        "NoSizeFits",
        f"the environment asks for {listed(asked)} (minimumCompute), but the most that a size guarantees a session is {listed(most)};"
        " ask for less, or have a bigger VMSize installed",
    )


def present(refusal: Refusal | None, now: float) -> Refusal | None:
    """Return the API server's refusal while it holds, else None. It covers usage by others, and usage that the operator does not see."""
    return refusal if refusal is not None and now < end_of(refusal) else None


def end_of(refusal: Refusal) -> float:
    """Return when the same request is tried again. A visibly full quota needs no retry: quotas are watched."""
    return refusal.at + pause(refusal.count)


def _some(words: list[str], joint: str, count: int) -> str:
    """Return the first entries and the number of the others."""
    more = f"{joint}and {count - MOST_NAMED} more sizes" if count > MOST_NAMED else ""
    return joint.join(words[:MOST_NAMED]) + more


def _some_names(offers: tuple[Offer, ...]) -> str:
    return _some([offer.spec.azure_name for offer in offers], ", ", len(offers))
