"""Spans of tests and runs, received by a recording OTLP server: their resource, their headers, and what they must not contain."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import modelserver
import otlpserver
from localcluster.ports import free_port
from otlpserver import OtlpServer

from . import support
from .conftest import StartAgent
from .feeds import places_with
from .support import Agent, eventually
from .test_connections import CHAT, KEY, Secrets, open_ai
from .test_runs import FLOW, data, order, outputs, over, told

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


@pytest.fixture
def start(start: StartAgent) -> Iterator[StartAgent]:
    """Starts agents whose home has a path as short as in a pod, since a run creates Unix sockets below it."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        yield lambda **arguments: start(**{"FLOWSESSION_HOME": f"{folder}/session", **arguments})


def variable(tmp_path: Path, endpoint: str, *, content: bool = True, secret: str = "otlp") -> str:
    """Return the environment variable that the operator gives the pod."""
    headers = {"headers": str(tmp_path / "mounted" / secret), "secret": secret}
    return json.dumps({"endpoint": endpoint, "content": content, "resource": RESOURCE, **headers})


def whose(resource: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in resource.items() if name in RESOURCE}


def test_the_spans_of_a_test_come_with_the_sessions_names_and_the_secrets_headers(
    start: StartAgent, flow_base: str, otlp: OtlpServer, secrets: Secrets, tmp_path: Path
) -> None:
    agent = start(python=flow_base, FLOWSESSION_TRACING=variable(tmp_path, otlp.url), PF_DISABLE_TRACING="true")  # as in the runtime image
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


def test_the_spans_of_all_lines_of_a_run_come_with_its_name(
    start: StartAgent, flow_base: str, otlp: OtlpServer, secrets: Secrets, tmp_path: Path
) -> None:
    words = [f"word{number}" for number in range(12)]
    agent = begun(start, flow_base, data(*words, "bad"), variable(tmp_path, otlp.url))
    found = over_with(agent)
    assert found["lines"] == {"total": 13, "completed": 12, "failed": 1}
    assert b"WORD3" in outputs(agent)["flow_outputs/output.jsonl"]
    lines = otlp.named("shout")
    assert sorted(json.loads(span.attributes["inputs"])["text"] for span in lines) == sorted([*words, "bad"])
    assert {span.resource["flowsession.run"] for span in otlp.spans} == {"answers"}
    assert all(whose(span.resource) == RESOURCE and span.resource["service.name"] == "flowsession" for span in otlp.spans)
    assert sorted(span.attributes["line_number"] for span in lines) == list(range(13))
    assert len(otlp.named("count")) == 1  # the aggregation, which runs in another process than the lines
    assert {request.headers["authorization"] for request in otlp.requests} == {HEADER}
    assert "traces" not in agent.log.read_text()


def begun(start: StartAgent, python: str, content: bytes, traces: str, **environment: str) -> Agent:
    """Start a session with the flow and data."""
    agent = start(python=python, FLOWSESSION_TRACING=traces, PF_DISABLE_TRACING="true", **environment)
    assert agent.put("p1", "f1", files={**FLOW, "data.jsonl": content})[0] == 200
    return agent


def over_with(agent: Agent) -> dict[str, Any]:
    status, said = order(agent, "r-1", name="answers-r-1")
    assert status == 200, said
    return over(agent)


def test_without_content_nothing_of_inputs_outputs_or_failures_is_sent(
    start: StartAgent, runtime_base: str, otlp: OtlpServer, secrets: Secrets, tmp_path: Path
) -> None:
    with modelserver.serving(KEY) as model:
        secrets.write("open-ai", open_ai(model.url))
        agent = begun(
            start,
            runtime_base,
            data("secret-word", "bad"),
            variable(tmp_path, otlp.url, content=False),
            FLOWSESSION_CONNECTIONS=secrets.variable(open_ai_connection="open-ai"),
        )
        assert over_with(agent)["lines"]["failed"] == 1
        (failed,) = [span for span in otlp.named("shout") if span.events]
        assert (failed.status, failed.events) == ("ValueError", {"exception": {"exception.type": "ValueError"}})
        assert agent.put("p1", "f2", files=CHAT)[0] == 200
        ran = agent.flow("test", "--inputs", f"question={QUESTION}")
        assert ran.returncode == 0, ran.stderr
        sent = b"".join(request.body for request in otlp.requests).lower()
        for word in ("secret-word", "a bad word", QUESTION, "you said", KEY, "user:"):
            assert word.encode() not in sent, word
        (asked,) = [
            span for span in otlp.spans if span.attributes.get("span_type") == "LLM" and "llm.usage.total_tokens" in span.attributes
        ]
        assert (asked.attributes["llm.usage.total_tokens"], asked.attributes["llm.response.model"]) == (12, "small")


@pytest.fixture(scope="module")
def runtime_base() -> str:
    return support.base("runtime", "promptflow==1.18.5", "promptflow-tools==1.6.1")


def test_with_content_a_connections_key_is_not_in_it(
    start: StartAgent, runtime_base: str, otlp: OtlpServer, secrets: Secrets, tmp_path: Path
) -> None:
    with modelserver.serving(KEY) as model:
        secrets.write("open-ai", open_ai(model.url))
        connections = secrets.variable(open_ai_connection="open-ai")
        agent = begun(start, runtime_base, b"", variable(tmp_path, otlp.url), FLOWSESSION_CONNECTIONS=connections)
        assert agent.put("p1", "f2", files=CHAT)[0] == 200
        assert agent.flow("test", "--inputs", f"question={QUESTION}").returncode == 0
    sent = b"".join(request.body for request in otlp.requests)
    assert (QUESTION.encode() in sent, b"you said" in sent, KEY.encode() in sent) == (True, True, False)


def test_an_endpoint_that_does_not_take_them_fails_no_test_and_the_log_says_why_once(
    start: StartAgent, flow_base: str, otlp: OtlpServer, secrets: Secrets, tmp_path: Path
) -> None:
    agent = begun(start, flow_base, b"", variable(tmp_path, otlp.url))

    def tested(said: str) -> None:
        for _ in range(2):
            ran = agent.flow("test", "--inputs", "text=hello")
            assert (ran.returncode, json.loads(ran.stdout)) == (0, {"answer": "HELLO"}), ran.stderr
        sentence = f"traces could not be sent to {otlp.url}: {said}\n"
        assert agent.log.read_text().count(sentence) == 1, agent.log.read_text()

    otlp.status = 401
    tested("it answers with status 401")
    secrets.write("otlp", {})
    tested("it answers with status 401; Secret 'otlp' does not exist or has no keys")
    otlp.status = 307
    tested("it answers with status 307; Secret 'otlp' does not exist or has no keys")
    assert {request.path for request in otlp.requests} == {"/v1/traces"}  # the headers are for this endpoint only
    otlp.held.clear()
    tested("no answer within 1 s")  # the endpoint still holds its response
    otlp.held.set()
    secrets.write("otlp", {"authorization": "Bearer \u2603 otlp-7c1e"})
    tested("a key or value of Secret 'otlp' is no HTTP header")
    secrets.write("otlp", {"authorization": "Bearer another"})
    otlp.status = 200
    assert agent.flow("test", "--inputs", "text=hello").returncode == 0
    assert otlp.requests[-1].headers["authorization"] == "Bearer another"
    assert places_with("otlp-7c1e", agent) == []


def test_an_endpoint_that_is_not_there_fails_no_run_and_a_failing_flow_says_what_it_said_before(
    start: StartAgent, flow_base: str, secrets: Secrets, tmp_path: Path
) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    agent = begun(start, flow_base, data("a", "b", "bad"), variable(tmp_path, nowhere))
    found = over_with(agent)
    assert (found["lines"], found["code"]) == ({"total": 3, "completed": 2, "failed": 1}, "LinesFailed")
    failed = agent.flow("test", "--inputs", "text=bad")
    assert (failed.returncode, "a bad word" in failed.stderr, "traces" in failed.stderr) == (1, True, False), failed.stderr
    assert agent.log.read_text().count(f"traces could not be sent to {nowhere}: connection refused\n") == 1


FLEX = {
    "flow.flex.yaml": b"entry: flex:Shouts\n",
    "flex.py": b"""
from promptflow.tracing import trace


class Shouts:
    def __init__(self) -> None:
        self.said = []

    @trace
    def louder(self, text: str) -> str:
        return text.upper()

    def __call__(self, text: str) -> str:
        return self.louder(text)
""",
}


def test_spans_of_a_flex_flow(start: StartAgent, flow_base: str, otlp: OtlpServer, secrets: Secrets, tmp_path: Path) -> None:
    agent = start(python=flow_base, FLOWSESSION_TRACING=variable(tmp_path, otlp.url))
    assert agent.put("p1", "f1", files={**FLEX, "data.jsonl": data("one", "two")})[0] == 200
    assert agent.flow("test", "--inputs", "text=three").returncode == 0
    assert over_with(agent)["lines"] == {"total": 2, "completed": 2, "failed": 0}
    assert sorted((span.attributes["output"], span.resource.get("flowsession.run")) for span in otlp.named("Shouts.louder")) == [
        ('"ONE"', "answers"),
        ('"THREE"', None),
        ('"TWO"', "answers"),
    ]


def test_prompt_flows_core_alone_needs_a_package_and_says_so(start: StartAgent, secrets: Secrets, tmp_path: Path) -> None:
    core = support.base("core", "promptflow-core==1.18.5", "httpx")
    secrets.write("own", {"type": "custom", "secrets.k": KEY})  # core alone runs no test without a connection
    traces = variable(tmp_path, "http://127.0.0.1:9")
    agent = begun(start, core, b"", traces, FLOWSESSION_CONNECTIONS=secrets.variable(own="own"))
    ran = agent.flow("test", "--inputs", "text=hello")
    assert (ran.returncode, json.loads(ran.stdout)) == (0, {"answer": "HELLO"}), ran.stderr
    assert "put opentelemetry-exporter-otlp-proto-http into the requirements\n" in agent.log.read_text()


def test_an_endpoint_that_never_answers_does_not_hold_up_a_cancel(
    start: StartAgent, flow_base: str, otlp: OtlpServer, secrets: Secrets, tmp_path: Path
) -> None:
    otlp.held.clear()
    agent = begun(start, flow_base, data("one", "wait"), variable(tmp_path, otlp.url))
    assert order(agent, "r-1", name="answers-r-1")[0] == 200
    eventually("the first line is done", lambda: told(agent)["lines"]["completed"] == 1)
    assert agent.call("DELETE", "/v1/runs?id=r-1")[0] == 200
    found = over(agent)
    assert (found["state"], found["lines"]["completed"], otlp.requests) == ("Canceled", 1, [])  # the endpoint still holds its response


def test_opentelemetrys_own_switch_records_nothing(
    start: StartAgent, flow_base: str, otlp: OtlpServer, secrets: Secrets, tmp_path: Path
) -> None:
    agent = begun(start, flow_base, b"", variable(tmp_path, otlp.url), OTEL_SDK_DISABLED="true")
    assert agent.flow("test", "--inputs", "text=hello").returncode == 0
    assert otlp.requests == []
