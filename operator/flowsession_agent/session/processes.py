"""Find what the session's processes are doing, from /proc: somebody's `kubectl exec`, or work that uses CPU."""

from __future__ import annotations

import os
import re
import time

from flowsession_agent.session import connections
from flowsession_agent.session.cputime import Trace, parse_stat, read_threads
from flowsession_agent.session.exec_trace import ExecTrace
from flowsession_agent.session.memory_kills import HELPER, RUNNER, MemoryKills
from flowsession_agent.session.pids import COMMAND, NONE, Pids
from flowsession_agent.session.terminals import Terminal
from flowsession_protocol.variables import CALL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Iterator

    from flowsession_agent.session.children import Children
    from flowsession_agent.session.cputime import Identity, Process

    Kind = tuple[str, Identity]
    """One thing that works: an executed command, a computing process, a server."""

COMMAND_LENGTH = 100
SHORT_COMMAND = "exec (a short command)"
RUNTIME = re.compile(r"(?:\S*/)?(?:runc|crun|youki|exe|fd/\d+) init\Z")
"""The command line of the runtime's own process until it becomes the executed command."""

LAUNCHER = re.compile(rf"^(?:env {CALL}=\w* |\S*python[\d.]* -IS \S*/(?=flow\b))")
"""How `kubectl flow` begins a command (hang_up.py), and what the shebang line of the image's `flow` adds. People typed the rest."""


class ProcessActivity:
    """What processes are doing `now` (empty: they only wait), and `what` they did last (empty: unknown).

    `at` is the time at which they last did something (0: never). It may be a little before a look that finds a process at work: between
    two growths of its CPU time.
    """

    def __init__(self, *, now: str = "", what: str = "", at: float = 0.0) -> None:
        self.now = now
        self.what = what
        self.at = at


class Processes:
    """Compares the current processes with those of some seconds ago.

    If the agent is PID 1, a process without a parent in the namespace came from outside: `kubectl exec`, or a debug container. If it isn't
    (a shared process namespace, an agent started by hand), only its own descendants are looked at. `first` is the last number assigned to
    a process or thread when the agent began.
    """

    def __init__(
        self,
        *,
        children: Children,
        trace: ExecTrace | None = None,
        first: int = 0,
        proc: str = "/proc",
        agent: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        ticks_per_second: int | None = None,
    ) -> None:
        self._children = children
        self._proc = proc
        self._agent = os.getpid() if agent is None else agent
        trace = trace or ExecTrace(None)
        self._pids = Pids(proc=proc, agent=self._agent, children=children, trace=trace, first=first) if self._agent == 1 else None
        self._clock = clock
        self._ticks_per_second = ticks_per_second or os.sysconf("SC_CLK_TCK")
        self._looked_at: float | None = None
        self._traces: dict[Identity, Trace] = {}
        self._terminals: dict[Identity, Terminal] = {}
        self._working: dict[Kind, str] = {}
        self._last = ProcessActivity()
        self._helpers: set[int] = set()
        self.kills = MemoryKills(command=self._name)
        self._kills = False

    def newly_killed(self) -> bool:
        """Return whether any process was killed for memory since the last call."""
        newly, self._kills = self._kills, False
        return newly

    def look(self) -> ProcessActivity:
        """Return what the session's processes are doing: `exec COMMAND`, `process COMMAND`, `server :PORT`.

        A process that is gone since the last look may have worked until now. One that still exists worked until its CPU time was last
        seen to grow, so its next sleep doesn't count as work for the five seconds that it takes to judge it.
        """
        own = self._children.running()
        if self._pids is not None:
            self._pids.begin()
        everything = list(self._read())
        relevant = self._relevant(everything)
        own += self._children.running()  # processes started meanwhile are the agent's own too
        now = self._clock()  # after reading: what was seen happened before this time
        self._trace(relevant, now)
        own_family = self._helpers = _family(set(own), relevant)  # installs and tests count separately, and listing packages is no work
        found = [process for process in relevant if process.pid not in own_family]
        working = {**self._executed(found, now), **self._computing(found)}
        if server := connections.served(self._proc, [process.pid for process in found]):
            working["server", (0, 0)] = server
        self._conclude(working, now)
        self._kills = self.kills.look(relevant) or self._kills
        self._count_short_commands(everything, found, now)
        return self._last

    def children(self) -> list[int]:
        """Return the PIDs of the agent's direct children that haven't ended."""
        return [process.pid for process in self._read() if process.parent == self._agent and process.state not in "ZX"]

    def _conclude(self, working: dict[Kind, str], now: float) -> None:
        at = max((self._until(kind, now) for kind in {**self._working, **working}), default=0.0)
        if at > self._last.at:
            what = next(iter(working.values()), "") or next(iter(self._working.values()))
            self._last = ProcessActivity(what=what, at=at)
        self._working = working
        what = next(iter(working.values()), "")
        self._last = ProcessActivity(now=what, what=what or self._last.what, at=self._last.at)

    def _count_short_commands(self, everything: list[Process], found: list[Process], now: float) -> None:
        verdict = NONE if self._pids is None else self._pids.classify(everything, found)
        if verdict != NONE:
            what = self._last.now or (SHORT_COMMAND if verdict == COMMAND else "")
            self._last = ProcessActivity(now=self._last.now, what=what, at=now)

    def _until(self, kind: Kind, now: float) -> float:
        """Return until when something worked that works now or did at the last look. If it is gone, it may have worked until now."""
        name, identity = kind
        return self._traces[identity].grew_at if name == "process" and identity in self._traces else now

    def _trace(self, relevant: list[Process], now: float) -> None:
        """Take in what was read. A process that is new since the last look began with a CPU time of 0."""
        traces = {}
        for process in relevant:
            read_threads(self._proc, process)
            trace = self._traces.get(process.identity)
            if trace is None:
                first = self._looked_at is None
                ticks, waited = (process.ticks, process.waited) if first else (0, 0)
                trace = Trace(since=self._looked_at or now, ticks=ticks, waited=waited, born=not first)
            trace.add(now, process)
            traces[process.identity] = trace
        self._traces, self._looked_at = traces, now

    def _executed(self, found: list[Process], now: float) -> dict[Kind, str]:
        if self._agent != 1:
            return {}
        executed = [process for process in found if process.parent == 0]
        self._terminals = {process.identity: self._terminals.get(process.identity) or Terminal(now=now) for process in executed}
        return {
            ("exec", process.identity): self._executed_as(process)
            for process in executed
            if self._terminals[process.identity].attended(self._proc, _family({process.pid}, found), now=now)
        }

    def _executed_as(self, process: Process) -> str:
        command = self._command(process)
        return SHORT_COMMAND if RUNTIME.match(command) else f"exec {command}"

    def _computing(self, found: list[Process]) -> dict[Kind, str]:
        return {
            ("process", process.identity): f"process {self._command(process)}"
            for process in found
            if self._traces[process.identity].working(self._ticks_per_second)
        }

    def _relevant(self, everything: list[Process]) -> list[Process]:
        alive = [process for process in everything if process.state not in "ZX" and process.pid != self._agent]
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

    def _name(self, process: Process) -> str:
        if process.pid in self._helpers:
            return RUNNER if self._children.is_idle(process.pid) else HELPER
        return self._command(process)

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
    """Return `roots` and all their descendants among `processes`."""
    family, grown = set(roots), True
    while grown:
        children = {process.pid for process in processes if process.parent in family}
        grown = not children <= family
        family |= children
    return family
