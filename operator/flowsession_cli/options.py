"""Options shared by several commands: kubectl's list options, and the forms that prompt flow's own command takes."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from flowsession_cli import app, render
from flowsession_cli.cluster import Cluster, Object
from flowsession_cli.errors import CliError


@dataclass(frozen=True)
class Listing:
    """Which objects to list, and how."""

    all_namespaces: bool
    selector: str
    output: str
    watch: bool

    def objects(self, cluster: Cluster, kind: str) -> list[Object]:
        """Return the objects. With `-o` or `-w`, replace this program with kubectl's own list."""
        chosen = [*(["-A"] if self.all_namespaces else []), *([f"-l={self.selector}"] if self.selector else [])]
        if self.output or self.watch:
            cluster.become("get", kind, *chosen, *([f"-o={self.output}"] if self.output else []), *(["-w"] if self.watch else []))
        render.prepare()
        found = cluster.objects(kind, *chosen)
        if not found and not self.all_namespaces:
            cluster.refuse_missing_namespace()
        return found

    def heads(self, *heads: str) -> tuple[str, ...]:
        """Return the heads, with the namespace first if all namespaces are listed."""
        return ("NAMESPACE", *heads) if self.all_namespaces else heads

    def row(self, thing: Object, cells: tuple[str, ...]) -> tuple[str, ...]:
        """Return the row, with the object's namespace first if all namespaces are listed."""
        return (thing["metadata"]["namespace"], *cells) if self.all_namespaces else cells


def listing(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `-A`, `-l`, `-o` and `-w`, which the command receives as its argument `listing`."""

    @click.option("-A", "--all-namespaces", is_flag=True, help="Those of all namespaces.")
    @click.option("-l", "--selector", default="", metavar="LABELS", help="Only those with these labels, such as team=a.")
    @click.option("-o", "--output", default="", metavar="json|yaml|name|wide|...", help="As kubectl get prints it.")
    @click.option("-w", "--watch", is_flag=True, help="Go on with each change, as kubectl get -w does.")
    def with_listing(all_namespaces: bool, selector: str, output: str, watch: bool, **arguments: Any) -> Any:
        return command(listing=Listing(all_namespaces, selector, output, watch), **arguments)

    return app.around(command, with_listing)


class ManyValues(click.Command):
    """Command whose repeatable options take several values at once: `--column-mapping a=1 b=2`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Repeat the option before each further value."""
        many = {name for option in self.params if isinstance(option, click.Option) and option.multiple for name in option.opts}
        words: list[str] = []
        option, first = "", False
        for word in args:
            if word in many:
                option, first = word, True
            elif first:
                first = False
            elif option and not word.startswith("-") and (("=" in word) or word.endswith(".env")):
                words.append(option)
            else:
                option = ""
            words.append(word)
        return super().parse_args(ctx, words)


class ByName(click.Command):
    """Command that also takes an object's name as prompt flow does: `--name NAME`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Drop the option and keep the name as an argument."""
        words = [word.removeprefix("--name=") for word in args if word != "--name"]
        return super().parse_args(ctx, words)


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(text: str) -> int | None:
    """Return the seconds of a typed time such as 90s, 30m, 1h30m or 2d, or None if it is invalid."""
    parts = re.findall(r"(\d{1,9})([smhd])", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return sum(int(number) * _UNITS[unit] for number, unit in parts)


def pairs(option: str, values: tuple[str, ...]) -> dict[str, str]:
    """Return NAME=VALUE texts as values by name. Raises CliError for one without a value."""
    found = {}
    for text in values:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise CliError(f"{option} {text} has no value: write NAME=VALUE", code=2)
        found[name] = value
    return found


def nested(option: str, values: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """Return NODE.FIELD=VALUE texts as values by node and field."""
    found: dict[str, dict[str, str]] = {}
    for name, value in pairs(option, values).items():
        node, dot, field = name.partition(".")
        if not dot or not node or not field:
            raise CliError(f"{option} {name}={value} has no field: write NODE.connection=NAME, or another input of it", code=2)
        found.setdefault(node, {})[field] = value
    return found


def environment(option: str, values: tuple[str, ...]) -> dict[str, str]:
    """Return values by name from NAME=VALUE texts and from files that end with .env."""
    found: dict[str, str] = {}
    for text in values:
        if "=" not in text and text.endswith(".env"):
            found |= _dotenv(option, Path(text))
        else:
            found |= pairs(option, (text,))
    return found


_LINE = re.compile(r"(?:export\s+)?(?P<name>[A-Za-z_][\w.-]*)\s*=\s*(?P<value>.*)")


def _dotenv(option: str, path: Path) -> dict[str, str]:
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise CliError(f"{option} {path}: {error.strerror}", code=2) from None
    found = {}
    for line in lines:
        if match := _LINE.fullmatch(line.strip()):
            value = match["value"].strip()
            quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
            found[match["name"]] = value[1:-1] if quoted else value.partition(" #")[0].rstrip()
    return found
