"""What goes wrong, in one sentence each with the way out."""


class CliError(Exception):
    """A sentence for the user: thing, place, way out. The program exits with `code`."""

    def __init__(self, message: str, *, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


class NotFound(CliError):
    """The object does not exist."""


class Forbidden(CliError):
    """The caller lacks a right."""


class Unreachable(CliError):
    """The cluster doesn't answer now, and may do so again."""
