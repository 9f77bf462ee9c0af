"""Find the commands that started and ended between two looks, by the numbers assigned to processes meanwhile.

A PID namespace numbers its processes and threads in sequence, and /proc/loadavg ends with the last number assigned. A number that no
process of the session, living or just ended, accounts for was somebody's `kubectl exec`.
"""

from __future__ import annotations

import os

from flowsession_agent.session.children import last_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterable

    from flowsession_agent.session.children import Children
    from flowsession_agent.session.cputime import Identity, Process
    from flowsession_agent.session.exec_trace import ExecTrace

BURST = 3
"""Consecutive numbers that runc takes at least for one command: its own process, which becomes the command, and its threads."""
MANY = 10_000
"""New numbers between two looks that count as a burst without a check of each. So does a wrap of the numbering at its highest number."""

NONE, UNSURE, COMMAND = "none", "unsure", "command"


class Pids:
    """Call `begin` before /proc is read and `classify` after it, at each look.

    A process that forks has run. So while no process that existed before has run, each unknown number is a command's. If one has run,
    the runtime's trace decides. If no trace is available, BURST consecutive numbers are a command.

    `first` is the last number assigned when the agent began, 0 if unknown: commands before the first look count too.
    """

    def __init__(self, *, proc: str, agent: int, children: Children, trace: ExecTrace, first: int = 0) -> None:
        self._proc = proc
        self._agent = agent
        self._children = children
        self._trace = trace
        self._last = self._now = self._seen = first
        self._was_quiet, self._was_helped = True, False
        self._own: set[int] = set()
        self._changes = 0
        self._ran: dict[Identity, int] = {}
        self._executed: set[Identity] = set()

    def begin(self) -> None:
        """Read the last number assigned."""
        self._now = self._take()

    def classify(self, everything: list[Process], session: list[Process]) -> str:
        """Return COMMAND if one started and ended since the last look, UNSURE if it may have been a helper of the agent, else NONE.

        `everything` is what /proc listed, `session` the living processes that are neither the agent nor its helpers.
        """
        last, self._last = self._last, self._now
        was_quiet, self._was_quiet = self._was_quiet, self._quiet(session)
        was_helped, self._was_helped = self._was_helped, self._helped()
        seen, self._seen = self._seen, self._take()
        executed = self._new_command(session)
        unknown = self._unknown(last, everything) if last and self._now not in (0, last) else []
        self._own = {number for number in self._own if number > self._now}
        if not unknown:
            return NONE
        traced = self._trace.recent()
        fresh = unknown[-1] > seen  # else all began during the last look: their parents may have run, or helped, before its end
        if self._was_helped or (was_helped and not fresh):
            return COMMAND if traced else NONE if self._trace.proven else UNSURE
        certain = self._was_quiet and (was_quiet or fresh)
        self._trace.proven = self._trace.proven or (traced and (certain or executed))
        burst = not self._trace.proven and _longest_row(unknown) >= BURST
        return COMMAND if certain or traced or burst else NONE

    def _take(self) -> int:
        now, own = self._children.numbers(lambda: last_number(self._proc))
        self._own |= own
        return now

    def _unknown(self, last: int, everything: list[Process]) -> list[int]:
        """Return the numbers assigned since the last look that nothing accounts for, in order. Zombies left to a runtime don't count."""
        if not 0 < self._now - last < MANY:
            return list(range(BURST))
        known = self._own.union(_threads(f"{self._proc}/{self._agent}/task"))
        for process in everything:
            if process.parent or process.state not in "ZX":
                known.update((process.pid, *process.threads))
        return [number for number in range(last + 1, self._now + 1) if number not in known]

    def _quiet(self, session: list[Process]) -> bool:
        """Return whether no process can have started another since the last look: none that existed before has run.

        Executed commands are exempt, being work themselves while they run. So are ended processes, which start nothing more.
        """
        before, self._ran = self._ran, {process.identity: process.ran for process in session}
        return all(
            process.ran > 0 and process.ran == before[process.identity] and process.state != "R"
            for process in session
            if process.identity in before and process.identity not in self._executed
        )

    def _new_command(self, session: list[Process]) -> bool:
        before, self._executed = self._executed, {process.identity for process in session if process.parent == 0}
        return not self._executed <= before

    def _helped(self) -> bool:
        """Return whether a helper of the agent may have started a process since the last look."""
        before, self._changes = self._changes, self._children.changes
        return before != self._changes or self._children.busy()


def _threads(folder: str) -> list[int]:
    try:
        return [int(name) for name in os.listdir(folder)]
    except OSError:
        return []


def _longest_row(numbers: Iterable[int]) -> int:
    longest, row, before = 0, 0, -1
    for number in numbers:
        row = row + 1 if number == before + 1 else 1
        longest, before = max(longest, row), number
    return longest
