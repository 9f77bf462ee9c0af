"""Which processes of the session the kernel killed for memory: it counts them for the container, and says nowhere which they were."""

from __future__ import annotations

import os

from flowsession_agent.session import cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from flowsession_agent.session.cputime import Identity, Process

LARGE_PAGES = 4096
"""16 MiB: the command line of what is larger is remembered, because it can't be read any more once the process is gone."""
EVERY = 4
"""So many looks lie between two readings of the kernel's count while nothing is gone."""
UNKNOWN = "a process"


class MemoryKills:
    """`look` is told what lives, at each look. `name` of the largest that is gone since the look before the kernel counted one more."""

    def __init__(self, *, command: Callable[[Process], str], count: Callable[[], int] = cgroup.killed_for_memory) -> None:
        self._command = command
        self._count = count
        self._counted = count()
        self._mark = os.urandom(4).hex()
        self._alive: dict[Identity, Process] = {}
        self._commands: dict[Identity, str] = {}
        self._looks = 0
        self.total = 0
        self.name = ""

    def look(self, alive: list[Process]) -> bool:
        """Take in what lives now; returns whether one more was killed."""
        before, self._alive = self._alive, {process.identity: process for process in alive}
        for identity, process in self._alive.items():
            if process.pages >= LARGE_PAGES and identity not in self._commands:
                self._commands[identity] = self._command(process)
        gone = [process for identity, process in before.items() if identity not in self._alive]
        self._looks += 1
        killed = self._killed() if gone or self._looks % EVERY == 0 else 0
        if killed:
            self.total += killed
            largest = max(gone, key=lambda process: process.pages, default=None)
            self.name = self._commands.get(largest.identity, largest.name) if largest else UNKNOWN
        self._commands = {identity: command for identity, command in self._commands.items() if identity in self._alive}
        return killed > 0

    def members(self) -> dict[str, Any]:
        """The object under `memoryKill` in the protocol; empty before the first."""
        return {"id": f"{self._mark}-{self.total}", "process": self.name} if self.total else {}

    def _killed(self) -> int:
        before, self._counted = self._counted, self._count()
        return max(0, self._counted - before)
