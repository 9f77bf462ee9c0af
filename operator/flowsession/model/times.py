"""Seconds since 1970 to and from the timestamps of the Kubernetes API (RFC 3339, UTC)."""

import math
from datetime import UTC, datetime
from functools import lru_cache


def parse(text: str | None) -> float | None:
    """Return seconds since 1970, or None if the text is empty or not a timestamp."""
    if not text:
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return None


def stamp(seconds: float) -> str:
    """Return the timestamp, cut to whole seconds as metav1.Time is."""
    return _stamp(math.floor(seconds))


def deadline_stamp(seconds: float) -> str:
    """Return the timestamp of a deadline, rounded up: it must not be shown earlier than it is."""
    return stamp(math.ceil(seconds))


def moment(text: str | None, default: float) -> float:
    """Return a status's timestamp in seconds since 1970, or the default if it is missing."""
    parsed = parse(text)
    return default if parsed is None else parsed


@lru_cache(maxsize=1024)
def _stamp(seconds: int) -> str:
    """Return the timestamp. Cached: a status has the same few moments in several places, and sessions that start together share theirs."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
