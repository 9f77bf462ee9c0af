"""Checks the flow whenever its content or its packages change. The latest content wins, and nothing else waits for a check.

A check is not work: it doesn't keep the session awake, and it also runs while the session is being ended. It runs niced, in a copy of the
folder, in its own sessions and process groups, under a deadline, and only while enough memory is free.
"""

from __future__ import annotations

import json
import os
import sys
import threading

from flowsession_agent.check.result import Result
from flowsession_agent.errors import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from flowsession_agent.check.memory import Memory
    from flowsession_agent.install.packages import Packages
    from flowsession_agent.server.state import State
    from flowsession_agent.session.children import Children
    from flowsession_agent.session.job import Job, Outcome
    from flowsession_agent.session.runner import Runners
    from flowsession_agent.settings import Home

SECONDS = 60
"""Seconds that a check may take, not counting waits for a processor on a busy node. A tool whose import takes longer is left unchecked."""

VALIDATE_SECONDS = 600
"""Seconds after which somebody who asked for a check is told to ask again. More than SECONDS: on a busy node a check mostly waits."""

DELAY_SECONDS = 0.1
"""Seconds before a check begins, so that the response to the change is sent first, and changes in quick succession share one check."""

ENOUGH_BYTES = 256 * 1024 * 1024
"""Free memory below which no tools are imported: prompt flow alone takes half of it, and the kernel picks its OOM victims itself."""

RESERVE_BYTES = 64 * 1024 * 1024
"""Free memory below which a running check is ended."""


class Checker:
    """Runs one check at a time, in its own thread."""

    def __init__(self, *, home: Home, state: State, children: Children, packages: Packages, runners: Callable[[], Runners]) -> None:
        self._home = home
        self._state = state
        self._children = children
        self._packages = packages
        self._runners = runners
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stale: threading.Event | None = None
        self._memory: Memory | None = None

    def begin(self) -> Result:
        """Begin a check of the flow folder's present content and return it. A running check is stale and ends."""
        with self._lock:
            if self._stale is not None:
                self._stale.set()
            began = Result(flow_revision=self._state.flow_revision, packages_revision=self._state.packages_revision, state="Running")
            self._show(began)
            stale = self._stale = threading.Event()
            earlier = self._thread
            self._thread = self._children.thread(lambda: self._run(began, stale, earlier), name="check")
        return began

    def notice(self, outside_modules: dict[str, str]) -> None:
        """Store the source's modules outside of the flow folder, for the advice about missing ones. Raises OSError."""
        with open(self._home.outside_modules, "w", encoding="utf-8") as file:
            json.dump(outside_modules, file)

    def expect(self) -> None:
        """Discard the last result: a check follows as soon as the packages are installed."""
        with self._lock:
            if self._stale is not None:
                self._stale.set()
            self._show(Result(flow_revision=self._state.flow_revision, packages_revision=self._state.packages_revision, state="Running"))

    def forget(self) -> None:
        """Record that the session has no flow folder to check."""
        with self._lock:
            if self._stale is not None:
                self._stale.set()
            self._show(Result(flow_revision=self._state.flow_revision, state="Done", verdict="NoFlow"))

    def validate(self, *, seconds: float) -> Result:
        """Check the flow folder's present content and return the result, or that of newer content which replaced it meanwhile.

        Raises ApiError with 503 if it is not ready in `seconds`.
        """
        self.begin()
        result = self._state.wait_for_check(seconds=seconds)
        if result.state != "Done":
            why = f"After {seconds:g} s the check is not done: the node is busy, an install goes on, or the flow keeps changing."
            raise ApiError(503, "Checking", f"{why} Ask again.")
        return result

    def _run(self, began: Result, stale: threading.Event, earlier: threading.Thread | None) -> None:
        from flowsession_agent.session.flow_test import find_flow

        if earlier is not None:
            earlier.join()
        if stale.wait(DELAY_SECONDS):
            return
        try:
            flow = find_flow(self._home.flow)
        except ApiError:
            over = began.found({"nodes": None, "count": 0, "problems": [], "warnings": [], "unchecked": ""}, over=True)
            over.verdict = "NoFlow"
            self._publish(over, stale)
            return
        try:
            self._look(os.path.basename(flow), began, stale)
        except Exception as error:  # of any kind: a session without a verdict is better than one without a checker
            print(f"flowsession agent: checking the flow failed: {error!r}", file=sys.stderr, flush=True)
            reason = f"the check could not be done: {error}"
            self._publish(began.found({"nodes": None, "count": 0, "problems": [], "warnings": [], "unchecked": reason}, over=True), stale)

    def _look(self, file: str, began: Result, stale: threading.Event) -> None:
        import shutil
        import tempfile

        from flowsession_agent.check.advice import OUTSIDE_MODULES
        from flowsession_agent.check.memory import Memory, key_of
        from flowsession_agent.check.scratch import Scratch
        from flowsession_agent.scripts import IMPORTS, STATIC
        from flowsession_agent.session import flow_env
        from flowsession_agent.session.job import Job

        self._home.make()
        python = self._packages.python
        folder = tempfile.mkdtemp(prefix="check-", dir=self._home.tmp)
        try:
            copy, read, imported = (os.path.join(folder, name) for name in ("flow", "read.json", "imported.json"))
            Scratch().copy(self._home.flow, copy)
            environ = flow_env.environ(os.environ, home=self._home, scripts=os.path.dirname(python))
            # Bytecode is written to the copy and next to the installed packages, where the first run of the flow then finds it.
            environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", TMPDIR=folder)
            environ[OUTSIDE_MODULES] = _text_of(self._home.outside_modules)
            job = Job(self._children, environ=environ, cwd=copy, seconds=SECONDS, patient=True)
            with _Watch(job, stale, children=self._children):
                outcome = job.run([python, "-c", STATIC, copy, file, read])
                found = _result(read, outcome, "reading the flow")
                if stale.is_set():
                    return
                work = found.get("work")
                key, memory = "", self._memory or Memory()
                self._memory = memory
                if work is not None:
                    store = os.path.join(environ["PF_HOME_DIRECTORY"], "pf.sqlite")
                    key = key_of(copy, work, layer=python, store=store)
                    if (known := memory.recall(key, found)) is not None:
                        found, work = known, None
                free = _free_memory()
                if work is not None and free is not None and free < ENOUGH_BYTES:
                    found["unchecked"] = found["unchecked"] or (
                        f"its tools were not imported: {free // 2**20} MiB of memory are free beside the session's work, "
                        f"{ENOUGH_BYTES // 2**20} are needed"
                    )
                    work = None
                self._publish(began.found(found, over=work is None), stale)
                if work is None:
                    return
                if not self._runners().lend(job, "flowsession_agent.check.imports", [copy, read, imported]):
                    job.begin([python, "-c", IMPORTS, copy, read, imported])
                outcome = job.finish()
            if stale.is_set():
                return
            whole = _result(imported, outcome, "importing the tools", earlier=found)
            memory.note(key, found, whole)
            self._publish(began.found(whole, over=True), stale)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _publish(self, result: Result, stale: threading.Event) -> None:
        with self._lock:
            if not stale.is_set():
                self._show(result)

    def _show(self, result: Result) -> None:
        def edit() -> None:
            self._state.check = result

        self._state.change(edit)


class _Watch:
    """Ends a job whose content is stale, or that leaves too little memory for the session's work."""

    def __init__(self, job: Job, stale: threading.Event, *, children: Children) -> None:
        self._job = job
        self._children = children
        self._stale = stale
        self._over = threading.Event()

    def __enter__(self) -> None:
        self._children.thread(self._watch, name="check-watch")

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def _watch(self) -> None:
        while not self._over.wait(0.1):
            free = _free_memory()
            if self._stale.is_set() or (free is not None and free < RESERVE_BYTES):
                self._job.stop()
                return


def _free_memory() -> int | None:
    from flowsession_agent.session import cgroup

    return cgroup.free_memory()


def _text_of(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""


def _result(path: str, outcome: Outcome, doing: str, *, earlier: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return what a step wrote. If it did not finish, return what it had found, with the reason in `unchecked`."""
    try:
        with open(path, encoding="utf-8") as file:
            found: dict[str, Any] = json.load(file)
    except (OSError, ValueError):
        found = dict(earlier or {"nodes": None, "count": 0, "problems": [], "warnings": [], "unchecked": ""})
    unfinished = found.get("doing", "")
    if outcome.exit_code == 0 and not outcome.stopped and not outcome.timed_out and not unfinished:
        return found
    at = f"importing {unfinished}" if unfinished else doing
    if outcome.timed_out:
        why = f"{at} took longer than {SECONDS} s"
    elif outcome.stopped:
        why = f"{at} was ended: the session's own work needs the memory"
    elif outcome.signal_number:
        why = f"{at} ended by signal {outcome.signal_number}"
    else:
        last = (outcome.stderr.strip().splitlines() or [""])[-1]
        why = f"{at} ended with exit code {outcome.exit_code}{f': {last[:200]}' if last else ''}"
    return {**found, "unchecked": found.get("unchecked") or why, "work": None}
