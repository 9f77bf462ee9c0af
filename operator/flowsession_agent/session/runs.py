"""Runs of the session's flow over data, one at a time: order, counts while in progress, end, and the outputs to keep."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time

from flowsession_agent.errors import ApiError
from flowsession_agent.session import guest_flow, run_batch, run_inputs, run_order, run_outputs
from flowsession_agent.session.flow_test import find_flow, last_words
from flowsession_agent.session.job import Job
from flowsession_agent.session.run_log import OUT_OF_MEMORY, RunLog
from flowsession_agent.session.runner import FOREVER, new_job
from flowsession_protocol import flow_files, limits
from flowsession_protocol.messages import CANCELED, RUN_END_SECONDS, RUN_FAILURES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from flowsession_agent.connections.store import Connections
    from flowsession_agent.session.activity import Activity
    from flowsession_agent.session.children import Children
    from flowsession_agent.session.runner import Key, Runners
    from flowsession_agent.session.trace_log import TraceLog
    from flowsession_agent.settings import Home
    from flowsession_protocol import messages

LOOK_SECONDS = 0.25
KEPT_RUNS = 10
"""Number of the newest runs whose outputs stay in the session."""


class Run:
    """One run. `state` is one of the protocol's."""

    def __init__(self, order: messages.RunOrder, folder: str, claims: str) -> None:
        self.order = order
        self.folder = folder
        target = order.get("outputsClaim")
        self.outputs = os.path.join(claims, target["claim"], target["path"]) if target else os.path.join(folder, "out")
        """The folder in which prompt flow creates the run's own folder."""
        self.version = 1
        self.state = "Running"
        self.code = ""
        self.message = ""
        self.lines: messages.Lines = {"total": 0, "completed": 0, "failed": 0}
        self.warnings: list[str] = []
        self.errors: list[messages.RunError] = []
        self.metrics: dict[str, str] = {}
        self.tokens: messages.Tokens = {}
        self.log = RunLog(self.output)
        self.log_tail = ""
        self.canceled = False

    @property
    def output(self) -> str:
        """Return the folder in which prompt flow keeps the run."""
        return os.path.join(self.outputs, self.order["name"])

    @property
    def before(self) -> str:
        """Return the folder with what prompt flow had of the run when an earlier agent ended. It is absent if none did."""
        return f"{self.output}-before"

    def members(self) -> messages.Run:
        """Return the object that `/v1/runs` shows."""
        state: messages.Run = {"id": self.order["id"], "state": self.state, "version": self.version, "lines": self.lines}
        if self.warnings:
            state["warnings"] = self.warnings
        if self.state == "Running":
            state["message"] = self.message
        else:
            state.update({"code": self.code, "message": self.message, "errors": self.errors, "metrics": self.metrics})
            state.update({"tokens": self.tokens, "logTail": self.log_tail})
        return state


class Runs:
    """The runs that this agent has begun. One that an earlier agent on the same volume began is lost, unless it is ordered again."""

    def __init__(
        self, *, home: Home, activity: Activity, children: Children, connections: Connections, traces: TraceLog, runners: Runners
    ) -> None:
        self._home = home
        self._activity = activity
        self._children = children
        self._connections = connections
        self._traces = traces
        self._runners = runners
        self._changed = threading.Condition()
        self._runs: dict[str, Run] = {}

    def begin(self, body: Any) -> messages.Run:
        """Begin the run, or return its state if it is known. A run ordered `again` resumes, once, where an earlier agent ended.

        Raises ApiError: Retired, RunInProgress.
        """
        order = run_order.read(body)
        again = order.pop("again", False)
        with self._changed:
            run = Run(order, self._folder(order["id"]), self._home.claims)
            lost = order["id"] not in self._runs and (os.path.isdir(run.folder) or os.path.isdir(run.output))
            if order["id"] in self._runs:
                return self.state_of(order["id"])
            if lost and (not again or os.path.isdir(run.before)):
                return _lost(order["id"])
            other = next((run for run in self._runs.values() if run.state == "Running"), None)
            if other is not None:
                raise ApiError(409, "RunInProgress", f"Run {other.order['name']} is going on in this session: one at a time.")
            what = f"run {order['name']}"
            self._activity.begin(what)
            try:
                self._home.make()
                self._make_room()
                os.makedirs(run.folder, exist_ok=lost)
                if lost:
                    self._lay_aside(run)
                self._runs[order["id"]] = run
                self._children.thread(lambda: self._work(run, what), name="run")
            except BaseException:
                self._activity.end(what)
                raise
            return run.members()

    def state_of(self, run_id: str, *, since: int = 0, seconds: float = 0.0) -> messages.Run:
        """Return a run's state once it is newer than `since`, or after `seconds`. Raises ApiError: NoRun."""
        run = self._runs.get(run_id)
        if run is None:
            if not run_order.ID.match(run_id) or not os.path.isdir(self._folder(run_id)):
                raise ApiError(404, "NoRun", "No such run was ordered here.")
            return _lost(run_id)
        deadline = time.monotonic() + seconds
        with self._changed:
            while True:
                self._look(run)
                left = deadline - time.monotonic()
                if run.version > since or left <= 0:
                    return run.members()
                self._changed.wait(min(left, LOOK_SECONDS))

    def cancel(self, run_id: str) -> messages.Run:
        """Have a run end soon. Return its state as it is now. Raises ApiError: NoRun."""
        state = self.state_of(run_id)
        if (run := self._runs.get(run_id)) is not None:
            with self._changed:
                run.canceled = True
        return state

    def outputs(self, run_id: str) -> messages.RunOutputs:
        """Return what prompt flow kept of a finished run, packed. Raises ApiError: NoRun, RunInProgress, TooLarge, NoOutputs."""
        state = self.state_of(run_id)
        if state["state"] == "Running":
            raise ApiError(409, "RunInProgress", "The run is going on: its outputs come at its end.")
        run = self._runs.get(run_id)
        if run is None:
            raise ApiError(404, "NoRun", "No such run was ordered of this agent.")
        return {"id": run_id, "archive": run_outputs.packed(run.output)}

    def _work(self, run: Run, what: str) -> None:
        try:
            result = self._result(run)
        except ApiError as error:
            code = error.code if error.code in RUN_FAILURES else "FlowInvalid"
            result = {"code": code, "message": error.message, "errors": error.members.get("errors")}
        except OSError as error:
            result = {"code": "RunFailed", "message": f"the run can't be started: {error.strerror} ({error.filename})"}
        except Exception as error:  # no error may leave the run in progress forever
            result = {"code": "RunFailed", "message": f"the agent failed: {type(error).__name__}: {error}"}
        if run.order.get("outputsClaim"):
            with contextlib.suppress(OSError):
                run_outputs.complete(run.output)
        if self._children.ending:
            return  # not the run's own end: it is lost with the pod, as if the node had died
        with self._changed:
            self._look(run)
            run.lines = _grown(run.lines, result.get("lines"))
            run.code, run.message = str(result.get("code", "")), str(result.get("message", ""))
            run.errors = _errors(result.get("errors"))
            run.metrics = _metrics(result.get("metrics"))
            run.tokens = _tokens(result.get("tokens"))
            run.log_tail = run.log.tail() if run.code or result.get("canceled") else ""
            run.state = "Canceled" if result.get("canceled") else "Failed" if run.code else "Completed"
            run.version += 1
            self._changed.notify_all()
        self._activity.end(what)

    def _result(self, run: Run) -> dict[str, Any]:
        from flowsession_agent.session import cgroup

        python, environ = key = self._connections.ready()
        root = self._home.flow
        if "guest" in run.order:
            root = guest_flow.unpack(run.order.pop("files"), run.folder)
            environ = guest_flow.traced(environ, run.order["guest"]["environment"])
            key = python, environ
            job = Job(self._children, environ=environ, cwd=root, seconds=guest_flow.SECONDS)
            guest_flow.check(run.order["guest"]["requirements"], root, run.folder, job=job, python=python, venvs=self._home.venvs)
        flow = find_flow(root)
        inputs = run_inputs.prepared(run.order, run.folder, self._home, root=root, outputs=run.outputs, before=run.before)
        order = {
            **{name: value for name, value in run.order.items() if name != "guest"},
            **inputs,
            "file": flow,
            "flow": flow if flow.endswith(flow_files.PROMPTY) else os.path.dirname(flow),
            "processors": cgroup.processors(),
            "outputs": run.outputs,
        }
        if order.get("data") and not os.path.exists(order["data"]):
            where = "" if run.order.get("dataClaim") else " in the flow folder"
            message = f"there is no {order['shown']}{where}: correct the path in spec.data, or put the file there"
            return {"code": "DataNotFound", "message": message}
        given = os.path.join(run.folder, "order.json")
        run_batch.write(given, order)
        run.log = RunLog(run.output, flow, run.order.get("connections"))
        killed_before = cgroup.killed_for_memory()
        outcome = self._begin(key, [given, run.folder], root, lambda: run.canceled).finish()
        self._traces.look(run.folder)
        result = run_batch.read(os.path.join(run.folder, "result.json"))
        short_of_memory = cgroup.killed_for_memory() > killed_before
        if outcome.stopped:
            return {**result, "canceled": True, "code": "", "message": run.log.last_words() or CANCELED}
        if result and outcome.exit_code == 0:
            run.log.explain(result, short_of_memory=short_of_memory)
            return result
        if short_of_memory:
            return {"code": "RunFailed", "message": f"the session {OUT_OF_MEMORY}"}
        return {"code": "RunFailed", "message": last_words(outcome.stderr) or f"the run ended with exit code {outcome.exit_code}"}

    def _begin(self, key: Key, arguments: list[str], cwd: str, canceled: Callable[[], bool]) -> Job:
        """Return the job in which a run has begun."""
        from flowsession_agent.scripts import RUN_BATCH

        job = new_job(key, cwd, self._children)
        if not self._runners.lend(job, "flowsession_agent.session.run_batch", arguments, key=key):
            job.begin([key[0], "-c", RUN_BATCH, *arguments])
        job.allow(FOREVER, canceled=canceled, end_within=RUN_END_SECONDS)
        return job

    def _lay_aside(self, run: Run) -> None:
        """Move what prompt flow had of the run to where it is used as an earlier run."""
        if os.path.isdir(run.output):
            os.rename(run.output, run.before)
        else:
            os.makedirs(run.before)
        for name in ("progress.json", "result.json"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(run.folder, name))

    def _look(self, run: Run) -> None:
        """Take in the counts that the run's process has written since, and what the run waits for.

        An ending agent interrupts the lines in progress. Prompt flow records them as failed, and they are run again in the next pod.
        """
        if run.state == "Running" and not self._children.ending:
            progress = run_batch.read(os.path.join(run.folder, "progress.json"))
            found = _grown(run.lines, progress), _warnings(progress.get("warnings")), run.log.wait()
            if found != (run.lines, run.warnings, run.message):
                run.lines, run.warnings, run.message = found
                run.version += 1

    def _folder(self, run_id: str) -> str:
        return os.path.join(self._home.runs, run_id)

    def _make_room(self) -> None:
        """Empty the folders of old runs. The folders stay as a record that a run was begun."""
        over = [run for run in self._runs.values() if run.state != "Running"]
        for run in over[: max(0, len(over) - KEPT_RUNS + 1)]:
            shutil.rmtree(run.folder, ignore_errors=True)
            os.makedirs(run.folder, exist_ok=True)


def _lost(run_id: str) -> messages.Run:
    return {"id": run_id, "state": "Lost", "version": 0, "lines": {"total": 0, "completed": 0, "failed": 0}}


def _grown(lines: messages.Lines, found: Any) -> messages.Lines:
    """Return the counts, which never decrease, whatever is in the file."""
    members = found if isinstance(found, dict) else {}
    total, completed, failed = (
        max(before, members[name]) if isinstance(members.get(name), int) else before
        for name, before in (("total", lines["total"]), ("completed", lines["completed"]), ("failed", lines["failed"]))
    )
    return {"total": total, "completed": completed, "failed": failed}


def _warnings(found: Any) -> list[str]:
    return [str(text)[: limits.PROBLEM] for text in found[: limits.RUN_ERRORS]] if isinstance(found, list) else []


def _errors(found: Any) -> list[messages.RunError]:
    errors: list[messages.RunError] = []
    for item in found[: limits.RUN_ERRORS] if isinstance(found, list) else ():
        error: messages.RunError = {"message": str(item.get("message", ""))[: limits.PROBLEM]}
        if isinstance(item.get("line"), int):
            error["line"] = item["line"]
        if item.get("node"):
            error["node"] = str(item["node"])[: limits.PROBLEM_PLACE]
        errors.append(error)
    return errors


def _metrics(found: Any) -> dict[str, str]:
    items = list(found.items())[: limits.RUN_METRICS] if isinstance(found, dict) else []
    return {str(name)[:100]: str(value)[:100] for name, value in items}


def _tokens(found: Any) -> messages.Tokens:
    items = found if isinstance(found, dict) else {}
    tokens: messages.Tokens = {}
    for name in ("prompt", "completion", "total"):
        if isinstance(items.get(name), int):
            tokens[name] = items[name]
    return tokens
