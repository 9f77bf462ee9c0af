"""Find the commands that came and went between two looks, by the numbers that processes were given meanwhile.

A pid namespace numbers its processes and threads one after the other, and /proc/loadavg ends with the last number given. A number that no
process of the session, living or just ended, can account for was somebody's `kubectl exec`.
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
"""So many numbers in a row, at least, runc takes for one command: its own process, which becomes the command, and the threads of that."""
MANY = 10_000
"""Who starts so many processes between two looks needs no further proof; and after the highest number they begin anew."""

NONE, UNSURE, COMMAND = "none", "unsure", "command"


class Pids:
    """`begin` before /proc is read, `judge` after it, at each look.

    Who forks has run. So while nobody that was there before has run, each unknown number is a command's. Where somebody has, the runtime's
    trace decides; and where there is none to be had, whether there are as many numbers in a row as runc takes.

    `first` is the number given last when the agent began, 0 where that isn't known: what comes before the first look counts too.
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
        """Take the last number given."""
        self._now = self._take()

    def judge(self, everything: list[Process], session: list[Process]) -> str:
        """COMMAND: one came and went since the last look. UNSURE: perhaps, or it was a helper of the agent's.

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
        fresh = unknown[-1] > seen  # else all came while the last look read: who started them may have run, or helped, before it was over
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
        """The numbers given since the last look that belong to nobody, in order. An ended command that its runtime will reap is nobody."""
        if not 0 < self._now - last < MANY:
            return list(range(BURST))
        known = self._own.union(_threads(f"{self._proc}/{self._agent}/task"))
        for process in everything:
            if process.parent or process.state not in "ZX":
                known.update((process.pid, *process.threads))
        return [number for number in range(last + 1, self._now + 1) if number not in known]

    def _quiet(self, session: list[Process]) -> bool:
        """Return whether nobody can have started anything since the last look: of those that were there before, nobody has run.

        But for executed commands, which are work themselves while they run; and but for those that are gone: who ends starts nothing more.
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
        """Return whether a helper of the agent's may have started something since the last look."""
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
