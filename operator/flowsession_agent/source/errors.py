"""The error for a source that can't be read, worded for the environment's status."""

from __future__ import annotations


class SourceError(Exception):
    """A code for programs, and one sentence that names the place, what is wrong and the way out."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
