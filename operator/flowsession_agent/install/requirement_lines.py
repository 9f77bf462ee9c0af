"""The requirements' lines with their places, those of included files too: for messages, and to know what was requested.

Not a validator: pip and uv decide what a line means.
"""

from __future__ import annotations

import os
import re

from flowsession_protocol import requirements
from flowsession_protocol.limits import REQUIREMENT_FILES
from flowsession_protocol.requirements import normalise

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

NAME = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(?=$|[\s<>=!~;@,(\[#])")


class Line(requirements.Line):
    """One logical line, and the file that contains it."""

    def __init__(self, *, file: str, number: int, text: str) -> None:
        super().__init__(number, number, text)
        self.file = file

    @property
    def name(self) -> str:
        """The distribution that the line names, normalized; empty for options, paths and bare URLs."""
        return name_of(self.text)

    @property
    def hashes(self) -> list[str]:
        """The hashes that the line allows."""
        return self.values("--hash")

    @property
    def place(self) -> str:
        """The place for messages: `line 3 of requirements.txt`."""
        return f"line {self.first} of {self.file}"


def name_of(text: str) -> str:
    """Return the distribution that a line names, normalized; empty for options, paths and bare URLs."""
    match = NAME.match(text) or requirements.EGG.search(text)
    return normalise(match.group(1)) if match else ""


def read(path: str, *, root: str, shown: str) -> list[Line]:
    """Return the lines of the file at `path`, named `shown`, and of the files that it includes by -r, named relative to `root`.

    An unreadable file has no lines.
    """
    lines: list[Line] = []
    waiting = [os.path.abspath(path)]
    known: set[str] = set()
    while waiting and len(known) < REQUIREMENT_FILES:
        file = waiting.pop(0)
        if file in known:
            continue
        known.add(file)
        name = os.path.relpath(file, root) if len(known) > 1 else shown
        for line in requirements.lines(text_at(file) or ""):
            if not line.body:
                waiting += [os.path.abspath(os.path.join(os.path.dirname(file), target)) for target in line.values("--requirement")[:1]]
            lines.append(Line(file=name, number=line.first, text=line.text))
    return lines


def text_at(path: str) -> str | None:
    """Return a file's text, its first 4 MiB at most, or None if it can't be read."""
    try:
        with open(path, "rb") as file:
            data = file.read(4 * 1024 * 1024)
    except OSError:
        return None
    return data.decode(requirements.encoding_of(data), errors="replace")


def rewritten(text: str, instead: Callable[[requirements.Line], str]) -> str:
    """Return a file's text with each logical line replaced by `instead(line)`. Lines keep their numbers."""
    physical = text.splitlines(keepends=True)
    for line in requirements.lines(text):
        changed = instead(line)
        if changed != line.text:
            end = physical[line.last - 1][len(physical[line.last - 1].rstrip("\r\n")) :] or "\n"
            physical[line.first - 1 : line.last] = [changed + end] + ["\n"] * (line.last - line.first)
    return "".join(physical)
