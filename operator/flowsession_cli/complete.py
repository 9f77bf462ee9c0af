"""The console script `kubectl_complete-flow`: kubectl calls it to complete what follows `kubectl flow`."""

import sys

NO_FILES = 4
"""Cobra's directive: complete with these words alone."""

FILES = 0
"""Cobra's directive: where there are none, complete with names of files."""


def main() -> None:
    """Print what may stand in place of the last argument, a line each, and then the directive."""
    for line in completions(sys.argv[1:]):
        print(line)


def completions(arguments: list[str]) -> list[str]:
    """Return the lines: words with what they are, by the command line's own completion."""
    from click.shell_completion import ShellComplete  # noqa: PLC0415 - kubectl calls this at every key

    from flowsession_cli import app  # noqa: PLC0415

    *before, incomplete = arguments or [""]
    found = ShellComplete(app.cli, {}, "kubectl-flow", "_KUBECTL_FLOW_COMPLETE").get_completions(before, incomplete)
    words = [f"{item.value}\t{item.help}" if item.help else str(item.value) for item in found if item.type == "plain"]
    return [*words, f":{NO_FILES if words else FILES}"]
