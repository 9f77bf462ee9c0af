"""The lines of a requirements file as pip sees them: comments gone, continuations joined, options taken apart.

The format is pip's (https://pip.pypa.io/en/stable/reference/requirements-file-format/, `pip/_internal/req/req_file.py` 26.3).
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field

LONGEST_QUOTED = 10_000
"""Characters of options with quotation marks, which are read one by one."""

VARIABLE = re.compile(r"\$\{[A-Z0-9_]+\}")
"""What pip puts the value of an environment variable in for, anywhere in a line (`ENV_VAR_RE`): upper case only."""

_COMMENT_LINE = re.compile(r"\s*#")
_OPTIONS = re.compile(r"(?:^|\s)(?=-)")

VALUED = frozenset(
    (
        "-r",
        "--requirement",
        "-c",
        "--constraint",
        "-e",
        "--editable",
        "-i",
        "--index-url",
        "--pypi-url",
        "--extra-index-url",
        "-f",
        "--find-links",
        "--no-binary",
        "--only-binary",
        "--trusted-host",
        "--use-feature",
        "--all-releases",
        "--only-final",
        "--hash",
        "-C",
        "--config-setting",
        "--config-settings",
        "--global-option",
        "--install-option",
    )
)
"""Options that take a value."""

FLAGS = frozenset(["--no-index", "--prefer-binary", "--require-hashes", "--no-require-hashes", "--pre"])
"""Options that take none."""

ALIASES = {"-r": "--requirement", "-c": "--constraint", "-e": "--editable", "-i": "--index-url", "-f": "--find-links"}


@dataclass(frozen=True)
class Line:
    """A logical line that says something."""

    first: int
    """Number of its first physical line, from 1."""
    last: int
    text: str
    body: str
    """The requirement, without options; empty in a line of options."""
    options: tuple[tuple[str, str], ...] = field(default=())
    """Long names, and values; what takes none has an empty one. A word that belongs to no option has an empty name."""
    problem: str = ""
    """Why its options can't be read; empty: they can."""


def lines(text: str) -> Iterator[Line]:
    """The logical lines in their order. Raises nothing."""
    pending, start, number = "", 0, 0
    for number, raw in enumerate(text.splitlines(), 1):
        start = start or number
        comment = _COMMENT_LINE.match(raw)
        if raw.endswith("\\") and not comment:
            pending += raw.strip("\\")
            continue
        # A comment ends what was continued, as for pip, and is no part of it.
        yield from _line(start, number, f"{pending} {raw}" if comment else pending + raw)
        pending, start = "", 0
    if pending.strip():
        yield from _line(start, number, pending)


def _line(first: int, last: int, joined: str) -> Iterator[Line]:
    text = _without_comment(joined).strip()
    if not text:
        return
    found = _OPTIONS.search(text)
    if found is None:
        yield Line(first, last, text, text)
        return
    body = text[: found.start()].strip()
    options, problem = _options(text[found.end() :])
    yield Line(first, last, text, body, options, problem)


def _without_comment(line: str) -> str:
    """A # at the start or behind white space begins a comment."""
    at = line.find("#")
    while at > 0 and not line[at - 1].isspace():
        at = line.find("#", at + 1)
    return line if at < 0 else line[:at]


def _options(text: str) -> tuple[tuple[tuple[str, str], ...], str]:
    if any(sign in text for sign in "'\"\\"):
        if len(text) > LONGEST_QUOTED:
            return (), f"options with quotation marks are longer than {LONGEST_QUOTED:,} characters"
        try:
            words = shlex.split(text)
        except ValueError:
            return (), "a quotation mark is not closed"
    else:
        words = text.split()
    options: list[tuple[str, str]] = []
    words.reverse()
    while words:
        word = words.pop()
        if not word.startswith("-") or word == "-":
            options.append(("", word))
            continue
        # -rother.txt and --requirement=other.txt are one word.
        name, attached, value = word.partition("=") if word.startswith("--") else (word[:2], word[2:], word[2:].removeprefix("="))
        if name in VALUED and not attached:
            if not words:
                return tuple(options), f"{name} has no value"
            value = words.pop()
        elif not attached and name not in FLAGS and words and not words[-1].startswith("-"):
            value = words.pop()  # of an option that nobody knows; more likely its value than not
        options.append((ALIASES.get(name, name), value))
    return tuple(options), ""
