"""The gateway to the API server: what is sent, and what is not sent any more when its turn comes too late."""

import asyncio
import json
import time
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import pytest
from kubernetes.aio import client

from flowsession.cluster import errors
from flowsession.cluster.gateway import REQUESTS_AT_ONCE, KubernetesCluster


class Wire:
    """The client library's connection: takes every request down, and answers when it is let."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.answer: dict[str, Any] = {}
        self.configuration = SimpleNamespace(host="https://server", get_api_key_with_prefix=self._no_key)
        self.rest_client = self

    async def _no_key(self, _: str) -> None:
        return None

    async def request(self, method: str, url: str, **_: Any) -> Any:
        self.sent.append((method, url))
        await self.open.wait()

        async def read() -> bytes:
            return json.dumps(self.answer).encode()

        return SimpleNamespace(status=200, read=read)


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
    """What was in time when it was asked for is not when all connections were busy until its time had passed."""
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
