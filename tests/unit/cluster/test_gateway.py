"""The gateway to the API server: what is sent, and what is dropped because its turn came too late."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import pytest
from aiohttp import web
from kubernetes.aio import client

from flowsession.cluster import errors
from flowsession.cluster.agent.client import AgentClient
from flowsession.cluster.agent.transport import AgentError, ProxyTransport
from flowsession.cluster.gateway import REQUESTS_AT_ONCE, KubernetesCluster
from flowsession.cluster.tokens import Signer
from flowsession.model.plan import Probe
from unit.builders import pod


class Wire:
    """The client library's connection: records every request, and answers once it may."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.answer: Any = {}
        self.status = 200
        self.configuration = SimpleNamespace(host="https://server", get_api_key_with_prefix=self._no_key)
        self.rest_client = self

    async def _no_key(self, _: str) -> None:
        return None

    async def request(self, method: str, url: str, **_: Any) -> Any:
        self.sent.append((method, url))
        await self.open.wait()

        async def read() -> bytes:
            return self.answer if isinstance(self.answer, bytes) else json.dumps(self.answer).encode()

        return SimpleNamespace(status=self.status, read=read)


@pytest.fixture
async def wire() -> Wire:
    return Wire()


@pytest.fixture
def cluster(wire: Wire) -> KubernetesCluster:
    return KubernetesCluster(cast(client.ApiClient, wire))


def end(cluster: KubernetesCluster, valid_until: float | None) -> Any:
    return cluster.delete("ComputeSession", "team", "ada", uid="u", resource_version="1", valid_until=valid_until)


def suspend(cluster: KubernetesCluster, valid_until: float | None) -> Any:
    return cluster.patch_status("ComputeSession", "team", "ada", {"a": 1}, resource_version="1", valid_until=valid_until)


@pytest.mark.parametrize(("kind", "limit"), [("ConfigMap", "20"), ("Pod", "500"), ("ComputeSession", "500")])
async def test_what_may_be_large_is_listed_in_small_pages(wire, cluster, kind, limit):
    wire.answer = {"items": [{}], "metadata": {"resourceVersion": "7", "continue": "more"}}
    async for _ in cluster.list(kind):
        if len(wire.sent) == 2:
            wire.answer = {"items": [], "metadata": {"resourceVersion": "7"}}
    asked = [parse_qs(urlsplit(url).query) for _, url in wire.sent]
    assert [query["limit"] for query in asked] == [[limit]] * 3
    assert [query.get("continue") for query in asked] == [None, ["more"], ["more"]]


@pytest.mark.parametrize("write", [end, suspend])
async def test_what_is_valid_no_more_is_not_sent(wire, cluster, write):
    await write(cluster, time.time() + 60)
    await write(cluster, None)
    sent = list(wire.sent)
    assert len(sent) == 2
    with pytest.raises(errors.TooLate, match="too late"):
        await write(cluster, time.time() - 0.1)
    assert wire.sent == sent


@pytest.mark.parametrize("write", [end, suspend])
async def test_waiting_for_its_turn_counts(wire, cluster, write):
    """A write that was requested in time is too late if all connections were busy until its time had passed."""
    wire.open.clear()
    others = [asyncio.ensure_future(cluster.get("Pod", "team", f"p{n}")) for n in range(REQUESTS_AT_ONCE)]
    valid_until = time.time() + 0.05
    late = asyncio.ensure_future(write(cluster, valid_until))
    await asyncio.sleep(valid_until - time.time() + 0.01)
    assert len(wire.sent) == REQUESTS_AT_ONCE
    wire.open.set()
    with pytest.raises(errors.TooLate):
        await late
    await asyncio.gather(*others)
    assert {method for method, _ in wire.sent} == {"GET"}


PAGE = b"<html>The proxy is being serviced</html>"
STRANGE = [PAGE, b"[" * 100_000, b"7", b"[]", b"", b"\xff"]


@pytest.mark.parametrize("answer", STRANGE, ids=range(len(STRANGE)))
async def test_an_answer_that_is_not_the_api_servers_is_no_answer(wire, cluster, answer):
    """A proxy in front of the API server sends its own pages, some of them with status 200."""
    wire.answer = answer
    with pytest.raises(errors.Unavailable, match="not the API server's"):
        await cluster.get("Pod", "team", "p")
    with pytest.raises(errors.Unavailable):
        [page async for page in cluster.list("Pod")]


@pytest.mark.parametrize("answer", [{}, {"metadata": "x", "items": []}, {"metadata": {}, "items": 3}, {"items": [{}]}])
async def test_a_list_that_is_none_is_no_answer(wire, cluster, answer):
    wire.answer = answer
    with pytest.raises(errors.Unavailable, match="no list"):
        [page async for page in cluster.list("Pod")]
    with pytest.raises(errors.Unavailable, match="no list"):
        [item async for item in cluster.metadata("Pod")]


@pytest.mark.parametrize(
    "answer", [*STRANGE, {"details": 3}, {"details": {"causes": [3]}}, {"details": {"causes": {"a": 1}}, "message": 3}]
)
async def test_a_refusal_may_say_anything(wire, cluster, answer):
    wire.status, wire.answer = 403, answer
    with pytest.raises(errors.Rejected):
        await cluster.get("Pod", "team", "p")
    wire.status = 502
    with pytest.raises(errors.Unavailable):
        await cluster.get("Pod", "team", "p")


class ApiServer:
    """An HTTP server for the official client: answers as a pod behind the pod proxy would."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.status = 200
        self.answer = b'{"podUID": "pod-1", "version": 4}'

    async def handle(self, request: web.Request) -> web.Response:
        self.asked.append((request.method, request.path_qs))
        return web.Response(status=self.status, body=self.answer)


@pytest.fixture
async def api_server() -> AsyncIterator[tuple[ApiServer, AgentClient]]:
    server = ApiServer()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    configuration = client.Configuration(host=f"http://127.0.0.1:{runner.addresses[0][1]}")
    configuration.client_session_kwargs = {"trust_env": False}
    cluster = KubernetesCluster(client.ApiClient(configuration))
    signer = cast(Signer, SimpleNamespace(token=lambda uid, clock_offset: "token"))
    try:
        yield server, AgentClient(ProxyTransport(cluster), signer)
    finally:
        await cluster.close()
        await runner.cleanup()


async def test_an_agent_is_asked_through_the_pod_proxy(api_server):
    """This goes through the official client itself, whose responses are not aiohttp's."""
    server, agents = api_server
    answer = await agents.call(pod(), Probe())
    assert answer.state is not None and answer.state.version == 4
    assert server.asked == [("GET", f"/api/v1/namespaces/{pod().namespace}/pods/{pod().name}:8765/proxy/v1/state")]


async def test_an_answer_through_the_pod_proxy_is_capped(api_server):
    server, agents = api_server
    server.answer = b" " * (1024 * 1024)
    with pytest.raises(AgentError, match="more than"):
        await agents.call(pod(), Probe())
    server.answer, server.status = b"{}", 404
    with pytest.raises(AgentError, match="HTTP 404"):
        await agents.call(pod(), Probe())
