"""The agent, assembled from its parts, and the calls of `/v1`."""

from __future__ import annotations

import json
import sys
import threading

from flowsession_agent import VERSION
from flowsession_agent.check.checker import VALIDATE_SECONDS, Checker
from flowsession_agent.connections.store import Connections
from flowsession_agent.edits.keeper import Keeper
from flowsession_agent.errors import ApiError, StartError, bad_request
from flowsession_agent.install.packages import Packages
from flowsession_agent.server import datagrams
from flowsession_agent.server.state import State
from flowsession_agent.server.unanswered import CallsInFlight
from flowsession_agent.session import space
from flowsession_agent.session.activity import Activity
from flowsession_agent.session.children import Children, last_number
from flowsession_agent.session.environment import Environment
from flowsession_agent.session.flow_test import Tests, read_order
from flowsession_agent.session.inotify import Inotify
from flowsession_agent.session.runner import Runner, Runners, free_memory
from flowsession_agent.session.trace_log import TraceLog
from flowsession_protocol import PROTOCOL
from flowsession_protocol.datagrams import CHECKED, ENDING, KILLED, WAITING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Mapping

    from flowsession_agent.server.wire import Request
    from flowsession_agent.session.folder_watch import FolderWatch
    from flowsession_agent.session.processes import ProcessActivity, Processes
    from flowsession_agent.session.runs import Runs
    from flowsession_agent.settings import Settings
    from flowsession_protocol.messages import About, Check
    from flowsession_protocol.messages import State as Whole

    Answer = Mapping[str, Any]
    Call = Callable[[Request, bytes], Answer]

WAIT_LIMIT = 60


class Agent:
    """One session's agent."""

    def __init__(self, settings: Settings) -> None:
        self.home = settings.home
        self.pod_uid = settings.pod_uid
        self.state = State()
        self.children = Children()
        self.unanswered = CallsInFlight()
        self._first_number = last_number()
        self.activity = Activity(state=self.state, look=self._look, edited=lambda thorough: self.folder.edited(thorough=thorough))
        self.packages = Packages(home=self.home, state=self.state, children=self.children)
        self._checker = Checker(
            home=self.home, state=self.state, children=self.children, packages=self.packages, runners=lambda: self.runners
        )
        self.environment = Environment(
            home=self.home,
            state=self.state,
            activity=self.activity,
            children=self.children,
            packages=self.packages,
            checker=self._checker,
            folder=lambda: self.folder,
        )
        self.connections = Connections(
            home=self.home, state=self.state, children=self.children, packages=self.packages, changed=self.environment.check_again
        )
        self.runners = Runners(
            state=self.state,
            environment=self.connections.environment,
            start=lambda key: Runner(key, self.home.flow, self.children),
            free_memory=free_memory,
            roomy=lambda: space.roomy(self.home.tmp, self.home.home),
        )
        self._traces = TraceLog()
        self._tests = Tests(
            home=self.home,
            activity=self.activity,
            children=self.children,
            connections=self.connections,
            traces=self._traces,
            runners=self.runners,
        )
        self.keeper = Keeper(unsaved=self.environment.unsaved_edits, say=self._say_edits_wait, grace_seconds=settings.grace_seconds)
        self._processes: Processes | None = None
        self._kills = datagrams.News(lambda: self._send(KILLED))
        self._verdicts = datagrams.News(lambda: self._send(CHECKED))
        self._notices = Inotify()
        self._folder: FolderWatch | None = None
        self._made_runs: Runs | None = None
        self._lock = threading.Lock()
        self._calls: dict[str, dict[str, Call]] = {
            "/v1/state": {"GET": self._state},
            "/v1/environment": {"PUT": self._environment},
            "/v1/retire": {"POST": self._retire, "DELETE": self._reopen},
            "/v1/keepalive": {"POST": self._keep_alive},
            "/v1/packages": {"GET": self._packages},
            "/v1/install": {"GET": self._install_progress},
            "/v1/test": {"POST": self._test},
            "/v1/validate": {"POST": self._validate},
            "/v1/edits": {"GET": self._edits},
            "/v1/edits/restore": {"POST": self._restore},
            "/v1/edits/discard": {"POST": self._discard},
            "/v1/edits/settle": {"POST": self._settle},
            "/v1/runs": {"PUT": self._begin_run, "GET": self._run, "DELETE": self._cancel_run},
            "/v1/runs/outputs": {"GET": self._run_outputs},
        }
        if settings.resolver:
            from flowsession_agent.source.resolver import Resolver

            self._resolver = Resolver(home=settings.home, children=self.children, credentials=settings.credentials, mount=settings.source)
            self._calls["/v1/source"] = {"PUT": self._source}

    def call(self, request: Request, body: bytes) -> Answer:
        """Return the response to an authenticated call. Raises ApiError."""
        methods = self._calls.get(request.path)
        if methods is None:
            raise ApiError(404, "NotFound", f"There is no {request.path} here: this agent speaks version {PROTOCOL} of the protocol.")
        method = methods.get(request.method)
        if method is None:
            raise ApiError(405, "MethodNotAllowed", f"{request.path} takes {' and '.join(methods)}, not {request.method}.")
        return method(request, body)

    def answered(self, members: Answer) -> None:
        """Record a response to the operator: the news in it needs no datagram any more."""
        if "memoryKill" in members:
            self._kills.answered(members["memoryKill"]["id"])
        if members.get("check", {}).get("state") == "Done":
            self._verdicts.answered(_id_of(members["check"]))

    def notify_kills(self) -> None:
        """Send a datagram if a process was killed for memory and the operator has not asked since."""
        self._kills.look(self._processes.kills.id if self._processes else "")

    def notify_check_result(self) -> None:
        """Send a datagram if the flow's check has another result than the operator last received."""
        if self.state.check.state == "Done":
            self._verdicts.look(_id_of(self.state.check.members()))

    @property
    def folder(self) -> FolderWatch:
        """The watch on the flow folder. Created lazily, since the first response doesn't need it."""
        with self._lock:
            if self._folder is None:
                from flowsession_agent.session.folder_watch import FolderWatch

                self._folder = FolderWatch(self.home.flow, notices=self._notices)
            return self._folder

    @property
    def _runs(self) -> Runs:
        """The runs over data. Created lazily, since most sessions have none."""
        with self._lock:
            if self._made_runs is None:
                from flowsession_agent.session.runs import Runs

                self._made_runs = Runs(
                    home=self.home,
                    activity=self.activity,
                    children=self.children,
                    connections=self.connections,
                    traces=self._traces,
                    runners=self.runners,
                )
            return self._made_runs

    def _look(self) -> ProcessActivity:
        if self._processes is None:
            from flowsession_agent.session.exec_trace import ExecTrace
            from flowsession_agent.session.processes import Processes

            self._processes = Processes(children=self.children, trace=ExecTrace(self._notices), first=self._first_number)
        self._keep_folder()
        look = self._processes.look()
        if self._processes.newly_killed():
            self.state.change(lambda: None)  # wakes callers that wait for a newer version
        return look

    def _keep_folder(self) -> None:
        try:
            self.home.keep()
        except (OSError, StartError):  # disk full, or a claim without its folder: whatever needs the folder reports it
            return

    def _whole_state(self) -> Whole:
        answer = self.state.whole(self.pod_uid, about=about(), activity=self.activity.members(), edits=self.environment.edits())
        if self._processes is not None and self._processes.kills.id:
            answer["memoryKill"] = self._processes.kills.members()
        if self.keeper.unheard:
            answer["edits"]["unheard"] = True
        return answer

    def _state(self, request: Request, _: bytes) -> Answer:
        since, wait = _wait_for(request.query)
        if wait:
            self.state.wait_for_newer(since, seconds=wait)
        return self._whole_state()

    def _environment(self, _: Request, body: bytes) -> Answer:
        from flowsession_agent.server import order

        wanted = order.read(_parse(body))
        try:
            self.environment.apply(wanted)
        except OSError as error:
            raise ApiError(500, "InternalError", f"The flow folder can't be written: {error.strerror} ({error.filename}).") from error
        return self._whole_state()

    def _retire(self, _: Request, body: bytes) -> Answer:
        members = _parse(body) if body else {}
        seconds = members.get("idleAtLeast", 0) if isinstance(members, dict) else None
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds >= 0:
            raise bad_request("idleAtLeast must be a number of seconds.")
        self.activity.retire(idle_at_least=seconds)
        return self._whole_state()

    def _reopen(self, _: Request, __: bytes) -> Answer:
        self.activity.reopen()
        return self._whole_state()

    def _keep_alive(self, _: Request, __: bytes) -> Answer:
        with self.activity.work("keep-alive"):
            pass
        return self._whole_state()

    def _install_progress(self, _: Request, __: bytes) -> Answer:
        return {"podUID": self.pod_uid, "install": self.state.install.members(), "words": self.environment.install_words()}

    def _packages(self, _: Request, __: bytes) -> Answer:
        return {"podUID": self.pod_uid, "packages": self.packages.read()}

    def _test(self, request: Request, body: bytes) -> Answer:
        order = read_order(_parse(body) if body else {})
        return {"podUID": self.pod_uid, **self._tests.run(order, gone=request.gone, send_part=request.send_part)}

    def _begin_run(self, _: Request, body: bytes) -> Answer:
        return {"podUID": self.pod_uid, **self._runs.begin(_parse(body))}

    def _run(self, request: Request, _: bytes) -> Answer:
        since, wait = _wait_for(request.query)
        return {"podUID": self.pod_uid, **self._runs.state_of(_run_id(request.query), since=since, seconds=wait)}

    def _cancel_run(self, request: Request, _: bytes) -> Answer:
        return {"podUID": self.pod_uid, **self._runs.cancel(_run_id(request.query))}

    def _run_outputs(self, request: Request, _: bytes) -> Answer:
        return {"podUID": self.pod_uid, **self._runs.outputs(_run_id(request.query))}

    def _validate(self, _: Request, __: bytes) -> Answer:
        from flowsession_agent.check.findings import MOST

        return {"podUID": self.pod_uid, "check": self._checker.validate(seconds=VALIDATE_SECONDS).members(most=MOST)}

    def _edits(self, _: Request, __: bytes) -> Answer:
        return {"podUID": self.pod_uid, **self.environment.edits_archive()}

    def _restore(self, _: Request, body: bytes) -> Answer:
        members = _parse(body) if body else {}
        force = members.get("force", False) if isinstance(members, dict) else None
        if not isinstance(force, bool):
            raise bad_request("force must be true or false.")
        return {"podUID": self.pod_uid, **self.environment.restore_edits(force=force)}

    def _source(self, request: Request, body: bytes) -> Answer:
        _, wait = _wait_for(f"since=0&{request.query}" if request.query else "")
        return {"podUID": self.pod_uid, **self._resolver.answer(_parse(body), wait=wait)}

    def _settle(self, _: Request, body: bytes) -> Answer:
        members = _parse(body)
        revision, saved = (members.get("revision"), members.get("saved")) if isinstance(members, dict) else (None, None)
        if not isinstance(revision, str) or not isinstance(saved, bool):
            raise bad_request("revision must be that of the edits, and saved true or false.")
        self.environment.settle_edits(revision, saved=saved)
        return self._whole_state()

    def _say_edits_wait(self, ending: bool) -> None:
        self._send(ENDING if ending else WAITING)

    def _send(self, word: str) -> None:
        if self.environment.edits_address:
            datagrams.send(self.environment.edits_address, self.pod_uid, word)

    def _discard(self, _: Request, __: bytes) -> Answer:
        self.environment.discard_edits()
        self._say_edits_wait(False)  # else an operator that has just taken them would save them before the pod ends
        return self._whole_state()


def _id_of(check: Check) -> str:
    """Return an id of a check's result, independent of how long it took."""
    return json.dumps({**check, "seconds": 0}, sort_keys=True)


def about() -> About:
    """Return the object under `agent` in the protocol."""
    return {"version": VERSION, "protocol": PROTOCOL, "python": ".".join(map(str, sys.version_info[:3]))}


def _parse(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise bad_request("The body is not JSON.") from None


def _run_id(query: str) -> str:
    return dict(part.partition("=")[::2] for part in query.split("&")).get("id", "")


def _wait_for(query: str) -> tuple[int, float]:
    """Return `since` and `wait` of a query string, which has both or neither (0, 0). Raises ApiError."""
    values = dict(part.partition("=")[::2] for part in query.split("&") if part)
    since, wait = values.get("since", ""), values.get("wait", "")
    if not since and not wait:
        return 0, 0
    if not (since.isascii() and since.isdigit() and len(since) < 19):
        raise bad_request("since must be the version of an earlier answer.")
    if not (wait.isascii() and wait.replace(".", "", 1).isdigit() and len(wait) < 19):
        raise bad_request("wait must be a number of seconds.")
    return int(since), min(float(wait), WAIT_LIMIT)
