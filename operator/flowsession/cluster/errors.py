"""What can go wrong with a call, by what the caller has to do about it."""

import json
from typing import Any


class ClusterError(Exception):
    """A call to the API server that did not do what was asked. `status` is its HTTP code, 0 if there was no answer."""

    def __init__(self, message: str, *, status: int = 0, reason: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class NotFound(ClusterError):
    """The object, or its kind, is not there."""


class AlreadyExists(ClusterError):
    """An object of that name is there already."""


class Conflict(ClusterError):
    """The object has changed since it was read: read and decide again."""


class Throttled(ClusterError):
    """Too many requests: back off."""


class Unavailable(ClusterError):
    """No answer, or a server's failure: back off."""


class TooLate(ClusterError):
    """It was not sent: its turn came after the time until which it was valid. Decide again."""


class TooLarge(ClusterError):
    """The answer has more bytes than are taken."""


class Rejected(ClusterError):
    """The API server will not have it: invalid, forbidden, over quota. Its words are for people."""


class NamespaceTerminating(Rejected):
    """The namespace is on its way out: nothing is to be written there any more."""


class QuotaExceeded(Rejected):
    """A ResourceQuota of the namespace is used up."""


def from_answer(status: int, body: bytes | str) -> ClusterError:
    """Return the error of a Status answer of the API server; a proxy in front of it may answer anything else."""
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
        return Unavailable  # a namespace so new that its default service account is still to come
    if status >= 500 or status == 401:
        return Unavailable
    return {404: NotFound, 429: Throttled}.get(status, Rejected)


def _is_caused_by(details: dict[str, Any], reason: str) -> bool:
    more = details.get("details")
    causes = more.get("causes") if isinstance(more, dict) else None
    return isinstance(causes, list) and any(isinstance(cause, dict) and cause.get("reason") == reason for cause in causes)
