"""Calls the agent in a session's pod, as in docs/agent-protocol.md. Whatever it answers is hostile input: all of it is capped."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flowsession import metrics
from flowsession.cluster.agent import answers, run_answers, source_answers
from flowsession.cluster.agent.feeds import FeedCredentials
from flowsession.cluster.agent.transport import CALL_SECONDS, AgentError, NotListening, Request, Transport, parsed
from flowsession.cluster.tokens import Signer
from flowsession.model.agent_views import AgentState, EditsArchive, PackageList, SourceAnswer
from flowsession.model.plan import (
    AgentCall,
    Deliver,
    Follow,
    KeepAlive,
    ListPackages,
    Probe,
    ReadSource,
    Reopen,
    Retire,
    RunCall,
    Settle,
    TakeEdits,
)
from flowsession.model.run_views import RunReply
from flowsession.model.views import PodView
from flowsession_protocol import TOKEN_HEADER
from flowsession_protocol.messages import Order

POLL_SECONDS = 30.0
LARGEST_LIST = 2 * 1024 * 1024
"""Maximum bytes of a response with a list; 20,000 packages take that many."""
START_RETRY_SECONDS = 1.0
"""Seconds for which a refused connection is retried at once: an agent starts within some hundredths of a second."""
START_RETRY_PAUSE = 0.015

_CODES_OF_REFUSAL = frozenset({400, 413})
_STATE_REFUSALS = frozenset({(409, "InUse", Retire), (409, "Retired", KeepAlive)})
"""Refusals caused by the agent's state, which is then read."""


class AgentRefused(AgentError):
    """The agent refused the request as invalid or too large: the same request would be refused again."""


@dataclass(frozen=True)
class Answer:
    """The result of a call: a state, edits with a state, a list of packages, or a source."""

    state: AgentState | None = None
    packages: PackageList | None = None
    edits: EditsArchive | None = None
    source: SourceAnswer | None = None


class AgentClient:
    """Carries out a plan's calls."""

    def __init__(self, transport: Transport, signer: Signer) -> None:
        self._transport = transport
        self._signer = signer
        self._clock_offsets: dict[str, float] = {}
        self._silent: set[str] = set()
        """Uids of pods where nothing has listened for YOUNG_SECONDS."""

    async def call(self, pod: PodView, call: AgentCall, feed: FeedCredentials | None = None) -> Answer:
        """Make one call; `feed` is sent with a Deliver. Raises AgentError."""
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
            # The state has the revision, also of edits that are unavailable. An agent too old to know edits has none.
            edits, was = document, status
            status, document = await self._send(pod, Request("GET", "/v1/state"))
            if status == 200:
                state = answers.state(document)
                return Answer(state=state, edits=answers.edits(edits, was, revision=state.edits.revision))
        if status in _CODES_OF_REFUSAL:
            raise AgentRefused(answers.text(document.get("message"), 500) or f"HTTP {status}")
        if isinstance(call, ListPackages) and status == 200:
            return Answer(packages=answers.packages(document))
        if isinstance(call, ReadSource) and status == 200:
            return Answer(source=source_answers.source(document))
        if (status, document.get("code"), type(call)) in _STATE_REFUSALS:
            # Read the whole state, which also says whether the session is retired.
            status, document = await self._send(pod, Request("GET", "/v1/state"))
        if status != 200:
            raise AgentError(f"HTTP {status}: {answers.text(document.get('message'), 300)}")
        state = answers.state(document)
        if isinstance(call, Deliver) and not state.packages_revision and state.install.state == "None":
            raise AgentError("its answer says neither what is installed nor what is being installed")
        return Answer(state=state)

    async def _send(self, pod: PodView, request: Request) -> tuple[int, dict[str, Any]]:
        give_up_at, relearned = time.monotonic() + START_RETRY_SECONDS, False
        while True:
            headers = {TOKEN_HEADER: self._signer.token(pod.uid, clock_offset=self._clock_offsets.get(pod.uid, 0.0))}
            try:
                status, raw = await self._transport.send(pod, request, headers)
            except NotListening:
                if pod.uid in self._silent or time.monotonic() >= give_up_at:
                    self._silent.add(pod.uid)
                    raise
                await asyncio.sleep(START_RETRY_PAUSE)
                continue
            self._silent.discard(pod.uid)
            document = parsed(raw)
            if status == 401 and document.get("code") == "TokenExpired" and not relearned:
                # Once in each call: a wrong clock may have been corrected since.
                self._clock_offsets[pod.uid] = answers.number(document.get("now")) - time.time()
                relearned = True
                continue
            if status == 200 and document.get("podUID") != pod.uid:
                raise AgentError(f"the answer from {pod.ip} is another pod's; the address has moved on")
            return status, document

    async def call_about_run(self, pod: PodView, call: RunCall, enclosed: Mapping[str, Any]) -> RunReply:
        """Make one call about a run; `enclosed`: further members of an order. Raises AgentError."""
        status, document = await self._send(pod, run_answers.request_of(call, enclosed))
        return run_answers.reply(call, status, document)

    def forget(self, pod_uid: str) -> None:
        """Drop what is remembered about a pod that is gone."""
        self._clock_offsets.pop(pod_uid, None)
        self._silent.discard(pod_uid)


def _request_of(call: AgentCall, feed: FeedCredentials | None = None) -> Request:  # noqa: PLR0911 - one for each call
    match call:
        case Deliver(body=body):
            order: Order = {**body, "retry": True} if call.request else body
            if feed:
                order = {**order, "installer": {**order["installer"], "feed": feed.to_wire()}}
            return Request("PUT", "/v1/environment", order, secret=feed is not None and bool(feed.token))
        case Probe():
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
            return Request("PUT", path, body, timeout_seconds=POLL_SECONDS + CALL_SECONDS, largest=LARGEST_LIST)
