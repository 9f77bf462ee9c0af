"""Agents for pods that have no container: a fake one whose every answer a test may choose, and the real one as a process."""

import asyncio
import base64
import binascii
import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from aiohttp import web
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from apiserver.background import Background
from apiserver.operator_process import CHECKOUT, environment
from flowsession_agent.server import datagrams
from localcluster.ports import free_port

PORT = 8765
PACKAGES = [
    {"name": "pandas", "version": "2.3.3", "layer": "requirements"},
    {"name": "promptflow", "version": "1.18.5", "layer": "image"},
]


class Agent(Protocol):
    """Serves a pod's address until it is stopped."""

    def start(self, pod: dict[str, Any], ip: str) -> None: ...

    def stop(self) -> None: ...


@dataclass
class Call:
    """One call of the operator."""

    method: str
    path: str
    body: Any
    at: float
    id: str = ""
    """The run that it is about, where the query says so."""


@dataclass
class FakeAgent:
    """Speaks docs/agent-protocol.md: tokens are verified, everything is installed at once, and time alone makes it idle."""

    background: Background
    calls: list[Call] = field(default_factory=list)
    packages: list[dict[str, str]] = field(default_factory=lambda: PACKAGES)
    refused: list[str] = field(default_factory=list)
    """Why tokens were refused."""
    retired_at: float = float("-inf")
    retirement_seconds: float = 30.0
    busy: bool = False
    what: str = "start"
    last_work: float = field(default_factory=time.monotonic)
    environment: dict[str, Any] = field(default_factory=dict)
    source: dict[str, Any] = field(default_factory=lambda: {"state": "Running"})
    """What comes of reading a source, in a pod that reads one."""
    edits: str = ""
    """What was edited in the flow folder, which is its revision too."""
    restored: bool = False
    verdict: str = ""
    """What its check of the flow comes to; empty: it knows no checks."""
    problems: list[dict[str, Any]] = field(default_factory=list)
    check_seconds: float = 0.5
    """How long a check takes, from each new environment on."""
    told: list[float] = field(default_factory=list)
    """When it was told an environment."""
    instead: Any = None
    """Answers instead: bytes, a document, or a function of the Call that returns either or None."""
    runs: dict[str, Any] = field(default_factory=dict)
    """What it tells of each run, by id; one that is ordered begins as Running, and stays so until a test says otherwise."""
    gone_on: set[str] = field(default_factory=set)
    """The runs that were lost with an earlier container and went on."""
    outputs: bytes = b""
    """What it keeps of a run that is over; empty: more than can be kept."""
    silent: bool = False
    """Never answers."""
    ahead: float = 0.0
    """Seconds by which its clock is ahead."""

    @property
    def retired(self) -> bool:
        """New work is accepted again by itself after a while."""
        return time.monotonic() - self.retired_at < self.retirement_seconds

    @retired.setter
    def retired(self, value: bool) -> None:
        self.retired_at = time.monotonic() if value else float("-inf")

    def start(self, pod: dict[str, Any], ip: str) -> None:
        self.belong_to(pod)
        self.background.run(self._start(ip))

    def belong_to(self, pod: dict[str, Any]) -> None:
        """Takes over what a pod tells its agent."""
        self.pod_uid = pod["metadata"]["uid"]
        env = {e["name"]: e.get("value", "") for e in pod["spec"]["containers"][0]["env"]}
        self._keys = {key["kid"]: _public_key(key) for key in json.loads(env["FLOWSESSION_PUBLIC_KEYS"])["keys"]}

    def stop(self) -> None:
        self.background.run(self._runner.cleanup())

    def say(self, word: str) -> None:
        """Sends the operator a datagram."""
        datagrams.send(self.environment.get("editsAddress", ""), self.pod_uid, word)

    def lines(self) -> list[str]:
        return [f"{call.method} {call.path}" for call in self.calls]

    def state(self) -> dict[str, Any]:
        idle = 0 if self.busy else round(max(0.0, time.monotonic() - self.last_work), 1)
        revision = self.environment.get("packagesRevision", "")
        return {
            "podUID": self.pod_uid,
            "agent": {"version": "0.1.0", "protocol": 1, "python": "3.11.2"},
            "bootID": f"boot-{id(self)}",
            "version": self.version,
            "environment": {"packagesRevision": revision, "flowRevision": self.environment.get("flowRevision", "")},
            "install": {
                "state": "Succeeded" if revision else "None",
                "packagesRevision": revision,
                "tool": "",
                "exitCode": 0,
                "seconds": 0,
            },
            "activity": {"busy": self.busy, "idleSeconds": idle, "what": self.what},
            "packages": {"count": len(self.packages)},
            "edits": {
                "count": int(bool(self.edits)),
                "files": ["a.py"] * bool(self.edits),
                "revision": self.edits,
                "restored": self.restored,
            },
            "retired": self.retired,
        } | ({"check": self._check()} if self.verdict else {})

    @property
    def version(self) -> int:
        return 7 + 2 * len(self.told) + (self._checking is False)

    @property
    def _checking(self) -> bool | None:
        return time.monotonic() - self.told[-1] < self.check_seconds if self.verdict and self.told else None

    def _check(self) -> dict[str, Any]:
        over = not self._checking
        return {
            "state": "Done" if over else "Running",
            "flowRevision": self.environment.get("flowRevision", ""),
            "packagesRevision": self.environment.get("packagesRevision", ""),
            "verdict": self.verdict if over else "",
            "problems": self.problems if over else [],
            "count": len(self.problems) if over else 0,
            "nodes": 2,
        }

    async def _start(self, ip: str) -> None:
        app = web.Application(client_max_size=16 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, ip, PORT).start()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        if request.path == "/healthz":  # without a token, which would tell the pod's uid
            self.calls.append(Call(request.method, request.path, None, time.time()))
            return web.json_response({"ok": True, "podUID": self.pod_uid})
        if problem := self._problem(request.headers.get("X-Flowsession-Token", "")):
            self.refused.append(problem)
            refusal = {"podUID": self.pod_uid, "code": problem, "message": problem, "now": int(time.time() + self.ahead)}
            return web.json_response(refusal, status=401)
        call = Call(request.method, request.path, json.loads(raw) if raw else None, time.time(), request.query.get("id", ""))
        self.calls.append(call)
        if self.silent:
            await asyncio.sleep(3600)
        instead = self.instead(call) if callable(self.instead) else self.instead
        if isinstance(instead, web.StreamResponse):
            return instead
        if isinstance(instead, bytes):
            return web.Response(body=instead, content_type="application/json")
        if instead is not None:
            return web.json_response(instead)
        until = time.monotonic() + float(request.query.get("wait", "0"))
        while call.id in self.runs and self.runs[call.id]["version"] <= int(request.query.get("since", "-1")) and time.monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        while self._checking is not None and self.version <= int(request.query.get("since", "-1")) and time.monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        status, document = self._about_run(call) if call.path.startswith("/v1/runs") else self._answer(call)
        return web.json_response({"podUID": self.pod_uid, **document}, status=status)

    def _answer(self, call: Call) -> tuple[int, dict[str, Any]]:  # noqa: PLR0911 - one for each call
        match call.method, call.path:
            case "PUT", "/v1/environment":
                if self.retired and call.body["packagesRevision"] != self.environment.get("packagesRevision"):
                    return 409, {"code": "Retired", "message": "retired"}
                if earlier := call.body.get("savedEdits"):
                    self.edits, self.restored = base64.b64decode(earlier["archive"]).decode(), True
                self.environment = call.body
                self.told.append(time.monotonic())
            case "GET", "/v1/edits" if self.edits:
                archive = base64.b64encode(self.edits.encode()).decode()
                flow = self.environment["flowRevision"]
                return 200, {"revision": self.edits, "flowRevision": flow, "files": ["a.py"], "deleted": [], "archive": archive}
            case "GET", "/v1/edits":
                return 404, {"code": "NoEdits", "message": "no edits"}
            case "PUT", "/v1/source":
                return 200, self.source
            case "GET", "/v1/packages":
                return 200, {"packages": self.packages}
            case "POST", "/v1/retire":
                activity = self.state()["activity"]
                if not self.retired and (activity["busy"] or activity["idleSeconds"] < call.body["idleAtLeast"]):
                    return 409, {"code": "InUse", "message": f"in use: {self.what}", "activity": activity}
                self.retired = True
            case "DELETE", "/v1/retire":
                self.retired = False
            case "GET", "/v1/state":
                pass
            case _:
                return 404, {"code": "NotFound", "message": call.path}
        return 200, self.state()

    def tell_of_run(self, **members: Any) -> None:
        """What it tells from now on of the one run that goes on."""
        (run,) = [run for run in self.runs.values() if run["state"] == "Running"]
        run.update(members, version=run["version"] + 1)

    def _about_run(self, call: Call) -> tuple[int, dict[str, Any]]:
        name = call.body["id"] if call.body else call.id
        if call.method == "PUT" and name not in self.runs:
            lines = {"total": 0, "completed": 0, "failed": 0}
            self.runs[name] = {"id": name, "state": "Running", "version": 1, "lines": lines}
        run = self.runs.get(name)
        if run is None:
            return 404, {"code": "NoRun", "message": "no such run"}
        if call.method == "PUT" and call.body.get("again") and run["state"] == "Lost" and name not in self.gone_on:
            self.gone_on.add(name)
            run.update(state="Running", version=run["version"] + 1)
        if call.path.endswith("/outputs"):
            if not self.outputs:
                return 413, {"code": "TooLarge", "message": "its outputs have 50,000,000 bytes"}
            return 200, {"id": name, "archive": base64.b64encode(self.outputs).decode()}
        if call.method == "DELETE":
            run.update(state="Canceled", version=run["version"] + 1)
        return 200, run

    def _problem(self, token: str) -> str:
        """Why a token is no good, empty when it is."""
        try:
            head, claims, signature = token.split(".")
            header, claimed = json.loads(_decoded(head)), json.loads(_decoded(claims))
            self._keys[header["kid"]].verify(_decoded(signature), f"{head}.{claims}".encode(), padding.PKCS1v15(), hashes.SHA256())
        except (ValueError, KeyError, binascii.Error, InvalidSignature):
            return "TokenInvalid"
        if claimed["aud"] != self.pod_uid:
            return "TokenNotForThisPod"
        clock = time.time() + self.ahead
        return "" if claimed["iat"] - 30 <= clock < claimed["exp"] <= claimed["iat"] + 60 else "TokenExpired"


class NoAgent:
    """Nothing listens."""

    def start(self, pod: dict[str, Any], ip: str) -> None:
        """The container runs, and that is all."""

    def stop(self) -> None:
        """Nothing to end."""


class RealAgent:
    """operator/flowsession_agent as a process. It listens on every address, so it gets a port of its own and a relay at the pod's."""

    def __init__(self, background: Background, folder: Path, *, prefix: Sequence[str] = ()) -> None:
        """`prefix` wraps its command, e.g. in a pid namespace of its own."""
        self._background = background
        self._prefix = prefix
        self.home = folder / "home"
        self.log = folder / "agent.log"
        self.credentials: Path | None = None
        """What stands for the mounted Secret."""
        self._process: subprocess.Popen[bytes] | None = None
        self._server: asyncio.Server | None = None

    def start(self, pod: dict[str, Any], ip: str) -> None:
        env = {e["name"]: e.get("value", "") for e in pod["spec"]["containers"][0]["env"]}
        self._port = free_port()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._prefix, sys.executable, "-m", "flowsession_agent"],
                env=environment(
                    FLOWSESSION_HOME=str(self.home),
                    FLOWSESSION_POD_UID=pod["metadata"]["uid"],
                    FLOWSESSION_PUBLIC_KEYS=env["FLOWSESSION_PUBLIC_KEYS"],
                    FLOWSESSION_PORT=str(self._port),
                    FLOWSESSION_RESOLVER=env.get("FLOWSESSION_RESOLVER", ""),
                    FLOWSESSION_CREDENTIALS=str(self.credentials or env.get("FLOWSESSION_CREDENTIALS", "")),
                ),
                cwd=CHECKOUT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - one prctl, and threads here hold no lock that it needs
            )
        self._server = self._background.run(asyncio.wait_for(self._listen(ip), 5))

    @property
    def child(self) -> int:
        """The pid, here, of what the prefix started."""
        assert self._process is not None
        return int(Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()[0])

    def stop(self) -> None:
        if self._server is not None:
            self._background.loop.call_soon_threadsafe(self._server.close)
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    async def _listen(self, ip: str) -> asyncio.Server:
        return await asyncio.start_server(self._relay, ip, PORT)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            writer.transport.abort()
            return
        await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _public_key(key: dict[str, str]) -> rsa.RSAPublicKey:
    number = int.from_bytes(_decoded(key["n"]), "big")
    return rsa.RSAPublicNumbers(int.from_bytes(_decoded(key["e"]), "big"), number).public_key()


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
