"""The dependencies of the image's prompt flow as constraints, so that an install keeps prompt flow working if possible.

The tools consider only the requirements. azure-monitor-opentelemetry alone would bring the newest opentelemetry, with which prompt flow
can't be imported, although an older one suits both. If the file also named promptflow, the tools would find the older one.
"""

from __future__ import annotations

import os
import re

from flowsession_agent.install.overlaps import installed
from flowsession_agent.install.requirement_lines import NAME
from flowsession_protocol import requirements
from flowsession_protocol.requirements import normalise

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Sequence

    from flowsession_agent.install.base import Base
    from flowsession_agent.install.requirement_lines import Line

HEADERS_LIMIT = 1024 * 1024
REQUIRES = re.compile(rb"^Requires-Dist: ([^\r\n]+)", re.MULTILINE)
EXTRAS = re.compile(r"\[[^\[\]]*\]")


def needs(base: Base, lines: Sequence[Line]) -> list[str]:
    """Return constraints on the dependencies of the image's prompt flow, direct or not.

    A distribution for which a line gives a version is left to that line, and so are the dependencies of the image's version of it.
    """
    metadata = installed(base.sites)
    own = {line.name for line in lines if asks_for_version(line)}
    waiting, known, found = sorted(base.promptflow), set(base.promptflow), []
    while waiting:
        needing = waiting.pop()
        for requirement in _requirements(metadata.get(needing, "")) if needing not in own else ():
            match = NAME.match(requirement)
            name = normalise(match.group(1)) if match else ""
            if name and name not in known:
                known.add(name)
                waiting.append(name)
            if name and name not in own and name not in base.promptflow and asks(requirement):
                found.append(EXTRAS.sub("", requirement))
    return sorted(set(found))


def asks_for_version(line: Line) -> bool:
    """Return whether a line restricts the version of a distribution."""
    return bool(line.name) and asks(line.text)


def asks(requirement: str) -> bool:
    """Return whether a requirement, apart from its marker, has a version."""
    return re.search(r"[<>=!~@]", requirement.partition(";")[0]) is not None


def without_image_promptflow(text: str, base: Base) -> str:
    """Return `text` without the lines that ask for prompt flow as the image has it; the others keep their numbers.

    With such a line, a tool would check the other lines against all of prompt flow's dependencies, and reject what it otherwise accepts.
    """
    lines = list(requirements.lines(text))
    dropped = [line for line in lines if _is_the_images(line.text, base)]
    if not dropped or len(dropped) == len(lines):
        return text
    numbers = {number for line in dropped for number in range(line.first, line.last + 1)}
    return "".join("\n" if number in numbers else f"{line}\n" for number, line in enumerate(text.splitlines(), 1))


def _is_the_images(requirement: str, base: Base) -> bool:
    match = NAME.match(requirement)
    if match is None or not re.fullmatch(r"[\w.-]+\s*(\[[\w\s.,-]*\])?", requirement):
        return False
    extras = re.findall(r"[\w.-]+", "".join(EXTRAS.findall(requirement)))
    return {normalise(match.group(1)), *(f"promptflow-{normalise(extra)}" for extra in extras)} <= set(base.promptflow)


def _requirements(metadata: str) -> list[str]:
    """Return what a distribution requires without extras; empty if its metadata can't be read."""
    for name in ("METADATA", "PKG-INFO"):
        try:
            with open(os.path.join(metadata, name), "rb") as file:
                headers = file.read(HEADERS_LIMIT).partition(b"\n\n")[0]
        except OSError:
            continue
        found = [text.decode(errors="replace").strip() for text in REQUIRES.findall(headers)]
        return [_plain(text) for text in found if "extra" not in text.partition(";")[2]]
    return []


def _plain(requirement: str) -> str:
    """Return `name >=1` for the `name (>=1)` of older metadata."""
    before, semicolon, marker = requirement.partition(";")
    return re.sub(r"[()]", "", before).strip() + (f" ;{marker}" if semicolon else "")
