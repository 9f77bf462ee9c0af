"""Kubernetes quantities: read exactly, and written as people write them."""

from collections.abc import Mapping
from fractions import Fraction

_UNITS = {"n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 1000), "": Fraction(1), "k": Fraction(1000)}
_UNITS |= {unit: Fraction(1000**power) for power, unit in enumerate("MGTPE", start=2)}
_UNITS |= {f"{unit}i": Fraction(1024**power) for power, unit in enumerate("KMGTPE", start=1)}
_BYTES = frozenset({"memory", "ephemeral-storage", "storage"})

Amounts = Mapping[str, Fraction]
"""Resource name -> amount: processors, bytes or pieces."""


def parse(text: str | float) -> Fraction:
    """Return the amount. Raises ValueError if the text is not a quantity
    (https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/)."""
    text = str(text).strip()
    unit = next((text[-n:] for n in (2, 1) if text[-n:] in _UNITS), "")
    number = text[: len(text) - len(unit)]
    try:
        return Fraction(number) * _UNITS[unit]  # an exponent such as 1e3 is part of the number
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"{text!r} is no quantity; write one such as 500m, 2 or 8Gi") from None


def parse_all(amounts: Mapping[str, str | float]) -> dict[str, Fraction]:
    """Parse a resource list."""
    return {name: parse(amount) for name, amount in amounts.items()}


def text(resource: str, amount: Fraction) -> str:
    """Return a quantity, rounded down: processors to thousandths, memory to Mi (below 1 Mi to bytes), other resources to whole numbers."""
    kind = resource.rpartition(".")[2] if resource.startswith(("requests.", "limits.")) else resource
    if kind == "cpu":
        milli = int(amount * 1000)
        return str(milli // 1000) if milli % 1000 == 0 else f"{milli}m"
    if kind in _BYTES:
        mebi = int(amount / 2**20)
        if amount == mebi * 2**20 and mebi and mebi % 1024 == 0:
            return f"{mebi // 1024}Gi"
        return f"{mebi}Mi" if mebi else str(int(amount))
    return str(int(amount)) if amount.denominator == 1 else f"{int(amount * 1000)}m"


def texts(amounts: Amounts) -> dict[str, str]:
    """Return a resource list for a manifest."""
    return {name: text(name, amount) for name, amount in amounts.items()}


def listed(amounts: Amounts) -> str:
    """Return amounts for people: "cpu 475m, memory 1443Mi"."""
    return ", ".join(f"{name} {text(name, amount)}" for name, amount in amounts.items())
