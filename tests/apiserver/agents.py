"""Agents for pods that have no container: a fake one whose responses a test can replace, and the real one as a process."""

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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from aiohttp import web
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from apiserver.background import Background
from apiserver.operator_process import CHECKOUT, environment
from apiserver.relay import Relay
from fake_agent import FakeAgent, Object
from flowsession_agent.server import datagrams
from localcluster.ports import free_port

PORT = 8765
PACKAGES = [
    {"name": "pandas", "version": "2.3.3", "layer": "requirements"},
    {"name": "promptflow", "version": "1.18.5", "layer": "image"},
]


class Agent(Protocol):
    """Serve a pod's address until stopped."""

    def start(self, pod: Object, ip: str) -> None: ...

    def stop(self) -> None: ...


@dataclass
class Call:
    """A request from the operator."""

    method: str
    path: str
    body: Any
    at: float
    id: str = ""
    """The run that the request is about, if its query names one."""


@dataclass
class HttpAgent(FakeAgent):
    """A fake agent at a pod's address. It verifies tokens and installs packages at once."""

    waits_for_news: ClassVar[bool] = True
    """Whether its long polls wait."""
    background: Background = field(kw_only=True)
    clock: Callable[[], float] = field(default=time.monotonic, kw_only=True)
    packages: list[Object] = field(default_factory=lambda: PACKAGES)
    calls: list[Call] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    """Reasons for which tokens were refused."""
    check_seconds: float = 0.5
    """Seconds that a check takes. Each new environment starts a check."""
    instead: Any = None
    """Replacement for its responses: bytes, a document, or a function of the Call that returns either or None."""
    silent: bool = False
    """Whether it never responds."""
    ahead: float = 0.0
    """Seconds by which its clock is ahead."""
    _check_timer: asyncio.TimerHandle | None = field(default=None, init=False)

    def start(self, pod: Object, ip: str) -> None:
        self.belong_to(pod)
        self.background.run(self._start(ip))

    def belong_to(self, pod: Object) -> None:
        """Take the uid and public keys from the pod."""
        self.uid = pod["metadata"]["uid"]
        env = {e["name"]: e.get("value", "") for e in pod["spec"]["containers"][0]["env"]}
        self._keys = {key["kid"]: _public_key(key) for key in json.loads(env["FLOWSESSION_PUBLIC_KEYS"])["keys"]}

    def stop(self) -> None:
        self.background.run(self._runner.cleanup())

    def send(self, word: str) -> None:
        """Send the operator a datagram."""
        datagrams.send(self.order.get("editsAddress", ""), self.uid, word)

    def lines(self) -> list[str]:
        return [f"{call.method} {call.path}" for call in self.calls]

    def install_begins(self) -> None:
        self.finish_install(seconds=0.0)

    def check_begins(self) -> None:
        if self._check_timer is not None:
            self._check_timer.cancel()
        self._check_timer = asyncio.get_running_loop().call_later(self.check_seconds, self.finish_check)

    def is_for(self, request: web.Request) -> bool:
        """Return whether the request is meant for this agent's pod."""
        return self._problem(request.headers.get("X-Flowsession-Token", "")) != "TokenNotForThisPod"

    async def _start(self, ip: str) -> None:
        app = web.Application(client_max_size=16 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self.handle)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, ip, PORT).start()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Respond to the operator."""
        raw = await request.read()
        if request.path == "/healthz":  # no token, since a token would name the pod's uid
            self.calls.append(Call(request.method, request.path, None, time.time()))
            return web.json_response({"ok": True, "podUID": self.uid})
        if problem := self._problem(request.headers.get("X-Flowsession-Token", "")):
            self.refused.append(problem)
            refusal = {"podUID": self.uid, "code": problem, "message": problem, "now": int(time.time() + self.ahead)}
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
        since, until = int(request.query.get("since", "-1")), time.monotonic() + float(request.query.get("wait", "0"))
        while self.waits_for_news and self._version_of(call) <= since and time.monotonic() < until:  # noqa: ASYNC110 - tests change it from their own thread
            await asyncio.sleep(0.02)
        status, document = self.reply(call.method, call.path, call.body, run=call.id)
        return web.json_response(document, status=status)

    def _version_of(self, call: Call) -> int:
        return int(self.runs[call.id]["version"]) if call.id in self.runs else self.version

    def _problem(self, token: str) -> str:
        """Return why a token is refused, or an empty string."""
        try:
            head, claims, signature = token.split(".")
            header, claimed = json.loads(_decoded(head)), json.loads(_decoded(claims))
            self._keys[header["kid"]].verify(_decoded(signature), f"{head}.{claims}".encode(), padding.PKCS1v15(), hashes.SHA256())
        except (ValueError, KeyError, binascii.Error, InvalidSignature):
            return "TokenInvalid"
        if claimed["aud"] != self.uid:
            return "TokenNotForThisPod"
        clock = time.time() + self.ahead
        return "" if claimed["iat"] - 30 <= clock < claimed["exp"] <= claimed["iat"] + 60 else "TokenExpired"


class NoAgent:
    """A pod with nothing listening."""

    def start(self, pod: Object, ip: str) -> None:
        """Do nothing: the container runs without an agent."""

    def stop(self) -> None:
        """Do nothing."""


class RealAgent:
    """operator/flowsession_agent as a process. It listens on every address, so it gets its own port and a relay at the pod's."""

    def __init__(self, background: Background, folder: Path, *, prefix: Sequence[str] = ()) -> None:
        """Prepare the process. `prefix` wraps its command, e.g. in a new pid namespace."""
        self._prefix = prefix
        self.home = folder / "home"
        self.log = folder / "agent.log"
        self.credentials: Path | None = None
        """The folder in place of the mounted Secret."""
        self._process: subprocess.Popen[bytes] | None = None
        self._port = free_port()
        self._relay = Relay(background, self._port)

    def start(self, pod: Object, ip: str) -> None:
        env = {e["name"]: e.get("value", "") for e in pod["spec"]["containers"][0]["env"]}
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
        self._relay.start(ip, PORT)

    @property
    def child(self) -> int:
        """Return the pid, in this namespace, of the process that the prefix started."""
        assert self._process is not None
        return int(Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()[0])

    def stop(self) -> None:
        self._relay.cut()
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _public_key(key: dict[str, str]) -> rsa.RSAPublicKey:
    number = int.from_bytes(_decoded(key["n"]), "big")
    return rsa.RSAPublicNumbers(int.from_bytes(_decoded(key["e"]), "big"), number).public_key()


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
