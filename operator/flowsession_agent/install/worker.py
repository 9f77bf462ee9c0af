"""Run one install in a thread and turn its outcome, whatever it is, into the state that the operator reads."""

from __future__ import annotations

import re
import threading
import time

from flowsession_agent.install import failures
from flowsession_agent.install.ends import InstallError
from flowsession_agent.install.pipeline import Pipeline
from flowsession_agent.server.state import Install
from flowsession_agent.session.job import Job

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from flowsession_agent.feeds.urls import Address
    from flowsession_agent.install.venvs import Layer
    from flowsession_agent.server.order import Order
    from flowsession_agent.session.children import Children
    from flowsession_agent.settings import Home
    from flowsession_protocol import messages

MESSAGE_LENGTH = 1000
RETRYING = "Retrying ("
WARNING = re.compile(r"^(?:WARNING|warning|DEPRECATION): *(.+)$", re.MULTILINE)


def _warnings(stderr: str) -> list[str]:
    """Return the tool's warnings. Of those about retries, one for each package and attempt, return only the first."""
    found = WARNING.findall(stderr)
    first = next((text for text in found if text.startswith(RETRYING)), "")
    return [text for text in found if text is first or not text.startswith(RETRYING)]


class Result:
    """How an install ended: the state to report, its layer (None: failed, or the image is enough), the packages seen, requested names."""

    def __init__(self, install: Install, *, layer: Layer | None, report: dict[str, Any], names: list[str]) -> None:
        self.install = install
        self.layer = layer
        self.report = report
        self.names = names


class Worker:
    """One install; can be stopped at any time."""

    def __init__(self, *, home: Home, order: Order, address: Address, children: Children, done: Callable[[Install, Result], None]) -> None:
        self._home = home
        self._order = order
        self._address = address
        self._children = children
        self._done = done
        self._deadline = 0.0
        self._lock = threading.Lock()
        self._jobs: list[Job] = []
        self._pipeline: Pipeline | None = None
        self._stopped = False
        self._thread: threading.Thread | None = None

    def start(self, install: Install, *, after: Worker | None) -> None:
        """Start, once `after` has ended: two installs never write concurrently."""
        self._thread = self._children.thread(lambda: self._run(install, after), name="install")

    @property
    def alive(self) -> bool:
        """Whether its thread still runs."""
        return self._thread is not None and self._thread.is_alive()

    def stop(self) -> None:
        """Stop the install soon; `done` is called anyway."""
        with self._lock:
            self._stopped = True
            for job in self._jobs:
                job.stop()

    def words(self) -> messages.InstallProgress:
        """Return what the installer's current command has printed so far."""
        with self._lock:
            pipeline, jobs = self._pipeline, list(self._jobs)
        installer_command = pipeline.installer_command if pipeline is not None else 0
        if pipeline is None or not installer_command or installer_command != jobs[-1].commands:
            return {"step": "", "lines": 0, "text": ""}
        count, text = jobs[-1].printed_lines(1 if pipeline.tool == "uv" else 0)
        return {"step": f"{len(jobs)}.{jobs[-1].commands}", "lines": count, "text": pipeline.masked(text)}

    def _run(self, running: Install, after: Worker | None) -> None:
        if after is not None and after._thread is not None:
            after._thread.join()
        self._deadline = time.monotonic() + self._order.installer.timeout_seconds
        pipeline = self._pipeline = Pipeline(home=self._home, order=self._order, address=self._address, start_job=self._start_job)
        install = Install(state="Failed", packages_revision=running.packages_revision)
        layer = None
        try:
            layer = pipeline.run()
            install.state, install.changed = "Succeeded", pipeline.changed
        except InstallError as error:
            install.state = "TimedOut" if error.failure.code == "Timeout" else "Failed"
            install.code, install.message = error.failure.code, error.failure.message
        except OSError as error:
            failure = failures.of_system(error)
            install.code, install.message = failure.code, failure.message
        except Exception as error:  # the state must report a bug too, instead of staying Running
            install.code, install.message = "Other", f"The agent failed during the install: {type(error).__name__}: {error}"
        install.tool = pipeline.tool
        install.message = pipeline.masked(install.message)[:MESSAGE_LENGTH]
        install.seconds = time.monotonic() - running.started_at
        if pipeline.outcome is not None:
            outcome = pipeline.outcome
            install.exit_code = outcome.exit_code
            install.stdout_tail, install.stderr_tail = pipeline.masked(outcome.stdout), pipeline.masked(outcome.stderr)
            install.warnings = list(dict.fromkeys(pipeline.masked(text) for text in [*pipeline.warnings, *_warnings(outcome.stderr)]))
        self._done(running, Result(install, layer=layer, report=pipeline.report, names=pipeline.names))

    def _start_job(self, *, environ: dict[str, str], cwd: str) -> Job:
        with self._lock:
            job = Job(self._children, environ=environ, cwd=cwd, seconds=self._deadline - time.monotonic())
            self._jobs.append(job)
            if self._stopped:
                job.stop()
            return job
