"""Start processes as PID 1: one place reaps everything, and whoever started a process gets its status from there.

`subprocess` alone would not do: a reaper of orphans takes the statuses of its children too.
"""

from __future__ import annotations

import os
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from typing import Callable

RUNNING = -1


class Adopted:
    """A child of the agent that another of its children forked. Has what `Children` needs of a `subprocess.Popen`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode = RUNNING


class Children:
    """The processes that the agent started or adopted and has not yet waited for."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._statuses: dict[int, int] = {}
        self._numbers: set[int] = set()
        self._resting: set[int] = set()
        self.changes = 0
        """Grows when a process starts, ends, rests or stirs."""
        self.ending = False
        """Whether the agent is ending and has asked them all to end: how they end then is not their own doing."""

    def start(self, launch: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
        """Run `launch` and remember its process."""
        with self._changed:  # held during the start: a child that ends at once is not reaped before it is known
            self.changes += 1
            process = launch()
            self._statuses[process.pid] = RUNNING
            self._numbers.add(process.pid)
            return process

    def adopt(self, pid: int) -> Adopted:
        """Remember a process that was forked for the agent, and became its child when its parent ended. It must not have ended."""
        with self._changed:
            self.changes += 1
            self._statuses[pid] = RUNNING
            self._numbers.add(pid)
        return Adopted(pid)

    def forget(self, pid: int) -> None:
        """Forget an adopted process that ended before it had begun. Its status may have been taken before it was adopted."""
        with self._changed:
            self.changes += 1
            self._statuses.pop(pid, None)

    def thread(self, target: Callable[[], object], *, name: str) -> threading.Thread:
        """Start a thread that doesn't delay the agent's end. All the agent's threads start here: each takes a number of the namespace."""
        thread = threading.Thread(target=target, daemon=True, name=name)
        with self._changed:
            thread.start()
            self._numbers.add(thread.native_id or 0)
        return thread

    def numbers(self, read: Callable[[], int]) -> tuple[int, set[int]]:
        """Return what `read` returns while nothing is started, and the numbers of what was started or reaped since the last call."""
        with self._changed:
            found, self._numbers = self._numbers, set()
            return read(), found

    def wait(self, process: subprocess.Popen[bytes] | Adopted, *, seconds: float) -> bool:
        """Return whether the process ended within `seconds`. If so, `process.returncode` is set, negative for a signal."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._statuses.get(process.pid) != RUNNING, timeout=seconds):
                return False
            status = self._statuses.pop(process.pid, None)
            if status is not None:
                process.returncode = _exit_code(status)
            return True

    def running(self) -> list[int]:
        """Return the PIDs of processes started here that haven't ended."""
        with self._changed:
            return [pid for pid, status in self._statuses.items() if status == RUNNING]

    def mark_idle(self, pid: int) -> None:
        """Note that a process waits for the agent and starts nothing until `mark_active`."""
        with self._changed:
            if pid not in self._resting and self._statuses.get(pid) == RUNNING:
                self.changes += 1
                self._resting.add(pid)

    def mark_active(self, pid: int) -> None:
        """Note that a process works again."""
        with self._changed:
            self.changes += 1
            self._resting.discard(pid)

    def is_idle(self, pid: int) -> bool:
        """Return whether a process waits for the agent."""
        with self._changed:
            return pid in self._resting

    def busy(self) -> bool:
        """Return whether a process that was started here may start others now."""
        with self._changed:
            return any(status == RUNNING and pid not in self._resting for pid, status in self._statuses.items())

    def reap(self) -> None:
        """Take the statuses of all ended processes, including orphans adopted by PID 1."""
        while True:
            with self._changed:
                try:
                    pid, status = os.waitpid(-1, os.WNOHANG)
                except ChildProcessError:
                    return
                if pid == 0:
                    return
                self._numbers.add(pid)
                self._resting.discard(pid)
                if pid in self._statuses:
                    self._statuses[pid] = status
                    self.changes += 1
                    self._changed.notify_all()


def _exit_code(status: int) -> int:
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def last_number(proc: str = "/proc") -> int:
    """Return the last number assigned to a process or thread of this PID namespace; 0 if the kernel doesn't report it."""
    try:
        with open(f"{proc}/loadavg", "rb") as file:
            return int(file.read().split()[-1])
    except (OSError, ValueError, IndexError):
        return 0
