"""Keeps one process ready that has prompt flow imported, so that the next test or run doesn't wait for that. Each does one and ends.

Somebody who tests once tests again: the process is started when a test or run has ended, and ends after ten minutes without one. It doesn't
count as work, is never started during a test or run, and is ended when memory is short. A test or run that finds no process, or needs other
packages or another environment, runs in a new one, which takes an import longer and has the same result.
"""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import sys
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Iterator, Mapping, Sequence

    from flowsession_agent.server.state import State
    from flowsession_agent.session.children import Children
    from flowsession_agent.session.job import Job

    Key = tuple[str, Mapping[str, str]]
    """The session's Python and the environment variables that a process is started with."""

IDLE_SECONDS = 600
DELAY_SECONDS = 0.1
"""Seconds before a start, so that the test's caller has the response first."""
ENOUGH_BYTES = 512 * 1024 * 1024
"""Free memory without which none is started: it takes 150 MiB, and the session's own work should have more left than that."""
RESERVE_BYTES = 192 * 1024 * 1024
"""Free memory below which it is ended."""
IMPORT_SECONDS = 60
"""Seconds that a test waits for the import, which takes no longer than its own would. The limit is for a process that has stopped."""
ANSWER_SECONDS = 10
FOREVER = 10.0 * 365 * 24 * 3600


class Spare:
    """One process. `ready`: it waits for an order. `over`: it has ended by itself."""

    def __init__(self, key: Key, cwd: str, children: Children) -> None:
        """Start the process. Raises OSError if it can't be started."""
        from flowsession_agent.scripts import RUN_SPARE

        self.key = key
        self.ready = self.over = False
        self._children = children
        self._received = b""
        self._job = _job(key, cwd, children)
        self._socket, theirs = socket.socketpair()
        with theirs:
            arguments = [str(theirs.fileno()), str(time.time_ns())]
            self._pid = self._job.begin([key[0], "-c", RUN_SPARE, *arguments], inherited=[theirs.fileno()])

    def look(self) -> None:
        """Update `ready` and `over`."""
        from flowsession_agent.session.run_spare import READY

        if self.ready:
            self._receive(READY, seconds=0)  # detects only its end
        elif not self.over and self._receive(READY, seconds=0):
            self.ready = True
            self._children.mark_idle(self._pid)

    def order(self, module: str, arguments: Sequence[str], *, cwd: str) -> Job | None:
        """Return the job that runs the module from now on; None if a new process must, and then this one has ended."""
        from flowsession_agent.session.run_spare import FRESH, GO, READY

        self._children.mark_active(self._pid)
        with contextlib.suppress(OSError):  # it was killed
            self._socket.sendall(json.dumps({"module": module, "arguments": list(arguments), "cwd": cwd}).encode() + b"\n")
            if (self.ready or self._receive(READY, seconds=IMPORT_SECONDS)) and self._receive(FRESH, seconds=ANSWER_SECONDS):
                self._socket.sendall(GO)
                self._socket.close()
                return self._job
        self.end()
        return None

    def end(self) -> None:
        """Kill it and whatever it started."""
        self._socket.close()
        self._job.kill()
        self._job.finish()

    def _receive(self, word: bytes, *, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not self._received.startswith(word):
            self._socket.settimeout(max(0.0, deadline - time.monotonic()))
            try:
                data = self._socket.recv(64)
            except (BlockingIOError, socket.timeout):
                return False
            except OSError:
                data = b""
            if not data:
                self.over = True
                return False
            self._received += data
        self._received = self._received[len(word) :]
        self._socket.settimeout(None)
        return True


class Spares:
    """At most one process at a time, from its start until a test or run takes it."""

    def __init__(
        self,
        *,
        state: State,
        children: Children,
        environment: Callable[[], Key],
        start: Callable[[Key], Spare],
        free_memory: Callable[[], int],
        roomy: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`environment` returns what a test would be started with now, `start` starts a process, `free_memory` returns bytes.

        `roomy` returns whether the disks have room for more than the session's work.
        """
        self._state, self._children = state, children
        self._environment, self._start, self._clock = environment, start, clock
        self._free_memory, self._roomy = free_memory, roomy
        self._lock = threading.Lock()
        self._spare: Spare | None = None
        self._works = 0
        self._worked_at: float | None = None
        self._tried: Key | None = None

    @contextlib.contextmanager
    def work(self) -> Iterator[None]:
        """Note that a test or run is in progress during the block. When none is any more, start a process for the next one."""
        with self._lock:
            self._works += 1
        try:
            yield
        finally:
            with self._lock:
                self._works -= 1
                self._worked_at, self._tried = self._clock(), None
            with contextlib.suppress(RuntimeError):  # no thread can be started: the process is started a little later
                self._children.thread(self._keep_soon, name="spare")

    def lend(self, key: Key, module: str, arguments: Sequence[str], *, cwd: str) -> Job | None:
        """Return the job in which `module` has begun to run, without a deadline; None if it must run in a new process."""
        with self._lock:
            spare, self._spare = self._spare, None
        if spare is None:
            return None
        if spare.key == key:
            spare.look()
            _tell_of_a_kill(spare)
            return spare.order(module, arguments, cwd=cwd)
        spare.end()
        return None

    def begin_anew(self, key: Key, program: str, arguments: Sequence[str], *, cwd: str) -> Job:
        """Return the job in which a program has begun to run in a new process, without a deadline. Raises OSError."""
        job = _job(key, cwd, self._children)
        job.begin([key[0], "-c", program, *arguments])
        return job

    def keep_spare(self) -> None:
        """Start or end the process as conditions require. Called every second. Raises OSError if it can't be started."""
        with self._lock:
            if self._worked_at is None:
                return
            idle = self._clock() - self._worked_at >= IDLE_SECONDS
            if self._spare is None and idle:
                return
            key = self._environment()
            if self._spare is not None:
                self._look(self._spare, key, idle=idle)
            if self._spare is None and not idle and self._wanted(key):
                self._tried = key
                self._spare = self._start(key)

    def _keep_soon(self) -> None:
        time.sleep(DELAY_SECONDS)
        with contextlib.suppress(OSError):  # the next call reports it
            self.keep_spare()

    def _look(self, spare: Spare, key: Key, *, idle: bool) -> None:
        spare.look()
        _tell_of_a_kill(spare)
        if spare.over or idle or spare.key != key or self._free_memory() < RESERVE_BYTES or not self._roomy():
            self._spare = None
            spare.end()

    def _wanted(self, key: Key) -> bool:
        """Return whether to start one: not during a test, run, install or check; once after each test or run, or change of the key."""
        state = self._state
        return (
            not self._works
            and key != self._tried
            and not state.retired
            and state.install.state not in ("None", "Running")
            and state.check.state == "Done"
            and self._free_memory() >= ENOUGH_BYTES
            and self._roomy()
        )


def _job(key: Key, cwd: str, children: Children) -> Job:
    """Return a job without a deadline, which SIGINT interrupts, as prompt flow expects."""
    from flowsession_agent.session.job import Job

    return Job(children, environ=key[1], cwd=cwd, seconds=FOREVER, end_by=signal.SIGINT)


def _tell_of_a_kill(spare: Spare) -> None:
    """Log that a process was killed while it waited. If it was killed for memory, the session has an Event too."""
    if spare.ready and spare.over:
        message = "the process kept ready for the next flow test or run was killed: that imports prompt flow itself, and takes longer"
        print(f"flowsession agent: {message}", file=sys.stderr, flush=True)


def free_memory() -> int:
    """Return the bytes that the session may still take; sys.maxsize if it has no limit."""
    from flowsession_agent.session import cgroup

    free = cgroup.free_memory()
    return sys.maxsize if free is None else free
