"""Read prompt flow's log of a run, to add the cause, its place and the fix to messages about lines that failed or wait."""

from __future__ import annotations

import os
import re
import time

from flowsession_protocol import limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Mapping

OUT_OF_MEMORY = "ran out of memory: choose a larger size, let the flow hold less at once, or run fewer lines at once"
CRASHED = "its process ended in the middle of it: a tool, or native code that it calls, ended it, or another process killed it"
_TOO_LATE = re.compile(r"Line \d+ execution timeout for exceeding")
_CRASH = re.compile(r"Process crashed while executing line")
_STATE = re.compile(r"-Line number\((\d+)\) (start execution|completed|failed)")
_MOST_LINES = 5
_TAIL = 64 * 1024
"""Bytes at the log's end that are searched for waits and for lines in progress."""


class RunLog:
    """The log in the folder in which prompt flow keeps a run of `flow`. `connections`: those that the run assigns to nodes."""

    def __init__(self, folder: str, flow: str = "", connections: Mapping[str, Mapping[str, str]] | None = None) -> None:
        self._path = os.path.join(folder, "logs.txt")
        self._flow = flow
        self._connections = connections
        self._seen = (-1, 0)
        """Size and modification time at which no line was found to wait."""

    def tail(self, most: int = limits.RUN_LOG_TAIL) -> str:
        """Return the log's last `most` bytes, from the beginning of a line."""
        try:
            with open(self._path, "rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - most))
                text = file.read().decode(errors="replace")
        except OSError:
            return ""
        return text if size <= most else text.partition("\n")[2]

    def last_words(self) -> str:
        """Return why a run that was ended from outside may have taken long: lines in progress, and an endpoint's response or silence."""
        from flowsession_agent.connections import refusals

        refused = refusals.advice(self.tail(), self._flow, os.environ, connections=self._connections)
        cause = f"its log says last: {refused}" if refused else refusals.silence(self._flow, os.environ, self._connections)
        return "; ".join(filter(None, (self._under_way(), cause)))

    def _under_way(self) -> str:
        states = {int(line): state for line, state in _STATE.findall(self.tail(_TAIL))}
        lines = sorted(line for line, state in states.items() if state == "start execution")
        numbers = f"{', '.join(map(str, lines[:_MOST_LINES]))}{', ...' if len(lines) > _MOST_LINES else ''}"
        return f"line{'s' * (len(lines) > 1)} {numbers} {'was' if len(lines) == 1 else 'were'} under way" if lines else ""

    def wait(self) -> str:
        """Return the sentence on lines that wait for an endpoint now; empty if none does."""
        from flowsession_agent.connections import refusals

        try:
            status = os.stat(self._path)
        except OSError:
            return ""
        if (status.st_size, status.st_mtime_ns) == self._seen:
            return ""
        found = refusals.wait(self.tail(_TAIL), self._flow, os.environ, now=time.time(), connections=self._connections)
        if not found:
            self._seen = (status.st_size, status.st_mtime_ns)
        return found

    def explain(self, result: dict[str, Any], *, short_of_memory: bool) -> None:
        """Put the cause and the fix before prompt flow's own message in `errors` and `message` of a run's result."""
        said = str(result.get("message", ""))
        for error in result.get("errors") or ():
            words = str(error.get("message", ""))
            if cause := self._cause(words, str(error.get("node", "")), error.get("line"), short_of_memory=short_of_memory):
                error["message"] = f"{cause} ({words})"
                if result.get("message") == said:  # it quotes the first error
                    result["message"] = said.replace(words, error["message"])

    def _cause(self, words: str, node: str, line: object, *, short_of_memory: bool) -> str:
        from flowsession_agent.connections import refusals

        if _CRASH.match(words):
            return f"the session {OUT_OF_MEMORY}" if short_of_memory else CRASHED
        if not _TOO_LATE.match(words):
            return refusals.advice(words, self._flow, os.environ, node=node, connections=self._connections)
        found = refusals.advice(refusals.of_line(self.tail(_TAIL), line), self._flow, os.environ, connections=self._connections)
        silent = refusals.silence(self._flow, os.environ, self._connections)
        return found or (f"{silent}, or raise spec.lines.timeoutSeconds" if silent else "")
