"""Keeps one process that has prompt flow imported and forks for each test, run and check of the flow, so that only the first of them waits.

It is started for the first of them, and ends after ten minutes without any. It runs nothing of the flow itself, doesn't count as work, and
is ended when memory is short. What finds no such process, or needs another environment, runs in a new process, which has the same result.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Mapping, Sequence

    from flowsession_agent.server.state import State
    from flowsession_agent.session.children import Adopted, Children
    from flowsession_agent.session.job import Job

    Key = tuple[str, Mapping[str, str]]
    """The session's Python and the environment variables that a process is started with."""

IDLE_SECONDS = 600
ENOUGH_BYTES = 512 * 1024 * 1024
"""Free memory without which none is started: it takes 150 MiB, and the session's own work should have more left than that."""
RESERVE_BYTES = 192 * 1024 * 1024
"""Free memory below which it is ended."""
IMPORT_SECONDS = 600
"""Seconds that a test waits for the import, which takes no longer than its own would. The limit is for a process that has stopped."""
ANSWER_SECONDS = 10
FOREVER = 10.0 * 365 * 24 * 3600


class _RefusedError(Exception):
    """A new process must run the order, for what concerns this order alone."""


class Runner:
    """One process.

    `ready`: it has imported prompt flow. `over`: it has ended. `killed`: it has ended while it waited, which it does not by itself.
    `unfit`: prompt flow can't be imported here, or forks of it would not be as new processes.
    """

    def __init__(self, key: Key, cwd: str, children: Children) -> None:
        """Start the process. Raises OSError if it can't be started."""
        from flowsession_agent.scripts import RUN_FORKS

        self.key = key
        self.ready = self.over = self.killed = self.unfit = False
        self._children = children
        self._lock = threading.Lock()
        self._job = new_job(key, cwd, children)
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._pid = self._job.begin([key[0], "-c", RUN_FORKS, str(theirs.fileno()), str(time.time_ns())], inherited=[theirs.fileno()])

    def look(self) -> None:
        """Update `ready` and `over`. Does nothing while it forks."""
        if self._lock.acquire(blocking=False):
            try:
                with contextlib.suppress(OSError):  # ended meanwhile by who found it unusable
                    self._wait_until_ready(seconds=0)
            finally:
                self._lock.release()

    def fork(self, job: Job, module: str, arguments: Sequence[str]) -> bool:
        """Begin `module` as the job's next command. Return False if a new process must run it. If it is not as one, this one is over."""
        order = {"module": module, "arguments": list(arguments)}
        try:
            with self._lock:
                if self._wait_until_ready(seconds=IMPORT_SECONDS) and job.begin_forked(
                    lambda environ, cwd, streams: self._order({**order, "environ": dict(environ), "cwd": cwd}, streams)
                ):
                    return True
        except OSError:  # it was killed
            pass
        except _RefusedError:
            return False
        self.end()
        return False

    def end(self) -> None:
        """Kill it. What it forked runs on."""
        self._socket.close()
        self._job.kill()
        ended = self._job.finish()
        self.unfit = self.unfit or (ended.exit_code == 1 and not self.ready)
        self.over = True

    def _order(self, order: dict[str, object], streams: list[int]) -> Adopted | None:
        """Return the process that has begun; None if none has. Raises _RefusedError and OSError."""
        from flowsession_agent.session.run_forks import BEGUN, GO, REFUSED, UNFIT, read_line

        ours, theirs = socket.socketpair()
        self._children.mark_active(self._pid)
        with ours:
            with theirs:
                socket.send_fds(self._socket, [b"+"], [*streams, theirs.fileno()])
                self._socket.sendall(json.dumps(order).encode() + b"\n")
            ours.settimeout(ANSWER_SECONDS)
            answer = read_line(ours)
            if answer == REFUSED:
                self._children.mark_idle(self._pid)
                raise _RefusedError
            pid, _, parent = answer.partition(b" ")
            self.unfit = answer == UNFIT or int(parent or 0) not in (0, os.getpid())
            if self.unfit or not parent:
                return None
            process = self._children.adopt(int(pid))
            with contextlib.suppress(OSError):
                ours.sendall(GO)
                if read_line(ours) == BEGUN:
                    self._children.mark_idle(self._pid)
                    return process
            self._children.forget(process.pid)
            return None

    def _wait_until_ready(self, *, seconds: float) -> bool:
        """Return whether it is ready and lives, after at most `seconds`."""
        from flowsession_agent.session.run_forks import READY

        self._socket.settimeout(0 if self.ready else seconds)
        try:
            data = self._socket.recv(len(READY))
        except (BlockingIOError, socket.timeout):
            return self.ready
        except OSError:
            data = b""
        finally:
            self._socket.settimeout(None)
        if data == READY:
            self.ready = True
            self._children.mark_idle(self._pid)
            return True
        self.over, self.killed = True, self.ready
        return False


class Runners:
    """At most one process at a time."""

    def __init__(
        self,
        *,
        state: State,
        environment: Callable[[], Key],
        start: Callable[[Key], Runner],
        free_memory: Callable[[], int],
        roomy: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`environment` returns what a test would be started with now, `start` starts a process, `free_memory` returns bytes.

        `roomy` returns whether the disks have room for more than the session's work.
        """
        self._state = state
        self._environment, self._start, self._clock = environment, start, clock
        self._free_memory, self._roomy = free_memory, roomy
        self._lock = threading.Lock()
        self._runner: Runner | None = None
        self._used_at = 0.0
        self._unfit: Key | None = None
        """With it, prompt flow can't be imported, or can't be forked."""

    def lend(self, job: Job, module: str, arguments: Sequence[str], *, key: Key | None = None) -> bool:
        """Begin `module` as the job's next command. Return False if it must run in a new process.

        `key`: with what a new one would be started; None for a check, which has a few environment variables more than a test.
        """
        for _ in range(2):  # one that is no longer as a new one would be is followed by another
            runner = self._take(key)
            if runner is None:
                return False
            if runner.fork(job, module, arguments):
                return True
            if not runner.over:
                return False
            self._drop(runner)
            if runner.unfit or not runner.ready:
                return False
        return False

    def end_unneeded(self) -> None:
        """End the process if it is no longer needed, or its memory is needed. Called every second."""
        with self._lock:
            runner = self._runner
            if runner is None:
                return
            runner.look()
            _tell_of_a_kill(runner)
            idle = self._clock() - self._used_at >= IDLE_SECONDS
            if runner.over or idle or runner.key != self._environment() or self._free_memory() < RESERVE_BYTES or not self._roomy():
                self._runner = None
                runner.end()

    def _take(self, key: Key | None) -> Runner | None:
        """Return the process, started if there is none yet; None if there is no room, or `key` is not the session's own."""
        with self._lock:
            own = self._environment()
            if key not in (None, own):  # a run of another environment's flow
                return None
            if self._runner is not None and self._runner.key != own:  # the packages before
                self._runner.end()
                self._runner = None
            if self._runner is None and own != self._unfit and self._welcome():
                with contextlib.suppress(OSError):  # a new process of the caller's can't be started either, and the caller says so
                    self._runner = self._start(own)
            self._used_at = self._clock()
            return self._runner

    def _drop(self, runner: Runner) -> None:
        with self._lock:
            if runner.unfit:
                self._unfit = runner.key
            if self._runner is runner:
                self._runner = None
        _tell_of_a_kill(runner)

    def _welcome(self) -> bool:
        state = self._state
        return (
            not state.retired and state.install.state not in ("None", "Running") and self._free_memory() >= ENOUGH_BYTES and self._roomy()
        )


def new_job(key: Key, cwd: str, children: Children) -> Job:
    """Return a job without a deadline, which SIGINT interrupts, as prompt flow expects."""
    from flowsession_agent.session.job import Job

    return Job(children, environ=key[1], cwd=cwd, seconds=FOREVER, end_by=signal.SIGINT)


def _tell_of_a_kill(runner: Runner) -> None:
    """Log that a process was killed while it waited. If it was killed for memory, the session has an Event too."""
    if runner.killed:
        message = "the process kept ready for the next flow test or run was killed: that imports prompt flow itself, and takes longer"
        print(f"flowsession agent: {message}", file=sys.stderr, flush=True)


def free_memory() -> int:
    """Return the bytes that the session may still take; sys.maxsize if it has no limit."""
    from flowsession_agent.session import cgroup

    free = cgroup.free_memory()
    return sys.maxsize if free is None else free
