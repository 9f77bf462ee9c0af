"""The result of the last check of the flow, as the agent reports it."""

from __future__ import annotations

import time

from flowsession_protocol import limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from flowsession_protocol.messages import Check, Problem


class Result:
    """One check, running or done. `verdict` is empty while nothing is known."""

    def __init__(self, *, flow_revision: str = "", packages_revision: str = "", state: str = "None", verdict: str = "") -> None:
        self.flow_revision = flow_revision
        self.packages_revision = packages_revision
        self.state = state
        self.verdict = verdict
        self.reason = ""
        self.nodes: int | None = None
        self.count = 0
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self.started_at = time.monotonic()
        self.seconds = 0.0

    def members(self, *, most: int = limits.PROBLEMS) -> Check:
        """Return the protocol's `check` object."""
        return {
            "state": self.state,
            "flowRevision": self.flow_revision,
            "packagesRevision": self.packages_revision,
            "verdict": self.verdict,
            "reason": self.reason,
            "nodes": self.nodes,
            "count": self.count,
            "problems": self.problems[:most],
            "warnings": self.warnings[:most],
            "seconds": round(self.seconds, 2),
        }

    def found(self, findings: dict[str, Any], *, over: bool) -> Result:
        """Return this check with its findings so far. The verdict is Invalid from the first problem, else set once the check is over."""
        later = Result(flow_revision=self.flow_revision, packages_revision=self.packages_revision, state="Done" if over else "Running")
        later.started_at, later.seconds = self.started_at, time.monotonic() - self.started_at
        later.nodes, later.count = findings["nodes"], findings["count"]
        later.problems, later.warnings = findings["problems"], findings["warnings"]
        later.reason = str(findings["unchecked"])[: limits.PROBLEM]
        if later.count:
            later.verdict = "Invalid"
        elif over:
            later.verdict = "NotChecked" if later.reason else "Valid"
        return later
