"""Parses a requirements file into the lines that pip sees: comments removed, continuations joined, options split.

The format is pip's (https://pip.pypa.io/en/stable/reference/requirements-file-format/, `pip/_internal/req/req_file.py` 26.3), also for uv:
if uv reads a line differently, for example by ending a comment at a backslash, the operator has judged it by pip's rules.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterator

LONGEST_QUOTED = 10_000
"""Characters of options with quotation marks, which are parsed one character at a time."""

VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")
"""What pip replaces by an environment variable's value, anywhere in a line (`ENV_VAR_RE`): upper case only."""

EGG = re.compile(r"[#&]egg=([A-Za-z0-9._-]+)")
"""The name of a URL's distribution, in the fragment."""

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
"""Options without a value."""

ALIASES = {"-r": "--requirement", "-c": "--constraint", "-e": "--editable", "-i": "--index-url", "-f": "--find-links"}


class Line:
    """A logical line that is neither blank nor a comment."""

    def __init__(self, first: int, last: int, text: str) -> None:
        self.first = first
        """Number of its first physical line, from 1."""
        self.last = last
        self.text = text
        self.body, rest = parts(text)
        """The requirement without options; empty if the line has only options."""
        self.options, self.problem = _options(rest)
        """Long names and values. A flag has an empty value, and a word that belongs to no option has an empty name. `problem` says why the
        options can't be parsed; empty: they can."""

    def values(self, option: str) -> list[str]:
        """Return the values of an option, one for each occurrence in the line."""
        return [value for name, value in self.options if name == option]


def normalise(name: str) -> str:
    """Return a distribution's name as normalized by PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def encoding_of(data: bytes) -> str:
    """Return the encoding in which pip reads a requirements file: by its byte order mark, else UTF-8."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    return "utf-8-sig" if data.startswith(b"\xef\xbb\xbf") else "utf-8"


def parts(text: str) -> tuple[str, str]:
    """Return a line's requirement and its options as written, each empty if missing."""
    found = _OPTIONS.search(text)
    return (text, "") if found is None else (text[: found.start()].strip(), text[found.end() :])


def lines(text: str) -> Iterator[Line]:
    """Yield the logical lines in order. Raises nothing."""
    pending, start, number = "", 0, 0
    for number, raw in enumerate(text.splitlines(), 1):
        start = start or number
        comment = _COMMENT_LINE.match(raw)
        if raw.endswith("\\") and not comment:
            pending += raw.strip("\\")
            continue
        # As in pip, a comment ends a continuation and is not part of it.
        yield from _line(start, number, f"{pending} {raw}" if comment else pending + raw)
        pending, start = "", 0
    if pending.strip():
        yield from _line(start, number, pending)


def _line(first: int, last: int, joined: str) -> Iterator[Line]:
    text = _without_comment(joined).strip()
    if text:
        yield Line(first, last, text)


def _without_comment(line: str) -> str:
    """Return the line without its comment, which begins with a # at the start or after white space."""
    at = line.find("#")
    while at > 0 and not line[at - 1].isspace():
        at = line.find("#", at + 1)
    return line if at < 0 else line[:at]


def _options(text: str) -> tuple[tuple[tuple[str, str], ...], str]:
    if any(sign in text for sign in "'\"\\"):
        if len(text) > LONGEST_QUOTED:
            return (), f"options with quotation marks are longer than {LONGEST_QUOTED:,} characters"
        import shlex

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
            value = words.pop()  # after an unknown option: most likely its value
        options.append((ALIASES.get(name, name), value))
    return tuple(options), ""
