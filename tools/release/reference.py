"""The reference page of `kubectl flow`, generated from the program: `python -m release.reference [--check]`."""

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from flowsession_cli import app

PAGE = Path(__file__).parents[2] / "docs" / "kubectl-flow-reference.md"
_COMMON = ("-n", "--context", "--kubeconfig", "-h")
_HEAD = """\
# Reference of kubectl flow
Every command with its options, made from the program; [kubectl flow](kubectl-flow.md) tells what they are for.

All commands take `-n, --namespace NAMESPACE`, `--context CONTEXT` and `--kubeconfig FILE`, as kubectl does, and `-h, --help`.
`--debug` with any of them shows where an error came from.
Errors are one sentence on standard error and exit status 1; 2 is wrong usage, 130 is ^C.
"""


def main(arguments: list[str]) -> int:
    """Write the page. With --check, report if it is stale and return 1."""
    text = page()
    if "--check" in arguments:
        if PAGE.exists() and PAGE.read_text() == text:
            return 0
        print(f"{PAGE.name} is not what the program says: make docs writes it anew", file=sys.stderr)
        return 1
    PAGE.write_text(text)
    return 0


def page() -> str:
    """Return the page's text."""
    return "\n".join([_HEAD, *(_section(path, command) for path, command in _commands(app.cli, ()))])


def _commands(group: click.Group, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield (*path, name), command
            yield from _commands(command, (*path, name))
        elif command is not None and not command.hidden:
            yield (*path, name), command


def _section(path: tuple[str, ...], command: click.Command) -> str:
    context = click.Context(command, info_name=" ".join(("kubectl", "flow", *path)))
    help_text = inspect.cleandoc(command.help or "")
    lines = [f"{'#' * (len(path) + 1)} {' '.join(path)}"]
    if not isinstance(command, click.Group):
        lines += ["```text", " ".join([context.command_path, *command.collect_usage_pieces(context)]), "```"]
    lines += _paragraphs(help_text)
    if options := [option for option in command.params if isinstance(option, click.Option) and not set(_COMMON) & set(option.opts)]:
        lines += ["", "| option | |", "|---|---|", *(_option(context, option) for option in options)]
    return "\n".join(lines) + "\n"


def _paragraphs(text: str) -> list[str]:
    """Return the text's paragraphs as lines. What click leaves unwrapped, below \\b, becomes a block."""
    found: list[str] = []
    for paragraph in text.split("\n\n"):
        if paragraph.startswith("\b\n"):
            found += ["```text", paragraph.removeprefix("\b\n"), "```"]
        else:
            found += ["", " ".join(paragraph.split())] if found and not found[-1].startswith("```") else [" ".join(paragraph.split())]
    return found


def _option(context: click.Context, option: click.Option) -> str:
    names, text = option.get_help_record(context) or ("", "")
    return f"| `{names.replace('|', chr(92) + '|')}` | {' '.join(text.split()).replace('|', chr(92) + '|')} |"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
