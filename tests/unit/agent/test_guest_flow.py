"""Flows of another environment that run in a session: which environment their spans name."""

import json

from flowsession_agent.session import guest_flow
from flowsession_protocol.variables import TRACING


def test_spans_of_a_guest_are_told_as_those_of_its_own_environment() -> None:
    wanted = {
        "endpoint": "http://collector:4318",
        "content": True,
        "resource": {"flowsession.session": "ada", "flowsession.environment": "chat"},
    }
    environ = guest_flow.traced({TRACING: json.dumps(wanted), "HOME": "/session/home"}, "judge")
    assert environ["HOME"] == "/session/home"
    found = json.loads(environ[TRACING])
    assert found == {**wanted, "resource": {"flowsession.session": "ada", "flowsession.environment": "judge"}}
    assert guest_flow.traced({"HOME": "/"}, "judge") == {"HOME": "/"}
