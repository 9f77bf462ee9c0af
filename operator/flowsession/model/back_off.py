"""The one formula by which pauses between tries grow."""

import math

_MOST_DOUBLINGS = 30
"""More make no difference to any longest pause, and a float overflows at 1,024."""


def back_off(failures: float, *, first: float, longest: float) -> float:
    """Return the pause after so many failures in a row, at least one, in seconds: `first`, doubled by each further one up to `longest`."""
    return min(longest, first * math.pow(2.0, min(failures - 1, _MOST_DOUBLINGS)))
