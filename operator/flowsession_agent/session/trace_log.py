"""Logs in the agent's log why traces of tests and runs don't arrive."""

from __future__ import annotations

import os
import sys

from flowsession_agent.session.traces import PROBLEM


class TraceLog:
    """Logs each problem once, and again only after another one."""

    def __init__(self) -> None:
        self._reported = ""

    def look(self, folder: str) -> None:
        """Log the problem that a test or run left in its folder, if any."""
        try:
            with open(os.path.join(folder, PROBLEM), encoding="utf-8", errors="replace") as file:
                problem = file.read(1000)
        except OSError:
            return
        if problem != self._reported:
            self._reported = problem
            print(f"flowsession agent: {problem}", file=sys.stderr, flush=True)
