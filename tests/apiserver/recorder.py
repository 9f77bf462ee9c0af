"""A reverse proxy between the operator and the API server that records every request and injects faults on demand."""

import asyncio
import json
import os
import re
import signal
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import aiohttp
from aiohttp import web

from apiserver.background import Background

WRITING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_PATH = re.compile(
    r"^/apis?(?:/[a-z0-9.-]+)?/v[a-z0-9]+(?:/namespaces/(?P<namespace>[^/]+))?/(?P<plural>[a-z]+)(?:/(?P<name>[^/]+))?(?:/(?P<sub>.+))?$"
)
_OWN_HEADERS = frozenset({"host", "content-length", "transfer-encoding", "connection", "accept-encoding", "content-encoding", "keep-alive"})
GONE = {
    "type": "ERROR",
    "object": {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": 410, "message": "too old"},
}


@dataclass
class Request:
    """A request from the operator. `status` is the API server's response code, or 0 if the request never got there, or not yet."""

    method: str
    path: str
    query: str
    body: bytes
    at: float
    status: int = 0
    seconds: float = 0.0
    namespace: str = ""
    kind: str = ""
    name: str = ""

    @property
    def line(self) -> str:
        """Return a short form such as "PATCH computesessions/status"."""
        return f"{self.method} {self.kind}"

    @property
    def writes(self) -> bool:
        return self.method in WRITING

    @property
    def watches(self) -> bool:
        return "watch" in parse_qs(self.query)

    @property
    def json(self) -> Any:
        return json.loads(self.body or b"null")

    def __str__(self) -> str:
        return f"{self.line} {self.namespace}/{self.name} -> {self.status}"


Effect = Callable[[Request, "Forward"], Awaitable[web.StreamResponse]]
Forward = Callable[[], Awaitable[web.Response]]


@dataclass
class Fault:
    """A fault for the `nth` matching request and the `times - 1` after it."""

    fits: Callable[[Request], bool]
    inject: Effect
    nth: int = 1
    times: int = 1
    seen: int = 0
    done: threading.Event = field(default_factory=threading.Event)
    """Set when the fault has occurred for the last time."""

    def takes(self, request: Request) -> bool:
        if not self.fits(request):
            return False
        self.seen += 1
        return self.nth <= self.seen < self.nth + self.times


class Recorder:
    """Listen on a free port of the loopback, without TLS."""

    def __init__(self, background: Background, *, upstream: str, ca: Path) -> None:
        self._background = background
        self._upstream = upstream
        self._ca = ca
        self._requests: list[Request] = []
        self._faults: list[Fault] = []
        self._watches: dict[asyncio.Task[Any], Request] = {}
        self._held: set[str] = set()
        self.kill: Callable[[], None] = lambda: None
        """Kills the current operator. Set by whoever starts it."""
        self.port = background.run(self._start())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        self._background.run(self._stop())

    def requests(self, namespace: str = "", *, since: int = 0) -> list[Request]:
        """Return all recorded requests in order of arrival."""
        return [r for r in self._requests[since:] if not namespace or r.namespace == namespace]

    def writes(self, namespace: str, *, since: int = 0) -> list[Request]:
        """Return the requests that write to a namespace."""
        return [r for r in self.requests(namespace, since=since) if r.writes]

    def mark(self) -> int:
        """Return a position for `since`."""
        return len(self._requests)

    def inject(self, fits: Callable[[Request], bool], inject: Effect, *, nth: int = 1, times: int = 1) -> Fault:
        """Arm a fault."""
        fault = Fault(fits, inject, nth, times)
        self._faults.append(fault)
        return fault

    def disarm(self) -> None:
        """Disarm all faults and release held watches."""
        self._faults.clear()
        self._held.clear()

    def watching(self, kind: str) -> bool:
        """Return whether the operator has an open watch on this kind."""
        return any(request.kind == kind for request in list(self._watches.values()))

    def cut_watches(self, *kinds: str, hold: bool = False) -> None:
        """Break the open watches of these kinds (plurals) in mid-stream. With `hold`, new ones wait."""
        if hold:
            self._held.update(kinds)
        self._background.run(self._cut(kinds))

    def expire_watches(self, *kinds: str) -> None:
        """Release the held watches: respond 410 Gone to those that want to resume, and let fresh ones through."""
        self._held.difference_update(kinds)

    # The faults.

    async def kill_before(self, request: Request, _: Forward) -> web.StreamResponse:
        """Kill the operator with -9 before the API server sees the request."""
        await asyncio.to_thread(self.kill)
        raise web.HTTPServiceUnavailable

    async def kill_after(self, request: Request, forward: Forward) -> web.StreamResponse:
        """Kill the operator with -9 after the API server carried out the request. The response is lost."""
        await forward()
        await asyncio.to_thread(self.kill)
        raise web.HTTPServiceUnavailable

    @staticmethod
    def answer(status: int, reason: str, message: str, *, headers: dict[str, str] | None = None, details: Any = None) -> Effect:
        """Respond with this Status instead of forwarding the request."""

        async def inject(_: Request, __: Forward) -> web.StreamResponse:
            body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": message, "code": status}
            return web.json_response(body | ({"details": details} if details else {}), status=status, headers=headers)

        return inject

    @staticmethod
    def swallow(status: int = 500) -> Effect:
        """Let the API server carry out the request, but respond with an error."""

        async def inject(_: Request, forward: Forward) -> web.StreamResponse:
            await forward()
            return web.json_response({"kind": "Status", "message": "injected: the answer got lost", "code": status}, status=status)

        return inject

    @staticmethod
    def delay(seconds: float) -> Effect:
        """Forward the request late."""

        async def inject(_: Request, forward: Forward) -> web.StreamResponse:
            await asyncio.sleep(seconds)
            return await forward()

        return inject

    @staticmethod
    def delay_answer(seconds: float) -> Effect:
        """Have the API server carry out the request, and respond late."""

        async def inject(_: Request, forward: Forward) -> web.StreamResponse:
            answer = await forward()
            await asyncio.sleep(seconds)
            return answer

        return inject

    @staticmethod
    def first(work: Callable[[], object]) -> Effect:
        """Have another client act right before the request is forwarded."""

        async def inject(_: Request, forward: Forward) -> web.StreamResponse:
            await asyncio.to_thread(work)
            return await forward()

        return inject

    def kill_after_doing(self, work: Callable[[], object]) -> Effect:
        """Have another client act, then kill the operator. The request is lost."""

        async def inject(_: Request, __: Forward) -> web.StreamResponse:
            await asyncio.to_thread(work)
            await asyncio.to_thread(self.kill)
            raise web.HTTPServiceUnavailable

        return inject

    # The proxy.

    async def _start(self) -> int:
        context = ssl.create_default_context(cafile=str(self._ca))
        self._client = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=context),
            auto_decompress=False,
            skip_auto_headers=("Accept-Encoding", "Content-Type", "User-Agent"),
            timeout=aiohttp.ClientTimeout(total=None),
        )
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        return int(self._runner.addresses[0][1])

    async def _stop(self) -> None:
        for task in list(self._watches):
            task.cancel()
        await self._runner.cleanup()
        await self._client.close()

    async def _cut(self, kinds: tuple[str, ...]) -> None:
        cut = [task for task, request in self._watches.items() if request.kind in kinds]
        for task in cut:
            task.cancel()
        await asyncio.gather(*cut, return_exceptions=True)

    async def _handle(self, raw: web.Request) -> web.StreamResponse:
        request = _described(raw, await raw.read())
        self._requests.append(request)
        if request.watches:
            return await self._stream(raw, request)

        async def forward() -> web.Response:
            return await self._forward(raw, request)

        # Every armed fault counts its matching requests, even if another fault acts on them.
        taking = [fault for fault in self._faults if fault.takes(request)]
        try:
            return await (taking[0].inject(request, forward) if taking else forward())
        finally:
            request.seconds = time.time() - request.at
            for fault in taking[:1]:
                if fault.seen >= fault.nth + fault.times - 1:
                    fault.done.set()

    def _wait_for_release(self, kind: str) -> None:
        while kind in self._held:
            time.sleep(0.02)

    async def _forward(self, raw: web.Request, request: Request) -> web.Response:
        async with self._client.request(
            raw.method, self._upstream + raw.raw_path, headers=_kept(raw.headers), data=request.body or None
        ) as answer:
            body = await answer.read()
            request.status = answer.status
            return web.Response(status=answer.status, body=body, headers=_kept(answer.headers))

    async def _stream(self, raw: web.Request, request: Request) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        if request.kind in self._held:
            await asyncio.to_thread(self._wait_for_release, request.kind)
            if "resourceVersion" in parse_qs(request.query):
                request.status = 410
                return web.Response(body=json.dumps(GONE).encode() + b"\n", content_type="application/json")
        self._watches[task] = request
        try:
            async with self._client.get(self._upstream + raw.raw_path, headers=_kept(raw.headers)) as answer:
                request.status = answer.status
                response = web.StreamResponse(status=answer.status, headers=_kept(answer.headers))
                await response.prepare(raw)
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
                return response
        finally:
            del self._watches[task]


def kill_process(pid: int) -> None:
    """Send SIGKILL and return once the process no longer runs."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    while _alive(pid):
        time.sleep(0.002)


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def _described(raw: web.Request, body: bytes) -> Request:
    found = _PATH.match(raw.path)
    parts = found.groupdict() if found else {}
    kind = parts.get("plural") or raw.path
    if parts.get("sub"):
        kind = f"{kind}/{parts['sub']}"
    return Request(
        method=raw.method,
        path=raw.path,
        query=raw.query_string,
        body=body,
        at=time.time(),
        namespace=parts.get("namespace") or "",
        kind=kind,
        name=parts.get("name") or "",
    )


def _kept(headers: Any) -> list[tuple[str, str]]:
    return list(_headers(headers))


def _headers(headers: Any) -> Iterator[tuple[str, str]]:
    for name, value in headers.items():
        if name.lower() not in _OWN_HEADERS:
            yield name, value
