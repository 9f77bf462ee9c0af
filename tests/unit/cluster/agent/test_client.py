"""The client of agents: what it requests, and how much of an answer it accepts."""

import time
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp import ClientResponse

from flowsession.cluster import errors
from flowsession.cluster.agent.client import LARGEST_LIST, AgentClient
from flowsession.cluster.agent.transport import LARGEST_STATE, AgentError, NotListening, ProxyTransport, Request
from flowsession.cluster.gateway import KubernetesCluster, capped
from flowsession.cluster.tokens import Signer
from flowsession.model.plan import Deliver, Follow, KeepAlive, ListPackages, Probe, Reopen, Retire, TakeEdits
from unit.builders import pod, resolved

STATE = b'{"podUID": "pod-1", "version": 1, "environment": {"packagesRevision": "p"}}'


class Wire:
    """A transport that records requests."""

    def __init__(self, *answers: tuple[int, bytes]) -> None:
        self.requests: list[Request] = []
        self.tokens: list[str] = []
        self.answers = list(answers)

    async def send(self, view: Any, request: Request, headers: dict[str, str]) -> tuple[int, bytes]:
        self.requests.append(request)
        self.tokens.append(headers["X-Flowsession-Token"])
        return self.answers.pop(0) if self.answers else (200, STATE)


class Clock:
    """Signs with the clock offset that it was given."""

    def token(self, pod_uid: str, *, clock_offset: float = 0.0) -> str:
        return f"{pod_uid} {clock_offset:.0f}"


def client(wire: Wire) -> AgentClient:
    return AgentClient(wire, cast(Signer, Clock()))


STATE_CALLS = [Deliver(resolved().wire), Probe(), KeepAlive("x"), Follow(1), Retire(60.0), Reopen()]


@pytest.mark.parametrize("call", STATE_CALLS, ids=lambda call: type(call).__name__)
async def test_of_a_state_256_kib_are_taken(call):
    wire = Wire()
    await client(wire).call(pod(), call)
    assert [request.largest for request in wire.requests] == [LARGEST_STATE] == [256 * 1024]


async def test_of_a_list_2_mib_are_taken():
    wire = Wire()
    await client(wire).call(pod(), ListPackages())
    assert [request.largest for request in wire.requests] == [LARGEST_LIST] == [2 * 1024 * 1024]


async def test_a_pod_that_is_gone_leaves_no_difference_of_clocks_behind(monkeypatch):
    monkeypatch.setattr(
        "flowsession.cluster.agent.client.time",
        SimpleNamespace(time=lambda: 1000.0, perf_counter=time.perf_counter, monotonic=time.monotonic),
    )
    wire = Wire((401, b'{"code": "TokenExpired", "now": 1500}'))
    asked = client(wire)
    await asked.call(pod(), Probe())
    await asked.call(pod(), Probe())
    asked.forget("pod-1")
    await asked.call(pod(), Probe())
    assert wire.tokens == ["pod-1 0", "pod-1 500", "pod-1 500", "pod-1 0"]


async def test_where_nothing_listens_a_later_call_tries_once(monkeypatch):
    """The second of retries is for an agent that is just starting."""
    monkeypatch.setattr("flowsession.cluster.agent.client.START_RETRY_SECONDS", 0.05)
    tries: list[str] = []

    class Deaf(Wire):
        async def send(self, view: Any, request: Request, headers: dict[str, str]) -> tuple[int, bytes]:
            tries.append(request.path)
            if self.answers:
                return self.answers.pop(0)
            raise NotListening("refused")

    async def tries_of_a_call() -> int:
        before = len(tries)
        with suppress(NotListening):
            await asked.call(pod(), Probe())
        return len(tries) - before

    wire = Deaf()
    asked = client(wire)
    assert await tries_of_a_call() > 1
    assert [await tries_of_a_call() for _ in range(2)] == [1, 1]
    wire.answers = [(200, STATE)]
    assert await tries_of_a_call() == 1
    assert await tries_of_a_call() > 1, "it answered, and may just be being started again"


def response(*chunks: bytes) -> ClientResponse:
    async def iter_chunked(_: int) -> Any:
        for chunk in chunks:
            taken.append(chunk)
            yield chunk

    taken: list[bytes] = []
    content = SimpleNamespace(iter_chunked=iter_chunked)
    return cast(ClientResponse, SimpleNamespace(content=content, close=lambda: None, taken=taken))


async def test_an_answer_is_read_no_further_than_that():
    assert await capped(response(b"ab", b"cd"), 4) == b"abcd"
    endless = response(*[b"ab"] * 1000)
    with pytest.raises(errors.TooLarge, match="more than 4 bytes"):
        await capped(endless, 4)
    assert len(endless.taken) == 3


async def test_through_the_api_server_the_same_limit_holds():
    asked: dict[str, Any] = {}

    class Cluster:
        async def proxy(self, *_: Any, **named: Any) -> Any:
            asked.update(named)
            raise errors.TooLarge("has more than 262,144 bytes")

    with pytest.raises(AgentError, match="its answer has more than 262,144 bytes"):
        await ProxyTransport(cast(KubernetesCluster, Cluster())).send(pod(), Request("GET", "/v1/state"), {})
    assert asked["largest"] == LARGEST_STATE


EDITS = b'{"podUID": "pod-1", "revision": "e", "flowRevision": "f", "files": ["a.py"], "archive": "QQ==", "message": "2 MB are too much"}'


@pytest.mark.parametrize(("status", "revision", "problem"), [(200, "e", ""), (404, "", ""), (413, "r", "2 MB are too much")])
async def test_edits_come_or_it_is_said_why_not(status, revision, problem):
    state = b'{"podUID": "pod-1", "version": 1, "edits": {"revision": "r", "count": 1}, "environment": {"packagesRevision": "p"}}'
    answer = await client(Wire((status, EDITS), (200, state))).call(pod(), TakeEdits())
    assert answer.edits is not None
    assert (answer.edits.revision, answer.edits.problem) == (revision, problem)
    assert answer.state is not None


@pytest.mark.parametrize("status", [201, 400, 401, 403, 409, 429, 500, 503])
async def test_any_other_answer_to_the_call_for_edits_is_none(status):
    """Such an answer says nothing about edits. Ending a session on it would lose work."""
    wire = Wire((status, EDITS), (status, EDITS))
    with pytest.raises(AgentError):
        await client(wire).call(pod(), TakeEdits())
