"""Ask for confirmation before something is lost or costs something."""

import sys

import click

from flowsession_cli.errors import CliError


def ask(question: str, *, yes: bool) -> None:
    """Return if `--yes` was given or the user agrees. Raises CliError if the user declines, or if standard input is no terminal."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise CliError(f"{question} Nobody is here to ask: give --yes", code=2)
    if not click.confirm(question):
        raise CliError("nothing was changed")
