"""What a check found, as JSON takes it: problems that keep the flow from running, and warnings that don't."""

from __future__ import annotations

import json
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MOST = 100
"""Problems that are listed; all are counted."""

LONGEST_MESSAGE = 500
LONGEST_NAME = 200


class Findings:
    """Collects problems, each once."""

    def __init__(self) -> None:
        self.problems: list[dict[str, Any]] = []
        self.warnings: list[dict[str, Any]] = []
        self.count = 0
        self.unchecked = ""
        """Why something could not be looked at; empty: all of it was."""
        self.nodes: int | None = None

    def problem(self, code: str, message: str, *, file: str = "", line: int | None = None, node: str = "") -> None:
        """Something that keeps the flow from running."""
        found = _entry(code, message, file, line, node)
        if not any({**found, "line": 0} == {**known, "line": 0} for known in self.problems):  # two ways of looking may differ in the line
            self.count += 1
            if len(self.problems) < MOST:
                self.problems.append(found)

    def warn(self, code: str, message: str, *, file: str = "", line: int | None = None, node: str = "") -> None:
        """Something odd with which prompt flow runs all the same."""
        found = _entry(code, message, file, line, node)
        if found not in self.warnings and len(self.warnings) < MOST:
            self.warnings.append(found)

    def leave(self, why: str) -> None:
        """Something can't be checked; the first reason stays."""
        self.unchecked = self.unchecked or why

    def members(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {
            "problems": self.problems,
            "warnings": self.warnings,
            "count": self.count,
            "unchecked": self.unchecked,
            "nodes": self.nodes,
        }

    @classmethod
    def remembered(cls, members: dict[str, Any]) -> Findings:
        """What `members` said in another process."""
        found = cls()
        found.problems, found.warnings = members["problems"], members["warnings"]
        found.count, found.unchecked, found.nodes = members["count"], members["unchecked"], members["nodes"]
        return found


def write(path: str, document: dict[str, Any]) -> None:
    """Write a JSON file in one step, so that whoever is killed meanwhile leaves the one before."""
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        json.dump(document, file)
    os.replace(f"{path}.new", path)


def _entry(code: str, message: str, file: str, line: int | None, node: str) -> dict[str, Any]:
    found: dict[str, Any] = {"code": code, "message": " ".join(message.split())[:LONGEST_MESSAGE]}
    if file:
        found["file"] = file[:LONGEST_NAME]
    if line:
        found["line"] = line
    if node:
        found["node"] = node[:LONGEST_NAME]
    return found
