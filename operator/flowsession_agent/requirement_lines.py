"""The requirements' lines with their places, files that they include among them; for messages, and to tell what was asked for.

Not a validator: pip and uv have the last word on what a line means.
"""

from __future__ import annotations

import os
import re

FILES_LIMIT = 50
NAME = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(?=$|[\s<>=!~;@,(\[#])")
INCLUDE = re.compile(r"(-r|-c|--requirement|--constraint)(?:\s+|\s*=\s*)?(\S+)")
EGG = re.compile(r"#egg=([A-Za-z0-9._-]+)")
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
        match = NAME.match(self.text) or EGG.search(self.text)
        return normalise(match.group(1)) if match and "://" not in match.group(1) else ""

    @property
    def hashes(self) -> list[str]:
        """The hashes that the line allows."""
        return HASH.findall(self.text)

    @property
    def place(self) -> str:
        """For people: `line 3 of requirements.txt`."""
        return f"line {self.number} of {self.file}"


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


def _logical_lines(path: str, shown: str) -> list[Line]:
    try:
        with open(path, "rb") as file:
            text = decode(file.read(4 * 1024 * 1024))
    except OSError:
        return []
    lines: list[Line] = []
    first, gathered = 0, ""
    for number, raw in enumerate([*text.splitlines(), ""], 1):
        piece = "" if raw.lstrip().startswith("#") else re.sub(r"(^|\s)#(?!egg=).*$", "", raw)
        first = first or number
        gathered += piece.rstrip()
        if gathered.endswith("\\"):
            gathered = gathered[:-1]
            continue
        if gathered.strip():
            lines.append(Line(file=shown, number=first, text=gathered.strip()))
        first, gathered = 0, ""
    return lines
