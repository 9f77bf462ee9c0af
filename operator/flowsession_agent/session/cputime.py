"""One process in /proc: how much CPU time it used and wanted, and whether that counts as work."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    Identity = tuple[int, int]
    """PID and start time, since PIDs are reused."""

WINDOW_SECONDS = 5
CPU_SHARE = 0.01
QUIET_SECONDS = 2
"""Seconds that a working process may pause. One that uses 1 % of a core in ticks of a hundredth of a second pauses nearly this long."""
EXITING = 0x4
"""PF_EXITING of include/linux/sched.h, in the flags of /proc/PID/stat: the process runs no more code and is freeing its memory."""
MOST_WAITING = 0.8
"""Share of a period that may be discounted as waiting for a core: using less than 0.2 % of one is no work, however busy the node is."""


class Process:
    """The fields of /proc/PID/stat that tell work from waiting. `ticks` includes children that were waited for.

    `pages` are its memory. `ran` and `waited` are nanoseconds for which its `threads` had a core and waited for one, 0 if unknown.
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
        """Return what no other process has."""
        return self.pid, self.started


class Trace:
    """The CPU time of one process at each look of the last seconds, and when it last grew."""

    def __init__(self, *, since: float, ticks: int, waited: int, born: bool) -> None:
        self._samples = [(since, ticks, waited)]
        self._ran = 0
        self._born = born
        self.grew_at = since

    def add(self, now: float, process: Process) -> None:
        """Take in what was just read."""
        if process.ticks > self._samples[-1][1] or process.ran != self._ran or process.state == "R":
            self.grew_at = now
        self._ran = process.ran
        self._samples.append((now, process.ticks, process.waited))
        while len(self._samples) > 2 and now - self._samples[1][0] >= WINDOW_SECONDS:
            del self._samples[0]
            self._born = False

    def working(self, ticks_per_second: int) -> bool:
        """Return whether it used more than 1 % of a core over the last 5 seconds, or since its start, and did so until a moment ago.

        Time in which it waited for a core is discounted: slow work on a starved node is still work.
        """
        (then, before, waited_before), (now, ticks, waited) = self._samples[0], self._samples[-1]
        seconds = now - then if self._born else max(now - then, WINDOW_SECONDS)
        starved = min(max(0, waited - waited_before) / 1e9, MOST_WAITING * seconds)
        return ticks - before > CPU_SHARE * ticks_per_second * (seconds - starved) and now - self.grew_at <= QUIET_SECONDS


def parse_stat(line: bytes) -> Process:
    """Parse /proc/PID/stat (proc(5)). The name in parentheses may itself have spaces and parentheses. Raises ValueError, IndexError."""
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
    """Read a process's threads, and how long they had a core and waited for one (Documentation/scheduler/sched-stats)."""
    folder = f"{proc}/{process.pid}/task"
    try:
        for thread in os.listdir(folder):
            process.threads.append(int(thread))
            with open(f"{folder}/{thread}/schedstat", "rb") as file:
                fields = file.read().split()
            process.ran, process.waited = process.ran + int(fields[0]), process.waited + int(fields[1])
    except (OSError, ValueError, IndexError):  # ended while we looked, or a kernel without it
        return
