"""One process in /proc: how much CPU time it used and wanted, and whether that makes it work."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    Identity = tuple[int, int]
    """PID and time of birth: numbers are used again."""

WINDOW_SECONDS = 5
CPU_SHARE = 0.01
QUIET_SECONDS = 2
"""So long may a process pause that is at work: one that uses 1 % of a core a hundredth of a second at a time does nearly so."""
EXITING = 0x4
"""PF_EXITING of include/linux/sched.h, in the flags of /proc/PID/stat: it runs no code any more, and gives its memory back."""
MOST_WAITING = 0.8
"""The share of a time that may be set aside as waiting for a core: what uses less than 0.2 % of one is no work however busy the node is."""


class Process:
    """The fields of /proc/PID/stat that tell work from waiting; `ticks` includes children that were waited for.

    `pages` are its memory; `ran` and `waited` are nanoseconds that its `threads` had a core and wanted one, 0 where the kernel doesn't say.
    """

    def __init__(self, *, pid: int, name: str, state: str, parent: int, ticks: int, started: int) -> None:
        self.pid = pid
        self.name = name
        self.state = state
        self.parent = parent
        self.ticks = ticks
        self.started = started
        self.ran = 0
        self.waited = 0
        self.threads: list[int] = []
        self.pages = 0
        self.exiting = False

    @property
    def identity(self) -> Identity:
        """What no other process has."""
        return self.pid, self.started


class Trace:
    """What is remembered of one process: its CPU time at each look of the last seconds, and when that last grew."""

    def __init__(self, *, since: float, ticks: int, waited: int, born: bool) -> None:
        self._samples = [(since, ticks, waited)]
        self._ran = 0
        self._born = born
        self.grew_at = since

    def add(self, now: float, process: Process) -> None:
        """Takes in what was just read."""
        if process.ticks > self._samples[-1][1] or process.ran != self._ran or process.state == "R":
            self.grew_at = now
        self._ran = process.ran
        self._samples.append((now, process.ticks, process.waited))
        while len(self._samples) > 2 and now - self._samples[1][0] >= WINDOW_SECONDS:
            del self._samples[0]
            self._born = False

    def working(self, ticks_per_second: int) -> bool:
        """Return whether it used more than 1 % of a core over the last 5 seconds, or since its birth; and did so until a moment ago.

        Time in which it wanted a core and got none is set aside: on a starved node work goes slowly, and is work.
        """
        (then, before, waited_before), (now, ticks, waited) = self._samples[0], self._samples[-1]
        seconds = now - then if self._born else max(now - then, WINDOW_SECONDS)
        starved = min(max(0, waited - waited_before) / 1e9, MOST_WAITING * seconds)
        return ticks - before > CPU_SHARE * ticks_per_second * (seconds - starved) and now - self.grew_at <= QUIET_SECONDS


def parse_stat(line: bytes) -> Process:
    """One /proc/PID/stat (proc(5)); the name in parentheses may itself hold spaces and parentheses. Raises ValueError or IndexError."""
    before, _, after = line.rpartition(b")")
    pid, _, name = before.partition(b" (")
    fields = after.split()
    process = Process(
        pid=int(pid),
        name=name.decode(errors="replace"),
        state=fields[0].decode(),
        parent=int(fields[1]),
        ticks=sum(int(field) for field in fields[11:15]),
        started=int(fields[19]),
    )
    process.exiting = bool(int(fields[6]) & EXITING)
    process.pages = int(fields[21])
    return process


def read_threads(proc: str, process: Process) -> None:
    """The threads of a process, and how long they had a core and waited for one (Documentation/scheduler/sched-stats)."""
    folder = f"{proc}/{process.pid}/task"
    try:
        for thread in os.listdir(folder):
            process.threads.append(int(thread))
            with open(f"{folder}/{thread}/schedstat", "rb") as file:
                fields = file.read().split()
            process.ran, process.waited = process.ran + int(fields[0]), process.waited + int(fields[1])
    except (OSError, ValueError, IndexError):  # ended while we looked, or a kernel without it
        return
