"""What is left of Kubernetes quantities, in readable form."""

from decimal import Decimal
from fractions import Fraction

from flowsession.api.quantity import parse


def value(text: str) -> Fraction:
    """Return a quantity as a number, or 0 if the text isn't a quantity."""
    try:
        return parse(text)
    except ValueError:
        return Fraction(0)


def left(hard: str, used: str) -> str:
    """Return what is left of a quantity, in the unit of `hard`."""
    unit = hard[len(hard.rstrip("mkKMGTPi")) :]
    unit = "" if unit == "m" else unit
    number = max(Fraction(0), value(hard) - value(used)) / (value(f"1{unit}") or 1)
    return f"{(Decimal(number.numerator) / number.denominator).quantize(Decimal('0.1')).normalize():f}{unit}"
