"""What is left of Kubernetes' quantities, as a person reads it."""

from decimal import Decimal
from fractions import Fraction

from flowsession.api.quantity import parse


def value(text: str) -> Fraction:
    """The number that a quantity stands for; 0 for what is none."""
    try:
        return parse(text)
    except ValueError:
        return Fraction(0)


def left(hard: str, used: str) -> str:
    """What is left of a quantity, in its own unit."""
    unit = hard[len(hard.rstrip("mkKMGTPi")) :]
    unit = "" if unit == "m" else unit
    number = max(Fraction(0), value(hard) - value(used)) / (value(f"1{unit}") or 1)
    return f"{(Decimal(number.numerator) / number.denominator).quantize(Decimal('0.1')).normalize():f}{unit}"
