"""Error responses to callers, and the error with which the agent fails to start."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class ApiError(Exception):
    """A response other than 200: the HTTP status, a code for programs, a message for people, and further members of the body."""

    def __init__(self, status: int, code: str, message: str, **members: Any) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.members = members


def bad_request(message: str) -> ApiError:
    """Return the 400 for an invalid request; the message names the member."""
    return ApiError(400, "BadRequest", message)


def retired() -> ApiError:
    """Return the 409 for work in a session that the operator is about to delete."""
    return ApiError(409, "Retired", "This session is being ended and takes no more work: start a new one.")


def no_edits() -> ApiError:
    """Return the 404 for edits in a session without a pushed flow folder, where nothing can have been edited."""
    return ApiError(404, "NoEdits", "This session has no edits: no flow folder was pushed into it.")


class StartError(Exception):
    """The agent can't start. The message goes to the log and the termination message, and the agent exits with 1."""
