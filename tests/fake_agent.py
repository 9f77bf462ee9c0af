"""How an agent behaves, by docs/agent-protocol.md: work, installs, checks, edits, runs, retirement. The test bed brings the calls.

Nothing here waits: a test bed ends installs (`finish_install`), checks (`finish_check`) and long polls (by `version`) when its own clock
says so.
"""

import base64
import itertools
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, cast

from flowsession_protocol import messages

Object = dict[str, Any]
Reply = tuple[int, Mapping[str, Any]]
"""HTTP status and document."""

_BOOTS = itertools.count(1)


@dataclass
class FakeAgent:
    """The agent of one container."""

    clock: Callable[[], float]
    _: KW_ONLY
    uid: str = ""
    """uid of its pod."""
    volume: Object = field(default_factory=dict)
    """What outlives the container: revisions (`packages`, `flow`), and the content of `edits` with its time and origin."""
    version: int = 1
    busy: bool = False
    what: str = "start"
    last_work: float = float("nan")
    installs: list[str] = field(default_factory=list)
    """Texts of the requirements whose install was at least begun."""
    install: messages.Install = field(default_factory=lambda: _install("None"))
    settled: str = ""
    """Revision of the edits that the operator has dealt with."""
    let_go: bool = False
    """Whether `flow edits --discard` was run."""
    too_large: bool = False
    """Whether its edits exceed what can be saved."""
    unheard: bool = False
    """Whether none of its datagrams reached the operator."""
    kept: tuple[str, ...] = ()
    left_out: int = 0
    packages: list[Object] = field(default_factory=lambda: [{"name": "numpy", "version": "2.1", "layer": "image", "requiredBy": []}])
    source: Object = field(default_factory=lambda: {"state": "Running"})
    """Result of reading a source, in a pod that reads one."""
    verdict: str = ""
    """Verdict of its check of the flow, or empty if it checks nothing."""
    problems: list[Object] = field(default_factory=list)
    """Problems that its check finds."""
    checking: bool = False
    runs: dict[str, Object] = field(default_factory=dict)
    """What it reports of each run, by id. An ordered run begins as Running, and stays so until a test changes it."""
    resumed_runs: set[str] = field(default_factory=set)
    """Ids of the runs that were lost with an earlier container and were resumed."""
    outputs: bytes = b""
    """Outputs that it kept of a finished run, or empty if they exceed what can be kept."""
    order: Object = field(default_factory=dict)
    """The last order of an environment that it received."""
    retired_at: float | None = None
    retirement_seconds: float = 30.0
    """Seconds after which a retired agent accepts work again unless it is retired anew."""
    boot: str = field(default_factory=lambda: f"boot-{next(_BOOTS)}")

    def __post_init__(self) -> None:
        self.last_work = self.clock()

    # what people do

    def work(self, what: str = "exec python train.py") -> bool:
        """Begin to work. Return False if the agent is retired."""
        if self.retired:
            return False
        self.busy, self.what, self.last_work = True, what, self.clock()
        return True

    def rest(self) -> None:
        """End the work."""
        if self.busy:
            self.busy, self.last_work = False, self.clock()

    def edit(self, content: str) -> None:
        """Change a file of the flow folder, if there is a folder. Empty content reverts the change."""
        if self.volume.get("flow", "none") != "none" and not self.retired:
            self.last_work = self.clock()
            self.volume["edits"], self.volume["edited_at"] = content, self.clock()

    def finish_install(self, code: str = "", *, seconds: float = 3.0) -> None:
        """End the running install, as failed if a code of the protocol is given."""
        if self.install["state"] != "Running":
            return
        self.last_work, self.what = self.clock(), "install"
        revision, tool = self.install["packagesRevision"], self.install["tool"]
        if code:
            self.install = _install("Failed", revision, tool=tool, code=code, message="there is no such package")
        else:
            self.install = _install("Succeeded", revision, tool=tool, seconds=seconds, changed=2)
            self.volume["packages"] = revision
        self.changed()

    def finish_check(self) -> None:
        """End the running check."""
        if self.checking:
            self.checking = False
            self.changed()

    def change_run(self, **members: Any) -> None:
        """Change what it reports of the only running run."""
        (run,) = [run for run in self.runs.values() if run["state"] == "Running"]
        run.update(members, version=run["version"] + 1)

    # state

    @property
    def edits(self) -> str:
        """Content of the changed file, which is also the edits' revision. Empty if nothing was changed."""
        return str(self.volume.get("edits", ""))

    @property
    def restored(self) -> bool:
        """Whether edits of an earlier pod were restored."""
        return bool(self.volume.get("restored", False))

    @property
    def working(self) -> bool:
        return self.busy or self.install["state"] == "Running"

    @property
    def idle_seconds(self) -> float:
        return 0.0 if self.working else self.clock() - self.last_work

    @property
    def retired(self) -> bool:
        if self.retired_at is not None and self.clock() - self.retired_at >= self.retirement_seconds:
            self._reopen()
        return self.retired_at is not None

    @property
    def waiting(self) -> bool:
        """Whether it has edits that, as far as it knows, nobody has saved."""
        return bool(self.edits) and not self.let_go and self.edits not in (self.settled, self.volume.get("came"))

    def changed(self) -> None:
        """Wake long polls."""
        self.version += 1

    def install_begins(self) -> None:
        """Called when an install starts, whatever ran before."""

    def check_begins(self) -> None:
        """Called when a check starts, whatever ran before."""

    # calls

    def reply(self, method: str, path: str, body: Any = None, *, run: str = "") -> Reply:
        """Answer a call whose token is valid. `run`: the id in its query."""
        status, document = self._of_runs(method, path, body, run) if path.startswith("/v1/runs") else self._reply(method, path, body)
        return status, {"podUID": self.uid, **document}

    def _reply(self, method: str, path: str, body: Any) -> Reply:  # noqa: C901, PLR0911, PLR0912 - one branch for each call
        match method, path:
            case "GET", "/v1/state":
                pass
            case "PUT", "/v1/environment":
                if refusal := self._take_order(body):
                    return refusal
            case "POST", "/v1/retire":
                if self.working or self.idle_seconds < body["idleAtLeast"]:
                    self._reopen()
                    return 409, {"code": "InUse", "message": self.what, "activity": self._activity()}
                if not self.retired:
                    self.changed()
                self.retired_at = self.clock()
            case "DELETE", "/v1/retire":
                self._reopen()
            case "POST", "/v1/keepalive":
                if self.retired:
                    return _RETIRED
                self.last_work, self.what = self.clock(), "keep-alive"
            case "POST", "/v1/edits/settle":
                self.settled = body["revision"]
            case "GET", "/v1/edits":
                return self._packed_edits()
            case "GET", "/v1/packages":
                return 200, {"packages": self.packages}
            case "PUT", "/v1/source":
                return 200, self.source
            case _:
                raise AssertionError(f"no such call: {method} {path}")
        return 200, self.state()

    def _of_runs(self, method: str, path: str, body: Any, run_id: str) -> Reply:
        name = body["id"] if body else run_id
        if method == "PUT" and name not in self.runs:
            self.runs[name] = {"id": name, "state": "Running", "version": 1, "lines": {"total": 0, "completed": 0, "failed": 0}}
        run = self.runs.get(name)
        if run is None:
            return 404, {"code": "NoRun", "message": "no such run"}
        if method == "PUT" and body.get("again") and run["state"] == "Lost" and name not in self.resumed_runs:
            self.resumed_runs.add(name)
            run.update(state="Running", version=run["version"] + 1)
        if path.endswith("/outputs"):
            if not self.outputs:
                return 413, {"code": "TooLarge", "message": "its outputs have 50,000,000 bytes"}
            return 200, {"id": name, "archive": base64.b64encode(self.outputs).decode()}
        if method == "DELETE":
            run.update(state="Canceled", version=run["version"] + 1)
        return 200, run

    def state(self) -> messages.State:
        edits = self.edits
        flow, packages = self.volume.get("flow", ""), self.volume.get("packages", "")
        return {
            "podUID": self.uid,
            "agent": {"version": "0.1.0", "protocol": 1, "python": "3.11.2"},
            "bootID": self.boot,
            "version": self.version,
            "environment": {"packagesRevision": packages, "flowRevision": flow},
            "install": self.install.copy(),
            "check": self._check(),
            "packages": {"count": len(self.packages)},
            "retired": self.retired,
            "activity": self._activity(),
            "edits": {
                "count": int(bool(edits)),
                "files": ["a.py"] if edits else [],
                "bytes": len(edits),
                "revision": "" if self.let_go else edits,
                "offered": "" if self.volume.get("restored") else self.volume.get("offered", ""),
                "restored": self.restored,
                "waiting": self.waiting,
                "unheard": self.unheard,
                "kept": list(self.kept),
                "leftOut": self.left_out,
            },
        }

    def _activity(self) -> messages.Activity:
        what = "install" if self.install["state"] == "Running" else self.what
        return {"busy": self.working, "idleSeconds": self.idle_seconds, "what": what}

    def _check(self) -> messages.Check:
        if not self.verdict or not self.order:
            return _NO_CHECK
        of = {"flowRevision": self.order["flowRevision"], "packagesRevision": self.order["packagesRevision"], "nodes": 2}
        if self.checking:
            return cast(messages.Check, _NO_CHECK | of | {"state": "Running"})
        found = {"state": "Done", "verdict": self.verdict, "problems": self.problems, "count": len(self.problems)}
        return cast(messages.Check, _NO_CHECK | of | found)

    def _packed_edits(self) -> Reply:
        content = self.edits
        if not content or self.let_go:
            return 404, {"code": "NoEdits", "message": "nothing was edited"}
        if self.too_large:
            return 413, {"code": "EditsTooLarge", "message": "2 MB are too much; see flow edits"}
        archive: messages.EditsArchive = {
            "revision": content,
            "flowRevision": self.volume["flow"],
            "files": ["a.py"],
            "deleted": [],
            "base": {},
            "archive": base64.b64encode(content.encode()).decode(),
        }
        return 200, archive

    def _reopen(self) -> None:
        if self.retired_at is not None:
            self.retired_at = None
            self.changed()

    def _take_order(self, order: messages.Order) -> Reply | None:
        packages, flow = order["packagesRevision"], order["flowRevision"]
        if self.retired and (packages, flow) != (self.volume.get("packages"), self.volume.get("flow")):
            return _RETIRED
        if any(len(name) > 255 for name in order["files"] or ()):
            return 400, {"code": "BadRequest", "message": "files: a name must be a relative path"}
        self.order = cast(Object, order)
        if (earlier := order.get("savedEdits")) and "flow" not in self.volume and flow != "none":
            self._restore(earlier, flow)
        if flow != self.volume.get("flow"):
            self.volume["flow"], self.last_work = flow, self.clock()
            self.changed()
        tried = self.install["packagesRevision"] == packages and not (order.get("retry") and self.install["state"] == "Failed")
        if packages == self.volume.get("packages"):
            if self.install["packagesRevision"] != packages:  # the other install is stopped, and the earlier success is reported again
                self.install = _install("Succeeded", packages, tool=self.install["tool"])
                self.changed()
        elif not tried:
            self._begin_install(packages, order["requirements"])
        if self.verdict:
            self.checking = True
            self.check_begins()
            self.changed()
        return None

    def _restore(self, earlier: messages.SavedEdits, flow: str) -> None:
        self.volume["offered"] = earlier["name"]
        if earlier["flowRevision"] == flow:
            content = base64.b64decode(earlier["archive"]).decode()
            self.volume |= {"edits": content, "came": content, "edited_at": self.clock(), "restored": True}

    def _begin_install(self, packages: str, requirements: messages.Requirements | None) -> None:
        self.last_work = self.clock()
        if requirements is None:
            self.install = _install("Succeeded", packages)
            self.volume["packages"] = packages
        else:
            self.installs.append(requirements["text"])
            self.install = _install("Running", packages, tool="uv")
            self.install_begins()
        self.changed()


_RETIRED: Reply = (409, {"code": "Retired", "message": "retired"})
_NO_CHECK: messages.Check = {
    "state": "None", "flowRevision": "", "packagesRevision": "", "verdict": "", "reason": "", "nodes": None,
    "count": 0, "problems": [], "warnings": [], "seconds": 0.0,
}  # fmt: skip


def _install(
    state: str, revision: str = "", *, tool: str = "", seconds: float = 0.0, changed: int = 0, code: str = "", message: str = ""
) -> messages.Install:
    return {
        "state": state,
        "packagesRevision": revision,
        "tool": tool,
        "exitCode": 1 if code else 0,
        "seconds": seconds,
        "changed": changed,
        "code": code,
        "message": message,
        "stdoutTail": "",
        "stderrTail": "",
        "warnings": [],
    }
