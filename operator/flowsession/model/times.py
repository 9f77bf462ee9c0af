"""Seconds since 1970 to and from the timestamps of the Kubernetes API (RFC 3339, UTC)."""

import math
from datetime import UTC, datetime
from functools import lru_cache


def parse(text: str | None) -> float | None:
    """Seconds since 1970, or None for nothing or for what is no timestamp."""
    if not text:
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return None


def stamp(seconds: float) -> str:
    """The timestamp of a moment, cut to whole seconds as metav1.Time is."""
    return _stamp(math.floor(seconds))


def deadline_stamp(seconds: float) -> str:
    """The timestamp of a deadline: rounded up, because a deadline must never be shown earlier than it is."""
    return stamp(math.ceil(seconds))


def moment(text: str | None, default: float) -> float:
    """A status timestamp in seconds, or the default where there is none."""
    parsed = parse(text)
    return default if parsed is None else parsed


@lru_cache(maxsize=1024)
def _stamp(seconds: int) -> str:
    """Each status has the same few moments in several places, and sessions that start together share theirs."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
