"""Errors of calls, by what the caller has to do about them."""

import json
from typing import Any


class ClusterError(Exception):
    """A failed call to the API server. `status` is the HTTP status, 0 without a response."""

    def __init__(self, message: str, *, status: int = 0, reason: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class NotFound(ClusterError):
    """The object or its kind does not exist."""


class AlreadyExists(ClusterError):
    """An object with that name already exists."""


class Conflict(ClusterError):
    """The object has changed since it was read: read and decide again."""


class Throttled(ClusterError):
    """Too many requests: back off."""


class Unavailable(ClusterError):
    """No response, or a server error: back off."""


class TooLate(ClusterError):
    """The request expired before it could be sent: decide again."""


class TooLarge(ClusterError):
    """The response has more bytes than the limit."""


class Rejected(ClusterError):
    """The API server rejected the request: invalid, forbidden, over quota. The message is for people."""


class NamespaceTerminating(Rejected):
    """The namespace is terminating: write nothing more there."""


class QuotaExceeded(Rejected):
    """A ResourceQuota of the namespace is exceeded."""


def from_answer(status: int, body: bytes | str) -> ClusterError:
    """Return the error for a Status response of the API server. A proxy in front of it may send anything else."""
    text = body if isinstance(body, str) else body.decode(errors="replace")
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        parsed = None
    details: dict[str, Any] = parsed if isinstance(parsed, dict) else {}
    message = str(details.get("message") or text)[:2000]
    reason = str(details.get("reason") or "")
    return _class_of(status, reason, message, details)(message, status=status, reason=reason)


def _class_of(status: int, reason: str, message: str, details: dict[str, Any]) -> type[ClusterError]:
    if _is_caused_by(details, "NamespaceTerminating"):
        return NamespaceTerminating
    if status == 409:
        return AlreadyExists if reason == "AlreadyExists" else Conflict
    if status == 403 and "exceeded quota" in message:
        return QuotaExceeded
    if status == 403 and "serviceaccount" in message and "not found" in message:
        return Unavailable  # the namespace is so new that its default service account is missing
    if status >= 500 or status == 401:
        return Unavailable
    return {404: NotFound, 429: Throttled}.get(status, Rejected)


def _is_caused_by(details: dict[str, Any], reason: str) -> bool:
    more = details.get("details")
    causes = more.get("causes") if isinstance(more, dict) else None
    return isinstance(causes, list) and any(isinstance(cause, dict) and cause.get("reason") == reason for cause in causes)
