"""The agent's exit waits for the responses to requests in flight."""

import socket
from typing import Any

import pytest

from flowsession_agent.server.listener import Listener
from flowsession_agent.server.unanswered import CallsInFlight
from flowsession_agent.session.children import Children


class OneCall:
    """An agent that records, while it handles a request, whether its exit would wait for the response."""

    pod_uid = "u"

    def __init__(self) -> None:
        self.unanswered = CallsInFlight()
        self.children = Children()
        self.end_would_wait: list[bool] = []

    def call(self, *_: Any) -> dict[str, Any]:
        self.end_would_wait.append(not self.unanswered.wait(seconds=0))
        return {}


@pytest.mark.parametrize(("method", "waits"), [("POST", True), ("PUT", True), ("DELETE", True), ("GET", False)])
def test_an_end_waits_for_answers_to_calls_that_change_something(method: str, waits: bool) -> None:
    agent: Any = OneCall()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        Listener(listener, agent=agent, keys=None).open()
        with socket.create_connection(listener.getsockname(), timeout=60) as caller:
            caller.sendall(f"{method} /v1/x HTTP/1.1\r\nConnection: close\r\n\r\n".encode())
            answer = caller.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert agent.end_would_wait == [waits]
    assert agent.unanswered.wait(seconds=60)


def test_an_end_does_not_wait_for_ever() -> None:
    unanswered = CallsInFlight()
    with unanswered:
        assert not unanswered.wait(seconds=0.01)
    assert unanswered.wait(seconds=0)
