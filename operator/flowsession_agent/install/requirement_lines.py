"""The requirements' lines with their places, files that they include among them; for messages, and to tell what was asked for.

Not a validator: pip and uv have the last word on what a line means.
"""

from __future__ import annotations

import os
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterator

FILES_LIMIT = 50
NAME = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(?=$|[\s<>=!~;@,(\[#])")
INCLUDE = re.compile(r"(-r|-c|--requirement|--constraint)(?:\s+|\s*=\s*)?(\S+)")
EGG = re.compile(r"#egg=([A-Za-z0-9._-]+)")
COMMENT = re.compile(r"(?:^|\s)#(?!egg=).*$")
HASH = re.compile(r"--hash[=\s]+(\S+)")


class Line:
    """One logical line: continuations joined, comments gone."""

    def __init__(self, *, file: str, number: int, text: str) -> None:
        self.file = file
        self.number = number
        self.text = text

    @property
    def name(self) -> str:
        """The distribution that the line names, normalised; empty for options, paths and bare URLs."""
        return name_of(self.text)

    @property
    def hashes(self) -> list[str]:
        """The hashes that the line allows."""
        return HASH.findall(self.text)

    @property
    def place(self) -> str:
        """For people: `line 3 of requirements.txt`."""
        return f"line {self.number} of {self.file}"


class LogicalLine:
    """A line with its continuations joined and its comment gone, and its physical lines, from 1."""

    def __init__(self, *, first: int, last: int, text: str) -> None:
        self.first = first
        self.last = last
        self.text = text


def name_of(text: str) -> str:
    """The distribution that a line names, normalised; empty for options, paths and bare URLs."""
    match = NAME.match(text) or EGG.search(text)
    return normalise(match.group(1)) if match else ""


def normalise(name: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read(path: str, *, root: str, shown: str) -> list[Line]:
    """The lines of the file at `path`, named `shown`, and of those that it includes by -r, named relative to `root`.

    Unreadable files have none.
    """
    lines: list[Line] = []
    waiting = [os.path.abspath(path)]
    known: set[str] = set()
    while waiting and len(known) < FILES_LIMIT:
        file = waiting.pop(0)
        if file in known:
            continue
        known.add(file)
        for line in _logical_lines(file, os.path.relpath(file, root) if len(known) > 1 else shown):
            include = INCLUDE.fullmatch(line.text)
            if include and include.group(1) in ("-r", "--requirement"):
                waiting.append(os.path.abspath(os.path.join(os.path.dirname(file), include.group(2))))
            lines.append(line)
    return lines


def raw(path: str) -> list[str] | None:
    """A file's lines as they stand, None when it can't be read."""
    try:
        with open(path, "rb") as file:
            return decode(file.read()).splitlines()
    except OSError:
        return None


def decode(data: bytes) -> str:
    """Text as pip reads it: by its byte order mark, else UTF-8."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", errors="replace")
    return data.decode("utf-8-sig", errors="replace")


def logical(text: str) -> Iterator[LogicalLine]:
    """The logical lines of a file's text that say something."""
    physical = text.splitlines()
    first, gathered = 0, list[str]()
    for number, raw in enumerate([*physical, ""], 1):
        piece = "" if raw.lstrip().startswith("#") else COMMENT.sub("", raw).rstrip()
        first = first or number
        if piece.endswith("\\"):
            gathered.append(piece[:-1])
            continue
        joined = "".join([*gathered, piece]).strip()
        if joined:
            yield LogicalLine(first=first, last=min(number, len(physical)), text=joined)
        first, gathered = 0, []


def _logical_lines(path: str, shown: str) -> list[Line]:
    try:
        with open(path, "rb") as file:
            text = decode(file.read(4 * 1024 * 1024))
    except OSError:
        return []
    return [Line(file=shown, number=line.first, text=line.text) for line in logical(text)]
