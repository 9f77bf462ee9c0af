"""Errors, each one sentence with the way out."""

from collections.abc import Iterator
from contextlib import contextmanager


class CliError(Exception):
    """A sentence for the user: thing, place, way out. The program exits with `code`."""

    def __init__(self, message: str, *, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


INTERRUPTED = 130
"""Exit status after ^C."""


@contextmanager
def detaching(name: str, *, shows: str, ends: str) -> Iterator[None]:
    """Lets ^C end what shows a thing, and nothing else, which it says. `shows`: a command; `ends`: what another one does to it."""
    try:
        yield
    except KeyboardInterrupt:
        raise CliError(f"detached: {name} goes on without you; {shows} shows it, {ends}", code=INTERRUPTED) from None


class NotFound(CliError):
    """The object does not exist."""


class Forbidden(CliError):
    """The caller lacks a right."""


class Unreachable(CliError):
    """The cluster doesn't answer now, but may answer later."""
