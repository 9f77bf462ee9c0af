"""Refusals that a caller gets as an answer, and the one sentence with which the agent gives up at its start."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class ApiError(Exception):
    """An answer other than 200: the HTTP status, a code for programs, a message for people, and further members of the body."""

    def __init__(self, status: int, code: str, message: str, **members: Any) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.members = members


def bad_request(message: str) -> ApiError:
    """400: what the caller sent can't be meant; the message names the member."""
    return ApiError(400, "BadRequest", message)


def retired() -> ApiError:
    """409: the operator is about to delete this session, so it takes no more work."""
    return ApiError(409, "Retired", "This session is being ended and takes no more work: start a new one.")


def no_edits() -> ApiError:
    """404: nothing in this session can have been edited."""
    return ApiError(404, "NoEdits", "This session has no edits: no flow folder was pushed into it.")


class StartError(Exception):
    """The sentence that goes to the log and the termination message before the agent exits with 1."""
