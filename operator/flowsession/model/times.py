"""Seconds since 1970 to and from the timestamps of the Kubernetes API (RFC 3339, UTC)."""

import math
from datetime import UTC, datetime


def parse(text: str | None) -> float | None:
    """Return seconds since 1970; None if the text is empty or no timestamp."""
    if not text:
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return None


def stamp(seconds: float) -> str:
    """Return the timestamp, cut to whole seconds as metav1.Time is."""
    return datetime.fromtimestamp(math.floor(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def deadline_stamp(seconds: float) -> str:
    """Return the timestamp of a deadline, rounded up: it must not be shown earlier than it is."""
    return stamp(math.ceil(seconds))


def moment(text: str | None, default: float) -> float:
    """Return a status' timestamp in seconds since 1970, or the default if it is missing."""
    parsed = parse(text)
    return default if parsed is None else parsed
