"""Calls to the agent in a session's pod, by docs/agent-protocol.md. Whatever it answers is hostile input: all of it is capped."""

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Any, Protocol

import aiohttp

from flowsession import metrics
from flowsession.cluster import answers, errors, sourceanswers
from flowsession.cluster.feeds import FeedCredentials
from flowsession.cluster.gateway import KubernetesCluster, capped
from flowsession.cluster.tokens import Signer
from flowsession.decide.agentviews import AgentState, EditsArchive, PackageList, SourceAnswer
from flowsession.decide.plan import AgentCall, Follow, KeepAlive, ListPackages, Look, ReadSource, Reopen, Retire, Settle, TakeEdits, Tell
from flowsession.decide.pod import AGENT_PORT
from flowsession.decide.views import PodView

CALL_SECONDS = 10.0
POLL_SECONDS = 30.0
LARGEST_STATE = 256 * 1024
"""Bytes of an answer with a state; its longest texts, every character escaped, come to half of that."""
LARGEST_LIST = 2 * 1024 * 1024
"""Bytes of an answer with a list; one of 20,000 packages has as many."""
YOUNG_SECONDS = 1.0
"""How long a refused connection is tried again at once: the agent's own start takes some hundredths of a second."""
YOUNG_PAUSE = 0.015

_CODES_OF_REFUSAL = frozenset({400, 413})
_TELLING = frozenset({(409, "InUse", Retire), (409, "Retired", KeepAlive)})
"""Refusals that say something about the state."""


class AgentError(Exception):
    """No usable answer from the agent; the text says why, in words for a condition."""


class AgentRefused(AgentError):
    """The agent understood and will not have it: asking the same again is of no use."""


@dataclass(frozen=True)
class Answer:
    """What a call brought: a state, or a list of packages."""

    state: AgentState | None = None
    packages: PackageList | None = None
    edits: EditsArchive | None = None
    source: SourceAnswer | None = None


@dataclass(frozen=True)
class Request:
    """What goes to an agent, and what may come back."""

    method: str
    path: str
    body: dict[str, Any] | None = field(default=None, repr=False)
    """May hold a token."""
    timeout_seconds: float = CALL_SECONDS
    largest: int = LARGEST_STATE
    """Bytes of the answer at most: it is held in the operator's memory, which is everybody's."""


class Transport(Protocol):
    """Brings a request to the agent's port."""

    async def send(self, pod: PodView, request: Request, headers: dict[str, str]) -> tuple[int, bytes]:
        """HTTP status and body. Raises AgentError if there is none, or too much of it."""


class DirectTransport:
    """By the pod's address; works inside the cluster."""

    def __init__(self) -> None:
        # No connection outlives its call: ten thousand settled sessions must not hold ten thousand sockets.
        # Nothing is unpacked: a kilobyte may become a megabyte that way.
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            headers={"Accept-Encoding": "identity"},
            auto_decompress=False,
            trust_env=False,
        )

    async def close(self) -> None:
        await self._http.close()

    async def send(self, pod: PodView, request: Request, headers: dict[str, str]) -> tuple[int, bytes]:
        host = f"[{pod.ip}]" if ":" in pod.ip else pod.ip
        try:
            async with self._http.request(
                request.method,
                f"http://{host}:{AGENT_PORT}{request.path}",
                json=request.body,
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=request.timeout_seconds, connect=3.0),
            ) as response:
                return response.status, await capped(response, request.largest)
        except aiohttp.ClientConnectorError as error:
            raise _NotListening(f"no connection to {pod.ip}: {error.strerror or error}") from error
        except errors.TooLarge as error:
            raise AgentError(f"its answer {error}") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise AgentError(f"no answer from {pod.ip}: {error or type(error).__name__}") from error


class ProxyTransport:
    """Through the API server; works from anywhere that KUBECONFIG works."""

    def __init__(self, cluster: KubernetesCluster) -> None:
        self._cluster = cluster

    async def close(self) -> None:
        """The connection is the cluster's own."""

    async def send(self, pod: PodView, request: Request, headers: dict[str, str]) -> tuple[int, bytes]:
        try:
            status, answer = await self._cluster.proxy(
                request.method,
                pod.namespace,
                pod.name,
                AGENT_PORT,
                request.path,
                request.body,
                headers,
                timeout_seconds=request.timeout_seconds,
                largest=request.largest,
            )
        except errors.TooLarge as error:
            raise AgentError(f"its answer {error}") from error
        except errors.ClusterError as error:
            raise AgentError(str(error)) from error
        if status in (502, 503):
            raise _NotListening(f"the API server can't reach pod {pod.name}: {answer.decode(errors='replace')[:200]}")
        return status, answer


class AgentClient:
    """Carries out a plan's calls."""

    def __init__(self, transport: Transport, signer: Signer) -> None:
        self._transport = transport
        self._signer = signer
        self._clock_offsets: dict[str, float] = {}

    async def call(self, pod: PodView, call: AgentCall, feed: FeedCredentials | None = None) -> Answer:
        """One call; `feed` goes with a Tell. Raises AgentError."""
        request = _request_of(call, feed)
        started = time.perf_counter()
        outcome = "failed"
        try:
            status, document = await self._send(pod, request)
            outcome = str(status)
        finally:
            if not isinstance(call, Follow):
                metrics.agent_calls.labels(type(call).__name__, outcome).observe(time.perf_counter() - started)
        if isinstance(call, TakeEdits) and status in (200, 404, 413):
            # The state follows, for the revision that edits that can't be had would have. An agent too old to know edits has none to give.
            edits, was = document, status
            status, document = await self._send(pod, Request("GET", "/v1/state"))
            if status == 200:
                told = answers.state(document)
                return Answer(state=told, edits=answers.edits(edits, was, revision=told.edits.revision))
        if status in _CODES_OF_REFUSAL:
            raise AgentRefused(answers.text(document.get("message"), 500) or f"HTTP {status}")
        if isinstance(call, ListPackages) and status == 200:
            return Answer(packages=answers.packages(document))
        if isinstance(call, ReadSource) and status == 200:
            return Answer(source=sourceanswers.source(document))
        if (status, document.get("code"), type(call)) in _TELLING:
            # The whole state follows, so that the door's position is known too.
            status, document = await self._send(pod, Request("GET", "/v1/state"))
        if status != 200:
            raise AgentError(f"HTTP {status}: {answers.text(document.get('message'), 300)}")
        state = answers.state(document)
        if isinstance(call, Tell) and not state.packages_revision and state.install.state == "None":
            raise AgentError("its answer says neither what is installed nor what is being installed")
        return Answer(state=state)

    async def _send(self, pod: PodView, request: Request) -> tuple[int, dict[str, Any]]:
        give_up_at, relearned = time.monotonic() + YOUNG_SECONDS, False
        while True:
            headers = {"X-Flowsession-Token": self._signer.token(pod.uid, clock_offset=self._clock_offsets.get(pod.uid, 0.0))}
            try:
                status, raw = await self._transport.send(pod, request, headers)
            except _NotListening:
                if time.monotonic() >= give_up_at:
                    raise
                await asyncio.sleep(YOUNG_PAUSE)
                continue
            document = _parsed(raw)
            if status == 401 and document.get("code") == "TokenExpired" and not relearned:
                # Once in each call: a clock that was wrong may have been set right since.
                self._clock_offsets[pod.uid] = answers.number(document.get("now")) - time.time()
                relearned = True
                continue
            if status == 200 and document.get("podUID") != pod.uid:
                raise AgentError(f"the answer from {pod.ip} is another pod's; the address has moved on")
            return status, document

    def forget(self, pod_uid: str) -> None:
        """Drops what is remembered of a pod that is gone."""
        self._clock_offsets.pop(pod_uid, None)


class _NotListening(AgentError):
    """Nothing listens on the port, yet."""


def _request_of(call: AgentCall, feed: FeedCredentials | None = None) -> Request:  # noqa: PLR0911 - one for each call
    match call:
        case Tell(body=body):
            credentials = {"installer": {**body["installer"], "feed": feed.to_wire()}} if feed else {}
            return Request("PUT", "/v1/environment", {**body, **({"retry": True} if call.request else {}), **credentials})
        case Look():
            return Request("GET", "/v1/state")
        case KeepAlive():
            return Request("POST", "/v1/keepalive")
        case Follow(since=since, seconds=seconds):
            return Request("GET", f"/v1/state?since={since}&wait={seconds:.0f}", timeout_seconds=seconds + CALL_SECONDS)
        case Retire(idle_at_least=seconds):
            return Request("POST", "/v1/retire", {"idleAtLeast": seconds})
        case Reopen():
            return Request("DELETE", "/v1/retire")
        case TakeEdits():
            return Request("GET", "/v1/edits", timeout_seconds=POLL_SECONDS, largest=LARGEST_LIST)
        case Settle(revision=revision, saved=saved):
            return Request("POST", "/v1/edits/settle", {"revision": revision, "saved": saved})
        case ListPackages():
            return Request("GET", "/v1/packages", timeout_seconds=POLL_SECONDS, largest=LARGEST_LIST)
        case ReadSource(body=body):
            path = f"/v1/source?wait={POLL_SECONDS:.0f}"
            return Request("PUT", path, dict(body), timeout_seconds=POLL_SECONDS + CALL_SECONDS, largest=LARGEST_LIST)


def _parsed(raw: bytes) -> dict[str, Any]:
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError):
        raise AgentError("its answer is not JSON") from None
    if not isinstance(document, dict):
        raise AgentError("its answer is not a JSON object")
    return document
