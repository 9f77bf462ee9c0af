"""Find which processes of the session the kernel killed for memory: it counts them per container and doesn't name them."""

from __future__ import annotations

import os

from flowsession_agent.session import cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from flowsession_agent.session.cputime import Identity, Process
    from flowsession_protocol.messages import MemoryKill

LARGE_PAGES = 4096
"""Pages (16 MiB) from which on a process's command line is remembered, since it can't be read once the process is gone."""
EVERY = 4
"""Looks from one reading of the kernel's count to the next while no process ends."""
PATIENCE = 4
"""Looks for which to wait for the end of a counted process, which takes time while the container's memory is full."""
UNKNOWN = "a process"
HELPER = "a test, check or install of the flow"
RUNNER = "the process kept ready for the next flow test"
"""It is a HELPER while it imports prompt flow and while it forks."""


class Seen:
    """What is remembered of a process: its name or command, and the most memory seen, in pages."""

    def __init__(self, name: str, pages: int) -> None:
        self.name = name
        self.pages = pages


class MemoryKills:
    """Call `look` with the living processes at each look. The kernel kills the largest process, and counts it before it is gone.

    So the process named is the largest that ends while or shortly after the count grows. While a larger one lives, that one may still be
    ending.
    """

    def __init__(self, *, command: Callable[[Process], str], count: Callable[[], int] = cgroup.killed_for_memory) -> None:
        self._command = command
        self._count = count
        self._counted = count()
        self._mark = os.urandom(4).hex()
        self._alive: dict[Identity, Seen] = {}
        self._commands: set[Identity] = set()
        self._suspects: list[Seen] = []
        self._pending = self._patience = 0
        self._looks = 0
        self._total = 0
        self._name = ""

    @property
    def id(self) -> str:
        """Return the ID of the last kill; empty before the first."""
        return f"{self._mark}-{self._total}" if self._total else ""

    def look(self, alive: list[Process]) -> bool:
        """Take in the living processes. Return whether there is a new kill to report."""
        alive = [process for process in alive if not process.exiting]
        gone = self._take_in(alive)
        self._looks += 1
        if gone or self._pending or self._looks % EVERY == 0:
            before, self._counted = self._counted, self._count()
            self._pending += max(0, self._counted - before)
        self._suspects = gone if not self._patience else self._suspects + gone
        if not self._pending:
            return False
        largest = max(self._suspects, key=lambda seen: seen.pages, default=None)
        self._patience += 1
        if self._patience < PATIENCE and (largest is None or any(process.pages > largest.pages for process in alive)):
            return False
        self._total += self._pending
        self._name = largest.name if largest else UNKNOWN
        self._pending = self._patience = 0
        return True

    def members(self) -> MemoryKill:
        """Return the object under `memoryKill` in the protocol."""
        return {"id": self.id, "process": self._name}

    def _take_in(self, alive: list[Process]) -> list[Seen]:
        """Remember the living processes. Return those that are gone."""
        before, self._alive = self._alive, {}
        for process in alive:
            seen = before.pop(process.identity, Seen(process.name, 0))
            self._alive[process.identity] = seen
            seen.pages = max(seen.pages, process.pages)
            if process.pages >= LARGE_PAGES and (process.identity not in self._commands or seen.name in (HELPER, RUNNER)):
                seen.name = self._command(process)
                self._commands.add(process.identity)
        self._commands &= self._alive.keys()
        return list(before.values())
