"""The client's HTTP against malicious servers: whatever they send, a call ends and costs next to no processor time."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from flowsession.cluster.agent import transport
from flowsession.cluster.agent.transport import AgentError, DirectTransport, NoAnswer, NotListening, Request
from flowsession.model.views import PodView
from unit.builders import pod

Behaviour = Callable[[socket.socket], None]
ASK = Request("GET", "/v1/state", timeout_seconds=1.5, largest=200_000)
MOST_SECONDS = 0.05
"""Processor seconds for one call: ten times the cost of an honest answer of that size."""


class Server:
    """Accepts connections in threads, reads the first request of each, and runs its behavior."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.heads: list[bytes] = []
        self._ended = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._ended.set()
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.heads.append(connection.recv(65536))
            self._behaviour(connection)
            self._ended.wait(10)


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Behaviour], Server]]:
    servers: list[Server] = []

    def start(behaviour: Behaviour) -> Server:
        servers.append(Server(behaviour))
        monkeypatch.setattr(transport, "PORT", servers[-1].port)
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def here() -> PodView:
    return pod(ip="127.0.0.1")


def saying(answer: bytes) -> Behaviour:
    return lambda connection: connection.sendall(answer)


def endlessly(first: bytes, then: bytes) -> Behaviour:
    def send(connection: socket.socket) -> None:
        connection.sendall(first)
        while True:
            connection.sendall(then * max(1, 65536 // len(then)))

    return send


def dripping(first: bytes, count: int) -> Behaviour:
    """Return a behavior that sends one byte per packet, without pauses."""

    def send(connection: socket.socket) -> None:
        connection.sendall(first)
        for _ in range(count):
            connection.send(b"x")

    return send


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
HOSTILE = {
    "endless interim answers": (endlessly(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), "interim one .HTTP 100."),
    "endless early hints": (endlessly(b"", b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n"), "interim one .HTTP 103."),
    "endless chunk extensions": (endlessly(CHUNKED + b"1;", b"x=y;"), "in chunks"),
    "endless tiny chunks": (endlessly(CHUNKED, b"1\r\nx\r\n"), "in chunks"),
    "endless trailers": (endlessly(CHUNKED + b"0\r\n", b"X: y\r\n"), "in chunks"),
    "endless headers": (endlessly(OK, b"X: y\r\n"), "headers of more than 16,384 bytes"),
    "an endless header": (endlessly(OK + b"X: ", b"yyyy"), "headers of more than 16,384 bytes"),
    "an endless status line": (endlessly(b"HTTP/1.1 200 ", b"yyyy"), "headers of more than 16,384 bytes"),
    "a body too large": (endlessly(OK + b"Content-Length: 200001\r\n\r\n", b"x"), "more than 200,000 bytes"),
    "a body of any length": (endlessly(OK + b"\r\n", b"x"), "no Content-Length"),
    "two lengths": (saying(OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}"), "no Content-Length"),
    "a length that is none": (saying(OK + b"Content-Length: -1\r\n\r\n{}"), "no Content-Length"),
    "another protocol": (endlessly(b"", b"SSH-2.0\r\n\r\n"), "not HTTP/1.1"),
    "a connection that ends early": (lambda connection: connection.close(), "ended early|Bad file|reset"),
    "one byte at a time": (dripping(OK + b"Content-Length: 199999\r\n\r\n", 199_998), "no answer from 127.0.0.1 within 2 s"),
    "headers one byte at a time": (dripping(OK + b"X: ", 16_000), "no answer from 127.0.0.1 within 2 s"),
    "silence": (saying(b""), "no answer from 127.0.0.1 within 2 s"),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_answer_costs_next_to_no_processor_time(serve: Callable[[Behaviour], Server], name: str) -> None:
    behaviour, said = HOSTILE[name]
    serve(behaviour)
    before = time.thread_time()
    with pytest.raises(AgentError, match=said):
        await DirectTransport().send(here(), ASK, {})
    assert time.thread_time() - before < MOST_SECONDS


async def test_an_honest_answer_is_taken_whole(serve: Callable[[Behaviour], Server]) -> None:
    body = json.dumps({"text": "x" * 150_000}).encode()
    server = serve(saying(OK + b"content-LENGTH: " + str(len(body)).encode() + b"\r\nX-Other: y\r\n\r\n" + body))
    assert await DirectTransport().send(here(), ASK, {"X-Flowsession-Token": "t"}) == (200, body)
    head = server.heads[0].decode()
    assert head.startswith("GET /v1/state HTTP/1.1\r\nHost: 127.0.0.1:")
    assert "\r\nX-Flowsession-Token: t\r\n" in head
    assert "\r\nConnection: close\r\n" in head
    assert "\r\nAccept-Encoding: identity\r\n" in head, "a kilobyte may become a megabyte otherwise"


async def test_an_address_where_nothing_listens_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        monkeypatch.setattr(transport, "PORT", bound.getsockname()[1])
        with pytest.raises(NotListening, match=r"no connection to 127\.0\.0\.1"):
            await DirectTransport().send(here(), ASK, {})


async def test_an_address_that_swallows_everything_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    async def connect(ip: str, port: int) -> None:
        raise TimeoutError

    monkeypatch.setattr("flowsession.cluster.agent.http.connect", connect)
    with pytest.raises(NoAnswer, match="within 3 s"):
        await DirectTransport().send(here(), ASK, {})


# -- secrets

TELL = replace(ASK, method="PUT", path="/v1/environment", body={"token": "s3cret"}, secret=True)


def as_pod(uid: str, taken: list[bytes]) -> Behaviour:
    def answer(connection: socket.socket) -> None:
        body = json.dumps({"ok": True, "podUID": uid}).encode()
        reply = OK + f"Content-Length: {len(body)}\r\n\r\n".encode() + body
        connection.sendall(reply)
        while b"s3cret" not in b"".join(taken):
            if not (data := connection.recv(65536)):
                return
            taken.append(data)
        connection.sendall(reply)

    return answer


async def test_a_secret_goes_to_who_has_named_the_pod_on_the_same_connection(serve: Callable[[Behaviour], Server]) -> None:
    taken: list[bytes] = []
    server = serve(as_pod("pod-1", taken))
    status, _ = await DirectTransport().send(here(), TELL, {"X-Flowsession-Token": "t"})
    assert status == 200
    assert len(server.heads) == 1, "one connection"
    assert server.heads[0].startswith(b"GET /healthz ")
    assert b"X-Flowsession-Token" not in server.heads[0], "whose audience is the pod's uid"
    assert b"s3cret" in b"".join(taken)


@pytest.mark.parametrize("uid", ["", "pod-2"])
async def test_nothing_is_sent_to_anybody_else(serve: Callable[[Behaviour], Server], uid: str) -> None:
    taken: list[bytes] = []
    server = serve(as_pod(uid, taken))
    with pytest.raises(AgentError, match="not this pod; no secret was sent"):
        await DirectTransport().send(here(), TELL, {"X-Flowsession-Token": "t"})
    assert b"s3cret" not in b"".join([*server.heads, *taken])
    assert b"X-Flowsession-Token" not in b"".join([*server.heads, *taken])
