"""The commands that the README and the documents tell people to type."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from flowsession_cli import app

ROOT = Path(__file__).parents[1]
DOCUMENTS = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "examples" / "README.md", *sorted((ROOT / "docs").glob("*.md")))

_INLINE = re.compile(r"`((?:[A-Z]+=\S* )*(?:(?:kubectl|kubectl-flow|helm|make)(?![-.\w])|POD=\$\(|export KUBECONFIG)[^`]*)`")
_MENTION = re.compile(r"(kubectl|helm)( \S+)?|kubectl-flow|helm upgrade --install")
"""A mention of a program or of one of its subcommands in a sentence."""

_COMMENT = re.compile(r"\s{2,}#.*$")


@dataclass(frozen=True, order=True)
class Command:
    """One command as written in a document."""

    document: str
    text: str


def commands() -> list[Command]:
    """Return all commands in document order: lines of `console` blocks after the prompt, and commands in sentences."""
    return [Command(str(path.relative_to(ROOT)), text) for path in DOCUMENTS for text in in_text(path.read_text())]


def of_help() -> list[str]:
    """Return the commands that `kubectl flow --help` and its subcommands' help tell people to type, in order."""
    lines = [line.strip() for text in _helps(app.cli) for block in text.split("\b\n")[1:] for line in block.split("\n\n")[0].splitlines()]
    found = [re.search(r"(?:source <\()?kubectl[ -]flow .*", line) for line in lines]
    return [re.split(r"\s{2,}", match[0])[0] for match in found if match]


def _helps(command: click.Command) -> Iterator[str]:
    yield command.help or ""
    if isinstance(command, click.Group):
        for name in command.list_commands(context := click.Context(command)):
            if (found := command.get_command(context, name)) is not None:
                yield from _helps(found)


def in_text(markdown: str) -> list[str]:
    """Return the commands of one document."""
    found, block, continued = [], "", ""
    for line in markdown.splitlines():
        bare = line.strip()
        if bare.startswith("```"):
            block = "" if block else bare.removeprefix("```") or "text"
            continue
        if block == "console" and (continued or bare.startswith("$ ")):
            text = continued + _COMMENT.sub("", bare.removeprefix("$ ")).strip()
            continued = f"{text} " if text.endswith(("|", "\\")) or text.count("'") % 2 else ""
            if not continued:
                found.append(text.replace("\\ ", ""))
        elif not block:
            found += [match.strip() for match in _INLINE.findall(line) if not _MENTION.fullmatch(match.strip())]
    return found


def blocks(document: str, kind: str = "yaml") -> list[str]:
    """Return the fenced blocks of a kind, without the indentation of a list."""
    text = (ROOT / document).read_text()
    found = re.findall(rf"^( *)```{kind}\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", body, flags=re.MULTILINE) for indent, body in found]
