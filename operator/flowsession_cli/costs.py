"""What sessions and instances cost, from their status: an amount accrued up to some time, and a price per hour since then."""

from collections.abc import Mapping
from typing import Any

from flowsession_cli import render


def per_hour(thing: Mapping[str, Any]) -> float:
    """Return the present price per hour, or 0 if no price is known."""
    return float((thing.get("status", {}).get("cost") or {}).get("perHour") or 0)


def so_far(thing: Mapping[str, Any], now: float) -> float:
    """Return the cost up to now, or 0 if no price is known."""
    cost = thing.get("status", {}).get("cost")
    if not cost:
        return 0.0
    hours = max(0.0, now - render.seconds_of(cost["since"])) / 3600
    return float(cost["accrued"]) + float(cost["perHour"]) * hours
