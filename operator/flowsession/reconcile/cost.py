"""The cost of compute. The status changes when compute begins, ends or changes its price; readers compute the present cost."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from flowsession.api.compute import Cost
from flowsession.model import times
from flowsession.model.sizes import Offer

_CENTS = Decimal("0.0001")
_HOUR = Decimal(3600)
NOTHING = Decimal(0)


def price_of(offers: tuple[Offer, ...], azure_name: str, *, share: bool) -> Decimal | None:
    """Return the hourly price of a node of this size, or of a session's share of it; None if the size does not exist."""
    offer = next((offer for offer in offers if offer.spec.azure_name == azure_name), None)
    if offer is None:
        return None if azure_name else NOTHING
    return Decimal(offer.spec.price_per_hour or 0) / (offer.per_node if share else 1)


def kept(before: Mapping[str, Any] | None, rate: Decimal | None, now: float, *, began: float | None) -> dict[str, Any] | None:
    """Return the status field `cost`, which changes only with the price.

    `rate` is the price per hour; None: unknown, no change. `began` is when the compute was allocated, if known.
    """
    if rate is None or (before is None and not rate):
        return dict(before) if before else None
    per_hour = _text(rate)
    if before is not None and before.get("perHour") == per_hour:
        return dict(before)
    accrued, since = NOTHING, times.stamp(now)
    if before is not None:
        accrued = until(before, now)
    if began is not None and (before is None or not Decimal(before["perHour"])):
        since = times.stamp(min(began, now))
    return Cost(per_hour=per_hour, accrued=_text(accrued), since=since).to_wire()


def until(cost: Mapping[str, Any], now: float) -> Decimal:
    """Return the accrued cost until now."""
    seconds = max(0, int(now) - int(times.parse(cost["since"]) or now))
    return Decimal(cost["accrued"]) + Decimal(cost["perHour"]) * seconds / _HOUR


def _text(amount: Decimal) -> str:
    return str(amount.quantize(_CENTS))
