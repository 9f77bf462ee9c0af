"""Keeps a process that has prompt flow imported and forks for each test, so that a test doesn't wait for the import.

It is started when a session with a flow is settled and has memory to spare, started anew when packages or connections change, and ended
after ten idle minutes or when memory is short. It is no work. Who can't be served by it runs the flow in a process of its own.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time

from flowsession_agent.errors import ApiError
from flowsession_agent.session.job import MARK, TERMINATE_SECONDS, Outcome, Tail, kill_marked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Mapping, Sequence

    from flowsession_agent.server.state import State
    from flowsession_agent.session.activity import Activity
    from flowsession_agent.session.children import Children

    Key = tuple[object, ...]

IDLE_SECONDS = 600
ENOUGH_BYTES = 512 * 1024 * 1024
"""Free memory without which no runner is started: it takes 150 MiB, and the tests should have some left."""
RESERVE_BYTES = 192 * 1024 * 1024
"""Free memory below which an idle runner is ended."""


class Runner:
    """At most one process, and at most one test in it."""

    def __init__(self, *, state: State, activity: Activity, children: Children, flow: str, key: Callable[[], Key]) -> None:
        """`flow` is the flow folder; `key` returns what a test depends on beside files, as `key_of` makes it."""
        self._state, self._activity, self._children, self._key = state, activity, children, key
        self._flow = flow
        self._lock = threading.Lock()
        self._testing = False
        self._process: _Process | None = None
        self._failed: Key | None = None

    def keep(self) -> None:
        """Start, renew or end the process as things are now; called every second. Raises OSError when it can't be started."""
        with self._lock:
            if not self._testing:
                self._keep()

    def run(self, arguments: Sequence[str], *, cwd: str, seconds: float) -> Outcome | None:
        """Run the test `arguments` in a fork; None where it can't be done here, and hasn't begun."""
        with self._lock:
            process = self._process
            if self._testing or process is None or process.key != self._key() or not process.ready:
                return None
            self._testing = True
        try:
            return process.test(arguments, cwd=cwd, seconds=seconds)
        finally:
            with self._lock:
                self._testing = False
                if process.over:
                    self._end()

    def _keep(self) -> None:
        wanted = self._wanted()
        key = self._key() if wanted else ()
        process = self._process
        if process is not None:
            process.look()
            if process.over and not process.ready:
                self._failed = process.key  # it would come to the same
            if process.over or process.key != key or _free_memory() < RESERVE_BYTES:
                self._end()
        if wanted and self._process is None and key != self._failed and _free_memory() >= ENOUGH_BYTES:
            self._process = _Process(key, self._children)

    def _wanted(self) -> bool:
        from flowsession_agent.session.flow_test import find_flow

        state, activity = self._state, self._activity.members()
        if state.retired or state.install.state in ("None", "Running") or state.check.state != "Done":
            return False
        if not activity["busy"] and activity["idleSeconds"] >= IDLE_SECONDS:
            return False
        try:
            find_flow(self._flow)
        except ApiError:
            return False
        return True

    def _end(self) -> None:
        if self._process is not None:
            self._process.end()
            self._process = None


class _Process:
    """The process `warm` and the agent's end of its socket."""

    def __init__(self, key: Key, children: Children) -> None:
        from flowsession_agent.scripts import WARM

        self.key = key
        self.ready = self.over = False
        self._children = children
        self._mark = os.urandom(8).hex()
        python, cwd, variables = key[:3]
        environ = {**dict(variables), MARK: self._mark}  # type: ignore[call-overload]
        self._socket, other = socket.socketpair()
        self._received = b""
        with other:
            self._process = children.start(
                lambda: subprocess.Popen(
                    [str(python), "-c", WARM, str(other.fileno())],
                    env=environ,
                    cwd=str(cwd),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    pass_fds=[other.fileno()],
                    start_new_session=True,
                )
            )

    def look(self) -> None:
        """Take in whether the process is ready, or is over."""
        answer = self._answer(0)
        if answer is not None and "ready" in answer:
            self.ready = True
            self._children.rest(self._process.pid)

    def test(self, arguments: Sequence[str], *, cwd: str, seconds: float) -> Outcome | None:
        """Run one test; None where it did not begin."""
        self._children.stir(self._process.pid)
        try:
            (out, out_end), (err, err_end) = os.pipe(), os.pipe()
            tails = [Tail(self._children, os.fdopen(out, "rb")), Tail(self._children, os.fdopen(err, "rb"))]
            try:
                order = json.dumps({"arguments": list(arguments), "cwd": cwd}).encode()
                socket.send_fds(self._socket, [order], [out_end, err_end])
            except OSError:
                self.over = True
                return None
            finally:
                os.close(out_end)
                os.close(err_end)
            began = self._answer(10)
            if began is None or "pid" not in began:
                self.over = True
                return None
            return self._wait(began["pid"], tails, time.monotonic() + seconds)
        finally:
            self._children.rest(self._process.pid)

    def end(self) -> None:
        """End the process, and whatever it has started."""
        self._socket.close()
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.kill(self._process.pid, number)
            except OSError:
                break
            if self._children.wait(self._process, seconds=1):
                break
        kill_marked(self._mark)

    def _wait(self, pid: int, tails: Sequence[Tail], deadline: float) -> Outcome:
        answer = self._answer(max(0.0, deadline - time.monotonic()))
        timed_out = answer is None and not self.over
        for number in (signal.SIGTERM, signal.SIGKILL):
            if answer is None and not self.over:
                _kill(-pid, number)
                answer = self._answer(TERMINATE_SECONDS)
        if answer is None:  # the runner was killed, and the test with it
            self.over = True
            kill_marked(self._mark)
        status = answer["status"] if answer else signal.SIGKILL
        ended_by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        out, err = (tail.text() for tail in tails)
        code = 128 + ended_by if ended_by else os.WEXITSTATUS(status)
        return Outcome(exit_code=code, signal_number=ended_by, timed_out=timed_out, stopped=False, stdout=out, stderr=err)

    def _answer(self, seconds: float) -> dict[str, Any] | None:
        """The next answer within `seconds`; None where there is none, or where the process is over."""
        deadline = time.monotonic() + seconds
        while b"\n" not in self._received:
            readable, _, _ = select.select([self._socket], [], [], max(0.0, deadline - time.monotonic()))
            if not readable:
                return None
            try:
                data = self._socket.recv(65536)
            except OSError:  # it was killed before it read what it was sent
                data = b""
            if not data:
                self.over = True
                return None
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found


def key_of(*, python: str, flow: str, environ: Mapping[str, str], connections: object) -> Key:
    """Everything but files that the result of a test depends on."""
    return python, flow, tuple(sorted(environ.items())), connections


def _free_memory() -> int:
    from flowsession_agent.session import cgroup

    free = cgroup.free_memory()
    return sys.maxsize if free is None else free


def _kill(target: int, number: int) -> None:
    try:
        os.kill(target, number)
    except OSError:
        return
