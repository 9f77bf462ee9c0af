"""The agent's port, which anything in the cluster can reach: malformed, oversized and slow requests, with and without a token."""

import contextlib
import json
import socket
import time
from pathlib import Path

from .support import Agent, eventually


def connect(agent: Agent) -> socket.socket:
    return socket.create_connection(("127.0.0.1", agent.port), timeout=30)


def exchange(agent: Agent, request: bytes) -> bytes:
    with connect(agent) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_unknown_paths_and_methods(agent: Agent) -> None:
    assert [agent.call("GET", "/v1/nothing")[0], agent.call("POST", "/v1/state")[0], agent.call("POST", "/healthz")[0]] == [404, 405, 405]
    assert agent.call("GET", "/nothing", token=None)[1]["code"] == "TokenMissing"


def test_what_is_not_http_is_refused(agent: Agent) -> None:
    for request in (
        b"hello\r\n\r\n",
        b"GET / HTTP/2\r\n\r\n",
        b"GET /v1/state HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /x HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    ):
        assert exchange(agent, request).startswith(b"HTTP/1.1 400 ")
    chunked = f"POST /v1/keepalive HTTP/1.1\r\nX-Flowsession-Token: {agent.operator.token()}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    assert exchange(agent, chunked.encode()).startswith(b"HTTP/1.1 400 ")
    twice = b"GET /healthz HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\n"
    assert exchange(agent, twice).startswith(b"HTTP/1.1 400 ")


def test_headers_over_16_kib_are_refused(agent: Agent) -> None:
    assert exchange(agent, b"GET /healthz HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n").startswith(b"HTTP/1.1 400 ")


def test_a_body_over_16_mib_is_refused_unread_and_the_answer_arrives(agent: Agent) -> None:
    status, answer = agent.call("PUT", "/v1/environment", b" " * (16 * 1024 * 1024 + 1))
    assert (status, answer["code"]) == (413, "TooLarge")


def test_without_a_token_no_body_is_read_and_the_answer_arrives(agent: Agent) -> None:
    status, answer = agent.call("PUT", "/v1/environment", b" " * (16 * 1024 * 1024), token=None)
    assert (status, answer["code"]) == (401, "TokenMissing")
    assert resource_peak(agent) < 60


def test_bodies_that_are_not_json_objects(agent: Agent) -> None:
    for body in (b"", b"{", b"[]", b"5", b"[" * 100_000, b"\xff"):
        assert agent.call("PUT", "/v1/environment", body)[0] == 400


def test_one_connection_carries_many_calls(agent: Agent) -> None:
    request = f"GET /v1/state HTTP/1.1\r\nX-Flowsession-Token: {agent.operator.token()}\r\n\r\n".encode()
    last = request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    assert exchange(agent, request * 2 + last).count(b"HTTP/1.1 200 OK") == 3


def test_a_body_announced_by_expect_is_asked_for(agent: Agent) -> None:
    body = json.dumps({"idleAtLeast": 3600}).encode()
    with connect(agent) as connection:
        head = f"POST /v1/retire HTTP/1.1\r\nX-Flowsession-Token: {agent.operator.token()}\r\nContent-Length: {len(body)}\r\n"
        connection.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert connection.recv(1000).startswith(b"HTTP/1.1 409 ")


def test_a_slow_caller_is_hung_up_on(agent: Agent) -> None:
    with connect(agent) as connection:
        started = time.monotonic()
        with contextlib.suppress(OSError):
            while time.monotonic() - started < 30:
                connection.sendall(b"x")
                connection.settimeout(0.2)
                with contextlib.suppress(TimeoutError):
                    if not connection.recv(1):
                        break
        assert time.monotonic() - started < 20


def test_silent_callers_never_keep_the_operator_out(agent: Agent) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(connect(agent))
        assert agent.call("GET", "/v1/state", timeout=10)[0] == 200
        threads = eventually("threads of dismissed callers end", lambda: (count := thread_count(agent)) < 60 and count)
        assert threads


def thread_count(agent: Agent) -> int:
    return len(list(Path(f"/proc/{agent.pid}/task").iterdir()))


def resource_peak(agent: Agent) -> float:
    """Return the agent's peak resident size, in MiB."""
    status = Path(f"/proc/{agent.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024
