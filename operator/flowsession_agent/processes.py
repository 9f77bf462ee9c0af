"""What the processes of the session are doing, from /proc: someone's `kubectl exec`, or work that uses CPU."""

from __future__ import annotations

import os
import re
import time

from flowsession_agent import connections

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Iterator

WINDOW_SECONDS = 5
CPU_SHARE = 0.01
COMMAND_LENGTH = 100
LAUNCHER = re.compile(r"^\S*python[\d.]* -IS \S*/(?=flow\b)")
"""How the shebang line of the image's `flow` shows up; people typed `flow`."""


class Process:
    """The fields of /proc/PID/stat that tell work from waiting; `ticks` includes children that were waited for."""

    def __init__(self, *, pid: int, name: str, state: str, parent: int, ticks: int, started: int) -> None:
        self.pid = pid
        self.name = name
        self.state = state
        self.parent = parent
        self.ticks = ticks
        self.started = started


class Processes:
    """Compares the processes of now with those of some seconds ago.

    Where the agent is PID 1, a process without a parent in the namespace came from outside: `kubectl exec`, or a debug container. Where it
    isn't (a shared process namespace, an agent started by hand), only its own descendants are looked at.
    """

    def __init__(
        self,
        *,
        own: Callable[[], list[int]],
        proc: str = "/proc",
        agent: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        ticks_per_second: int | None = None,
    ) -> None:
        self._own = own
        self._proc = proc
        self._agent = os.getpid() if agent is None else agent
        self._clock = clock
        self._ticks_per_second = ticks_per_second or os.sysconf("SC_CLK_TCK")
        self._history: list[tuple[float, dict[tuple[int, int], int]]] = []

    def look(self) -> str:
        """What the session's processes are doing: `exec COMMAND`, `process COMMAND`, `server :PORT`, or empty when they only wait."""
        now = self._clock()
        own = self._own()
        relevant = self._relevant()
        own_family = _family(set(own), relevant)  # installs and tests count by themselves, and listing packages is no work
        found = [process for process in relevant if process.pid not in own_family]
        while len(self._history) > 1 and now - self._history[1][0] >= WINDOW_SECONDS:
            del self._history[0]
        work = self._executed(found) or self._computing(found, now) or connections.served(self._proc, [process.pid for process in found])
        self._history.append((now, {(process.pid, process.started): process.ticks for process in found}))
        return work

    def children(self) -> list[int]:
        """The PIDs of the agent's direct children that haven't ended."""
        return [process.pid for process in self._read() if process.parent == self._agent and process.state not in "ZX"]

    def _executed(self, found: list[Process]) -> str:
        if self._agent == 1:
            for process in found:
                if process.parent == 0:
                    return f"exec {self._command(process)}"
        return ""

    def _computing(self, found: list[Process], now: float) -> str:
        """The first process that used more than 1 % of a core over the last 5 seconds; one that wasn't there then started from nothing."""
        if not self._history:
            return ""
        then, before = self._history[0]
        allowed = CPU_SHARE * self._ticks_per_second * max(now - then, WINDOW_SECONDS)
        for process in found:
            if process.ticks - before.get((process.pid, process.started), 0) > allowed:
                return f"process {self._command(process)}"
        return ""

    def _relevant(self) -> list[Process]:
        alive = [process for process in self._read() if process.state not in "ZX" and process.pid != self._agent]
        if self._agent == 1:
            return alive
        family = _family({self._agent}, alive)
        return [process for process in alive if process.pid in family]

    def _read(self) -> Iterator[Process]:
        for name in os.listdir(self._proc):
            if name.isdigit():
                try:
                    with open(f"{self._proc}/{name}/stat", "rb") as file:
                        yield parse_stat(file.read())
                except (OSError, ValueError, IndexError):  # ended while we looked
                    continue

    def _command(self, process: Process) -> str:
        try:
            with open(f"{self._proc}/{process.pid}/cmdline", "rb") as file:
                words = file.read(4 * COMMAND_LENGTH).rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            words = ""
        words = LAUNCHER.sub("", words)
        printable = "".join(letter if letter.isprintable() else " " for letter in words)
        return (printable or f"[{process.name}]")[:COMMAND_LENGTH].strip()


def _family(roots: set[int], processes: list[Process]) -> set[int]:
    """`roots` and all their descendants among `processes`."""
    family, grown = set(roots), True
    while grown:
        children = {process.pid for process in processes if process.parent in family}
        grown = not children <= family
        family |= children
    return family


def parse_stat(line: bytes) -> Process:
    """One /proc/PID/stat (proc(5)); the name in parentheses may itself hold spaces and parentheses. Raises ValueError or IndexError."""
    before, _, after = line.rpartition(b")")
    pid, _, name = before.partition(b" (")
    fields = after.split()
    return Process(
        pid=int(pid),
        name=name.decode(errors="replace"),
        state=fields[0].decode(),
        parent=int(fields[1]),
        ticks=sum(int(field) for field in fields[11:15]),
        started=int(fields[19]),
    )
