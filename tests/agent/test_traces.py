"""Spans of tests and runs at a recording OTLP server: whose they are, by which headers they come, and what is not in them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import modelserver
import otlpserver
from localcluster.ports import free_port
from modelserver import ModelServer
from otlpserver import OtlpServer

from . import support
from .conftest import StartAgent
from .support import Agent, eventually
from .test_connections import CHAT, KEY, Secrets, open_ai
from .test_runs import FLOW, data, order, outputs, over

HEADER = "Bearer otlp-7c1e"
RESOURCE = {
    "flowsession.session": "alice-chat",
    "flowsession.environment": "chat",
    "enduser.id": "alice@example.com",
    "k8s.namespace.name": "team-a",
    "k8s.pod.name": "alice-chat-0b7c6-1",
}
QUESTION = "what-is-the-launch-code"


@pytest.fixture
def otlp() -> Iterator[OtlpServer]:
    with otlpserver.serving() as server:
        yield server


@pytest.fixture
def secrets(tmp_path: Path) -> Secrets:
    made = Secrets(tmp_path / "mounted")
    made.write("otlp", {"authorization": f"{HEADER}\n", "x-tenant": "team-a"})
    return made


def variable(tmp_path: Path, endpoint: str, *, content: bool = True, secret: str = "otlp") -> str:
    """What the operator gives the pod."""
    headers = {"headers": str(tmp_path / "mounted" / secret), "secret": secret}
    return json.dumps({"endpoint": endpoint, "content": content, "resource": RESOURCE, **headers})


def whose(resource: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in resource.items() if name in RESOURCE}


def test_the_spans_of_a_test_come_with_the_sessions_names_and_the_secrets_headers(
    start: StartAgent, flow_base: str, otlp: OtlpServer, secrets: Secrets, tmp_path: Path
) -> None:
    agent = start(python=flow_base, FLOWSESSION_TRACING=variable(tmp_path, otlp.url))
    assert agent.put("p1", "f1", files=FLOW)[0] == 200
    ran = agent.flow("test", "--inputs", f"text={QUESTION}")
    assert (ran.returncode, ran.stdout) == (0, f'{{\n  "answer": "{QUESTION.upper()}"\n}}\n'), ran.stderr
    (node,) = otlp.named("shout")
    assert whose(node.resource) == RESOURCE
    assert node.resource["service.name"] == "flowsession"
    assert "flowsession.run" not in node.resource
    assert (node.attributes["span_type"], node.attributes["inputs"]) == ("Function", json.dumps({"text": QUESTION}, indent=2))
    assert QUESTION.upper() in node.events["promptflow.function.output"]["payload"]
    assert any(span.trace == node.trace and not span.parent for span in otlp.spans)
    assert {(request.path, request.headers["authorization"], request.headers["x-tenant"]) for request in otlp.requests} == {
        ("/v1/traces", HEADER, "team-a")
    }
