"""The console script `kubectl_complete-flow`: kubectl calls it to complete what follows `kubectl flow`."""

import sys

NO_FILES = 4
"""Cobra's directive: complete with these words only."""

FILES = 0
"""Cobra's directive: if there are no words, complete file names."""


def main() -> None:
    """Print the words that may replace the last argument, one per line, and then the directive."""
    for line in completions(sys.argv[1:]):
        print(line)


def completions(arguments: list[str]) -> list[str]:
    """Return the lines to print: words with their descriptions, from the command line's own completion, and the directive."""
    from click.shell_completion import ShellComplete  # noqa: PLC0415 - kubectl calls this at every key

    from flowsession_cli import app  # noqa: PLC0415

    *before, incomplete = arguments or [""]
    found = ShellComplete(app.cli, {}, "kubectl-flow", "_KUBECTL_FLOW_COMPLETE").get_completions(before, incomplete)
    words = [f"{item.value}\t{item.help}" if item.help else str(item.value) for item in found if item.type == "plain"]
    return [*words, f":{NO_FILES if words else FILES}"]
