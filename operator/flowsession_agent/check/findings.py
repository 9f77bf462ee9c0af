"""Findings of a check, ready for JSON: problems, which keep the flow from running, and warnings, which don't."""

from __future__ import annotations

import json
import os

from flowsession_protocol import limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from flowsession_protocol.messages import Problem

MOST = 100
"""Limit of the problems listed, and of the warnings. All problems are counted."""


class Findings:
    """Collects problems and warnings, each once."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self.count = 0
        self.unchecked = ""
        """Why something could not be checked; empty if everything was."""
        self.nodes: int | None = None

    def problem(self, code: str, message: str, *, file: str = "", line: int | None = None, node: str = "") -> None:
        """Report something that keeps the flow from running."""
        found = _entry(code, message, file, line, node)
        if not any({**found, "line": 0} == {**known, "line": 0} for known in self.problems):  # reading and importing may differ in the line
            self.count += 1
            if len(self.problems) < MOST:
                self.problems.append(found)

    def warn(self, code: str, message: str, *, file: str = "", line: int | None = None, node: str = "") -> None:
        """Report something odd that doesn't keep the flow from running."""
        found = _entry(code, message, file, line, node)
        if found not in self.warnings and len(self.warnings) < MOST:
            self.warnings.append(found)

    def leave(self, why: str) -> None:
        """Record why something can't be checked. The first reason is kept."""
        self.unchecked = self.unchecked or why

    def members(self) -> dict[str, Any]:
        """Return all findings, for JSON."""
        return {
            "problems": self.problems,
            "warnings": self.warnings,
            "count": self.count,
            "unchecked": self.unchecked,
            "nodes": self.nodes,
        }

    @classmethod
    def remembered(cls, members: dict[str, Any]) -> Findings:
        """Return the findings that another process wrote as `members`."""
        found = cls()
        found.problems, found.warnings = members["problems"], members["warnings"]
        found.count, found.unchecked, found.nodes = members["count"], members["unchecked"], members["nodes"]
        return found


def write(path: str, document: dict[str, Any]) -> None:
    """Write a JSON file atomically, so that a process killed meanwhile leaves the previous one."""
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        json.dump(document, file)
    os.replace(f"{path}.new", path)


def _entry(code: str, message: str, file: str, line: int | None, node: str) -> Problem:
    found: Problem = {"code": code, "message": " ".join(message.split())[: limits.PROBLEM]}
    if file:
        found["file"] = file[: limits.PROBLEM_PLACE]
    if line:
        found["line"] = line
    if node:
        found["node"] = node[: limits.PROBLEM_PLACE]
    return found
