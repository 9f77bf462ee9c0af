"""The one formula for back-offs."""

import math

_MOST_DOUBLINGS = 30
"""Maximum number of doublings. More would exceed every longest pause, and a float overflows at 1,024."""


def back_off(failures: float, *, first: float, longest: float) -> float:
    """Return the pause in seconds after this many failures in a row (at least one): `first`, doubled by each further failure, up to
    `longest`."""
    return min(longest, first * math.pow(2.0, min(failures - 1, _MOST_DOUBLINGS)))
