"""Run commands for the session with bounds on everything: time, remembered output, and what they leave running."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Callable, Mapping, Sequence

    from flowsession_agent.session.children import Adopted, Children

    Fork = Callable[[Mapping[str, str], str, list[int]], "Adopted | None"]
    """Takes environment variables, working directory and the descriptors of standard output and error; returns the process."""

MARK = "FLOWSESSION_JOB"
OUTPUT_LIMIT = 1024 * 1024
READ_ON_SECONDS = 5


class Outcome:
    """How a command ended. `exit_code` is 128 + n for signal n. The streams hold the last 1 MiB."""

    def __init__(self, *, exit_code: int, signal_number: int, timed_out: bool, stopped: bool, stdout: str, stderr: str) -> None:
        self.exit_code = exit_code
        self.signal_number = signal_number
        self.timed_out = timed_out
        self.stopped = stopped
        self.stdout = stdout
        self.stderr = stderr


class Job:
    """Commands run one after the other under one deadline. Nothing that they start outlives its command, not even a daemon."""

    def __init__(
        self,
        children: Children,
        *,
        environ: Mapping[str, str],
        cwd: str,
        seconds: float,
        end_by: int = signal.SIGTERM,
        patient: bool = False,
    ) -> None:
        """Set the bounds. `end_by` asks a command to end: its whole group, but SIGINT the command alone. It is killed 5 seconds later.

        `patient`: time in which a command was ready to run but others had the processor doesn't count toward `seconds`.
        """
        self._children = children
        self._mark = os.urandom(8).hex()
        self._environ = {**environ, MARK: self._mark}
        self._cwd = cwd
        self._deadline = time.monotonic() + seconds
        self._patient = patient
        self._stopped = threading.Event()
        self._end_by = end_by
        self._end_within = 5.0
        self._canceled: Callable[[], bool] = lambda: False
        self._begun: tuple[subprocess.Popen[bytes] | Adopted, list[_Tail]]
        self.commands = 0
        """Number of commands that were begun."""

    def stop(self) -> None:
        """End the running command soon, and any later one."""
        self._stopped.set()

    @property
    def stopped(self) -> bool:
        """Return whether somebody asked the job to end."""
        if self._canceled():
            self._stopped.set()
        return self._stopped.is_set()

    def allow(self, seconds: float, *, canceled: Callable[[], bool], end_within: float = 5) -> None:
        """Set the deadline to `seconds` from now. While a command runs `canceled` is polled; True has the effect of `stop`.

        A command that was asked to end is killed `end_within` seconds later.
        """
        self._deadline = time.monotonic() + seconds
        self._canceled = canceled
        self._end_within = end_within

    def run(self, argv: Sequence[str], *, stdin: IO[bytes] | None = None, stdout: IO[bytes] | None = None) -> Outcome:
        """Run one command to its end or the job's. Output to a file is not remembered. Raises OSError if it can't be started."""
        self.begin(argv, stdin=stdin, stdout=stdout)
        return self.finish()

    def begin(
        self, argv: Sequence[str], *, stdin: IO[bytes] | None = None, stdout: IO[bytes] | None = None, inherited: Sequence[int] = ()
    ) -> int:
        """Start one command, with the descriptors `inherited`, and return its PID. `finish` must follow. Raises OSError."""
        process = self._children.start(
            lambda: subprocess.Popen(
                argv,
                env=self._environ,
                cwd=self._cwd,
                stdin=stdin or subprocess.DEVNULL,
                stdout=stdout or subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                pass_fds=inherited,
            )
        )
        self._begun = process, [_Tail(self._children, process.stdout), _Tail(self._children, process.stderr)]
        self.commands += 1  # last: other threads check it first
        return process.pid

    def begin_forked(self, fork: Fork) -> bool:
        """Have `fork` start one command, and return whether it could. If so, `finish` must follow. Raises OSError."""
        ends = [os.pipe(), os.pipe()]
        process: Adopted | None = None
        try:
            process = fork(self._environ, self._cwd, [written for _, written in ends])
        finally:
            for read, written in ends:
                os.close(written)
                if process is None:
                    os.close(read)
        if process is None:
            return False
        self._begun = process, [_Tail(self._children, os.fdopen(read, "rb", 0)) for read, _ in ends]
        self.commands += 1
        return True

    def kill(self) -> None:
        """Kill the command that was begun, with its whole group."""
        _kill(-self._begun[0].pid, signal.SIGKILL)

    def printed(self, most: int) -> str:
        """Return the last `most` bytes that the command that was begun has printed on its standard output so far."""
        return self._begun[1][0].so_far(most)

    def printed_lines(self, stream: int) -> tuple[int, str]:
        """Return how many whole lines the last command has printed so far on standard output (0) or error (1), and the latest of them."""
        return self._begun[1][stream].lines() if self.commands else (0, "")

    def finish(self) -> Outcome:
        """Wait for the command that was begun, or end it at the job's end."""
        process, tails = self._begun
        timed_out = False
        while not self._children.wait(process, seconds=0.1):
            timed_out = time.monotonic() >= self._deadline + (_waited(process.pid) if self._patient else 0)
            if timed_out or self.stopped:
                self._terminate(process)
                break
        _kill(-process.pid, signal.SIGKILL)
        kill_marked(self._mark)
        out, err = (tail.text() for tail in tails)
        number = max(0, -process.returncode)
        return Outcome(
            exit_code=128 + number if number else process.returncode,
            signal_number=number,
            timed_out=timed_out,
            stopped=self.stopped,
            stdout=out,
            stderr=err,
        )

    def _terminate(self, process: subprocess.Popen[bytes] | Adopted) -> None:
        _kill(process.pid if self._end_by == signal.SIGINT else -process.pid, self._end_by)
        if not self._children.wait(process, seconds=self._end_within):
            _kill(-process.pid, signal.SIGKILL)
            while not self._children.wait(process, seconds=60):
                continue


class _Tail:
    """The end of a stream, read by its own thread so that the writer never blocks."""

    def __init__(self, children: Children, stream: IO[bytes] | None) -> None:
        self._stream = stream
        self._bytes = bytearray()
        self._dropped = 0
        """Line feeds in output that is no longer remembered."""
        self._thread = children.thread(self._read, name="tail")

    def text(self) -> str:
        """Return what was read by the stream's end. Waits at most READ_ON_SECONDS for a writer that escaped its job."""
        self._thread.join(READ_ON_SECONDS)
        return bytes(self._bytes[-OUTPUT_LIMIT:]).decode(errors="replace")

    def so_far(self, most: int) -> str:
        """Return the last `most` bytes read so far."""
        return bytes(self._bytes[-most:]).decode(errors="replace")

    def lines(self) -> tuple[int, str]:
        """Return how many whole lines were read, and the latest of them."""
        found, dropped = bytes(self._bytes), self._dropped
        whole = found[: found.rfind(b"\n") + 1]
        return dropped + whole.count(b"\n"), whole.decode(errors="replace")

    def _read(self) -> None:
        if self._stream is None:
            return
        with self._stream:
            while True:
                data = os.read(self._stream.fileno(), 65536)
                if not data:
                    return
                self._bytes += data
                if len(self._bytes) > 2 * OUTPUT_LIMIT:
                    self._dropped += self._bytes[:-OUTPUT_LIMIT].count(b"\n")
                    del self._bytes[:-OUTPUT_LIMIT]


def _waited(pid: int) -> float:
    """Return the seconds that a process was ready to run while others ran (proc(5), schedstat); 0 if unknown."""
    try:
        with open(f"/proc/{pid}/schedstat", encoding="ascii") as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0


def kill_marked(mark: str) -> None:
    """Kill every process whose environment has `mark`, even if it left its process group. The agent becomes its parent."""
    wanted = f"{MARK}={mark}".encode()
    for _ in range(10):  # processes forked meanwhile are found the next time
        marked = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _carries(pid, wanted)]
        for pid in marked:
            _kill(pid, signal.SIGKILL)
        if not marked:
            return
        time.sleep(0.02)


def _carries(pid: int, variable: bytes) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return variable in file.read().split(b"\0")
    except OSError:
        return False


def _kill(target: int, number: int) -> None:
    try:
        os.kill(target, number)
    except OSError:
        return
