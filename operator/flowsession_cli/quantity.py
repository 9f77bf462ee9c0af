"""Kubernetes' quantities: 500m, 2, 8Gi."""

from decimal import Decimal, InvalidOperation

_UNITS = {
    "m": Decimal("0.001"), "": Decimal(1), "k": Decimal(1000), "M": Decimal(1000**2), "G": Decimal(1000**3), "T": Decimal(1000**4),
    "Ki": Decimal(1024), "Mi": Decimal(1024**2), "Gi": Decimal(1024**3), "Ti": Decimal(1024**4), "Pi": Decimal(1024**5),
}  # fmt: skip


def value(text: str) -> Decimal:
    """The number that a quantity stands for; 0 for what is none."""
    digits = text.rstrip("mkKMGTPi")
    try:
        return Decimal(digits) * _UNITS[text[len(digits) :]]
    except (InvalidOperation, KeyError):
        return Decimal(0)


def left(hard: str, used: str) -> str:
    """What is left of a quantity, in its own unit."""
    unit = hard[len(hard.rstrip("mkKMGTPi")) :]
    unit = "" if unit == "m" else unit
    number = max(Decimal(0), value(hard) - value(used)) / _UNITS.get(unit, Decimal(1))
    return f"{number.quantize(Decimal('0.1')).normalize():f}{unit}"
