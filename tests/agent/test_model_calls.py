"""Flows that call a model through a connection: llm nodes, prompty, package and Python tools. The endpoint responds well, badly or late."""

import base64
import dataclasses
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import modelserver
from modelserver import ModelServer

from . import support
from .feeds import Authority, Front, Server, closing, places_with
from .support import Agent, Operator, eventually
from .test_connections import CHAT, DAG, KEY, Secrets
from .test_runs import outputs, over

OWN = "own-secret-7d1a"
TOKEN = "entra-token-91c4"
ANSWER = "outputs: {answer: {type: string, reference: '${ask.output}'}}\n"
TOOLS = (
    '[{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {"place": {"type": "string"}}}}}]'
)


def python(code: str, *inputs: str, head: str = "") -> dict[str, bytes]:
    """Return a flow folder with one Python tool."""
    lines = [f"{head}inputs: {{question: {{type: string}}}}", ANSWER.strip(), "nodes:", "- name: ask", "  type: python"]
    lines += ["  source: {type: code, path: ask.py}", f"  inputs: {{{', '.join(inputs)}}}"]
    return {"flow.dag.yaml": "\n".join(lines).encode(), "ask.py": code.encode()}


QUESTION = 'question: "${inputs.question}"'
STREAM = """
from openai import OpenAI
from promptflow.connections import OpenAIConnection
from promptflow.core import tool


@tool
def ask(connection: OpenAIConnection, question: str):
    client = OpenAI(api_key=connection.api_key, base_url=connection.base_url)
    messages = [{"role": "user", "content": question}]
    for piece in client.chat.completions.create(model="small", messages=messages, stream=True):
        yield piece.choices[0].delta.content or ""
"""
CUSTOM = """
from promptflow.connections import CustomConnection
from promptflow.core import tool


@tool
def ask(own: CustomConnection, question: str) -> str:
    return f"{question} {own.configs['where']} {len(own.secrets['k'])}"
"""
VARIABLES = """
import os
from promptflow.core import tool


@tool
def ask(question: str) -> str:
    return f"{len(os.environ['A_KEY'])} {os.environ['A_PLACE']}"
"""
EMBEDDING = b"""
inputs: {question: {type: string}}
outputs: {answer: {type: list, reference: "${ask.output}"}}
nodes:
- name: ask
  type: python
  source: {type: package, tool: promptflow.tools.embedding.embedding}
  inputs: {connection: open_ai_connection, input: "${inputs.question}", model: text-embedding-ada-002}
"""
PROMPTY = b"""---
model:
  api: chat
  configuration: {type: openai, model: small, connection: open_ai_connection}
  parameters: {temperature: 0}
inputs: {question: {type: string}}
---
user:
{{question}}
"""


def azure(connection: str) -> dict[str, bytes]:
    dag = DAG.replace(b"open_ai_connection", connection.encode()).replace(b"model: small", b"deployment_name: deployed")
    return {**CHAT, "flow.dag.yaml": dag}


class Entra(Server):
    """A token endpoint that serves its own discovery document, like AD FS, whose clients ask no other server for its address."""

    def __init__(self, authority: Authority) -> None:
        super().__init__(self._answer)
        self.refusal = ""
        self._front = Front(int(self.place.rpartition(":")[2]), authority.context, "127.0.0.1")
        self.url = f"https://127.0.0.1:{self._front.port}"

    def close(self) -> None:
        self._front.close()
        super().close()

    def _answer(self, path: str, _: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        document: dict[str, Any] = {"token_type": "Bearer", "expires_in": 3599, "access_token": TOKEN}
        if "openid-configuration" in path:
            document = {"token_endpoint": f"{self.url}/adfs/oauth2/token", "authorization_endpoint": f"{self.url}/adfs", "issuer": self.url}
        elif self.refusal:
            return (
                401,
                {"Content-Type": "application/json"},
                json.dumps({"error": "invalid_client", "error_description": self.refusal}).encode(),
            )
        return 200, {"Content-Type": "application/json"}, json.dumps(document).encode()


@dataclasses.dataclass
class Bed:
    """A session with connections, the endpoint that they call, and the token endpoint of its identity."""

    agent: Agent
    model: ModelServer
    entra: Entra
    revision: int = 0

    def push(self, files: dict[str, bytes]) -> None:
        self.revision += 1
        assert self.agent.put("p1", f"f{self.revision}", files=files)[0] == 200

    def refusal(self, files: dict[str, bytes], question: str) -> str:
        """Return the message with which a test of the flow fails."""
        self.push(files)
        status, answer = self.agent.call("POST", "/v1/test", {"inputs": {"question": question}})
        assert (status, answer["code"]) == (422, "FlowFailed"), answer
        assert not any(value in json.dumps(answer) for value in (KEY, OWN, TOKEN))
        return str(answer["message"])

    def ask(self, files: dict[str, bytes], question: str) -> Any:
        self.push(files)
        status, answer = self.agent.call("POST", "/v1/test", {"inputs": {"question": question}})
        assert status == 200, answer
        return next(iter(answer["outputs"].values()))


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    folder = tmp_path_factory.mktemp("session")
    secrets, authority = Secrets(folder / "mounted"), Authority(folder)
    entra = Entra(authority)
    with modelserver.serving(KEY, TOKEN) as model, closing(entra):
        fields = {"open_ai": {"base_url": f"{model.url}/v1", "api_key": KEY}, "azure_open_ai": {"api_base": model.url, "api_key": KEY}}
        for kind, values in fields.items():
            secrets.write(kind.replace("_", "-"), {"type": kind, **values})
        secrets.write("meid", {"type": "azure_open_ai", "api_base": model.url, "auth_mode": "meid_token"})
        secrets.write("own", {"type": "custom", "configs.where": "Delft", "secrets.k": OWN})
        (folder / "ca.pem").write_text(authority.pem)
        (folder / "assertion").write_text("of-the-service-account")
        agent = support.start(
            folder,
            python=support.base("runtime", "promptflow==1.18.5", "promptflow-tools==1.6.1"),
            operator=Operator(),
            FLOWSESSION_CONNECTIONS=secrets.variable(open_ai_connection="open-ai", azure="azure-open-ai", meid="meid", own="own"),
            AZURE_CLIENT_ID="client",
            AZURE_TENANT_ID="adfs",
            AZURE_FEDERATED_TOKEN_FILE=str(folder / "assertion"),
            AZURE_AUTHORITY_HOST=entra.url,
            REQUESTS_CA_BUNDLE=str(folder / "ca.pem"),
        )
        yield Bed(agent, model, entra)
        agent.close()


def test_chat(bed: Bed) -> None:
    assert bed.ask(CHAT, "hello") == "you said: hello"
    assert bed.ask(azure("azure"), "hello") == "you said: hello"
    call = bed.model.calls[-1]
    assert (call.path, call.authorization) == ("/openai/deployments/deployed/chat/completions", KEY)


def test_the_sessions_identity_in_place_of_a_key(bed: Bed) -> None:
    assert bed.ask(azure("meid"), "hello") == "you said: hello"
    assert bed.model.calls[-1].authorization == TOKEN
    *_, body = bed.entra.asked[-1]
    assert b"client_assertion=of-the-service-account" in body and b"cognitiveservices.azure.com" in body


def test_prompty(bed: Bed) -> None:
    assert bed.ask({"chat.prompty": PROMPTY}, "hello") == "you said: hello"


def test_streaming_by_a_python_tool(bed: Bed) -> None:
    files = python(STREAM, "connection: open_ai_connection", QUESTION)
    assert "".join(bed.ask(files, "one two")).strip() == "you said: one two"


def test_embeddings_by_a_package_tool(bed: Bed) -> None:
    assert bed.ask({"flow.dag.yaml": EMBEDDING}, "four") == [4.0, 0.5]


def test_tool_calls(bed: Bed) -> None:
    dag = DAG.replace(b"temperature: 0", b"temperature: 0, tool_choice: auto, tools: " + json.dumps(json.loads(TOOLS)).encode())
    answer = bed.ask({**CHAT, "flow.dag.yaml": dag.replace(b"type: string, reference", b"type: object, reference")}, "use a tool")
    assert answer["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"place": "Delft"}'}


def test_a_custom_connection(bed: Bed) -> None:
    assert bed.ask(python(CUSTOM, "own: own", QUESTION), "in") == f"in Delft {len(OWN)}"


def test_environment_variables_that_name_a_connections_field(bed: Bed) -> None:
    head = "environment_variables: {A_KEY: '${open_ai_connection.api_key}', A_PLACE: '${own.where}'}\n"
    assert bed.ask(python(VARIABLES, QUESTION, head=head), "x") == f"{len(KEY)} Delft"


def test_a_limited_endpoint_is_asked_again_when_it_says_so(bed: Bed) -> None:
    before = len(bed.model.calls)
    assert bed.ask(CHAT, "busy") == "you said: busy"
    assert len(bed.model.calls) - before == 3


def test_a_refused_key_is_told_with_connection_secret_and_way_out_and_without_the_key(bed: Bed) -> None:
    bed.model.keys.discard(KEY)
    try:
        for files in (CHAT, python(STREAM, "connection: open_ai_connection", QUESTION)):
            said = bed.refusal(files, "hello")
            assert said.startswith("Connection 'open_ai_connection': its endpoint answers 401, it does not take the key"), said
            assert "Secret 'open-ai'" in said
    finally:
        bed.model.keys.add(KEY)


def test_a_run_tells_the_same_of_each_line(bed: Bed) -> None:
    bed.push({**CHAT, "data.jsonl": b'{"q": "hello"}\n'})
    bed.model.keys.discard(KEY)
    try:
        order = {"id": "r-1", "name": "refused", "data": "data.jsonl", "columnMapping": {"question": "${data.q}"}}
        assert bed.agent.call("PUT", "/v1/runs", order)[0] == 200
        end = over(bed.agent)
    finally:
        bed.model.keys.add(KEY)
    said = "connection 'open_ai_connection': its endpoint answers 401, it does not take the key: correct that in Secret 'open-ai'"
    assert end["errors"][0]["message"].startswith(said), end
    assert f"the first is line 0: {said}" in end["message"]
    kept = json.dumps(end) + repr(outputs(bed.agent))
    assert not any(value in kept for value in (KEY, OWN, TOKEN))


def test_a_run_that_gives_a_node_a_connection_of_no_use_says_why(bed: Bed) -> None:
    bed.push({**CHAT, "data.jsonl": b'{"q": "hello"}\n'})
    order = {"id": "r-2", "name": "given", "data": "data.jsonl", "columnMapping": {"question": "${data.q}"}}
    node = next(line.split()[-1] for line in CHAT["flow.dag.yaml"].decode().splitlines() if "- name:" in line)
    assert bed.agent.call("PUT", "/v1/runs", {**order, "connections": {node: {"connection": "open_ai_conection"}}})[0] == 200
    end = over(bed.agent, "r-2")
    assert "'open_ai_conection' is not known in this session: is 'open_ai_connection' meant?" in end["message"], end


def test_a_canceled_run_says_what_an_endpoint_has_answered_last(bed: Bed) -> None:
    bed.push({**CHAT, "data.jsonl": b'{"q": "exhausted"}\n'})
    order = {"id": "r-3", "name": "waits", "data": "data.jsonl", "columnMapping": {"question": "${data.q}"}}
    assert bed.agent.call("PUT", "/v1/runs", order)[0] == 200
    while not (now := bed.agent.call("GET", "/v1/runs?id=r-3&since=1&wait=10")[1])["message"]:
        assert now["state"] == "Running", now
    said = "connection 'open_ai_connection': its endpoint answers 429: line 0 asks again at "
    assert now["message"].startswith(said), "in an hour"
    bed.agent.call("DELETE", "/v1/runs?id=r-3")
    end = over(bed.agent, "r-3")
    assert (end["state"], "answers 429, it takes no more calls for now" in end["message"]) == ("Canceled", True), end
    assert "Retry-After=3600" in end["logTail"]


def test_lines_that_never_end_name_what_they_may_wait_for(bed: Bed) -> None:
    ends = "import os\nfrom promptflow.core import tool\n\n@tool\ndef run(text: str):\n    os._exit(3) if text == 'gone' else None\n"
    dag = CHAT["flow.dag.yaml"] + b'- {name: end, type: python, source: {type: code, path: end.py}, inputs: {text: "${inputs.question}"}}\n'
    lines = b'{"q": "slow"}\n{"q": "exhausted"}\n{"q": "gone"}\n'
    bed.push({**CHAT, "flow.dag.yaml": dag, "end.py": ends.encode(), "data.jsonl": lines})
    order = {"id": "r-4", "name": "silent", "data": "data.jsonl", "columnMapping": {"question": "${data.q}"}}
    bed.model.slow.clear()
    assert bed.agent.call("PUT", "/v1/runs", {**order, "concurrency": 3, "lineSeconds": 3})[0] == 200
    slow, refused, gone = (error["message"] for error in over(bed.agent, "r-4")["errors"])
    bed.model.slow.set()
    assert slow.startswith("if it waited for connection 'open_ai_connection', whose endpoint is slow or silent: correct"), slow
    assert "Secret 'open-ai'" in slow
    assert slow.endswith("(Line 0 execution timeout for exceeding 3 seconds)"), slow
    assert refused.startswith("connection 'open_ai_connection': its endpoint answers 429, it takes no more calls for now"), refused
    assert gone.startswith("its process ended in the middle of it: a tool"), gone


def test_an_identity_without_its_role_is_told_what_to_grant(bed: Bed) -> None:
    bed.model.keys.discard(TOKEN)
    try:
        said = bed.refusal(azure("meid"), "hello")
    finally:
        bed.model.keys.add(TOKEN)
    assert "Connection 'meid': its endpoint answers 401" in said
    assert "grant that the role Cognitive Services OpenAI User" in said


def test_an_identity_that_gets_no_token_makes_the_flow_invalid_and_says_what_to_grant(bed: Bed) -> None:
    bed.entra.refusal = "AADSTS700213: No matching federated identity record found for presented assertion subject. Trace ID: 1"
    try:
        bed.push(azure("meid"))
        (problem,) = bed.agent.call("POST", "/v1/validate")[1]["check"]["problems"]
        told = bed.refusal(azure("meid"), "hello")
    finally:
        bed.entra.refusal = ""
    assert problem["code"] == "ConnectionIdentity"
    assert "identity client gets no token" in problem["message"]
    assert "AADSTS700213" in problem["message"] and "Trace" not in problem["message"]
    assert "grant it a federated credential" in problem["message"]
    assert told.startswith("Connection 'meid' authenticates as the session, whose identity gets no token"), told
    bed.push(azure("meid"))
    assert bed.agent.call("POST", "/v1/validate")[1]["check"]["verdict"] == "Valid"


def test_an_endpoint_that_says_later_than_a_test_may_take_ends_it_with_the_time(bed: Bed) -> None:
    said = bed.refusal(CHAT, "exhausted")
    assert said.startswith("Connection 'open_ai_connection': its endpoint answers 429"), said
    assert "test again in 3600 s (Retry-After)" in said


def test_a_slow_endpoint_is_work(bed: Bed) -> None:
    bed.push(CHAT)
    before = len(bed.model.calls)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(bed.agent.call, "POST", "/v1/test", {"inputs": {"question": "slow"}})
        eventually("the model is asked", lambda: len(bed.model.calls) > before)
        assert bed.agent.state()["activity"]["what"] == "api test"
        bed.model.slow.set()
        assert asked.result()[0] == 200


def test_no_value_is_to_be_found_but_where_it_must_be(bed: Bed) -> None:
    bed.ask(CHAT, "hello")
    bed.agent.settled()
    eventually("nothing runs", lambda: not any("fill" in line for line in support.descendants(bed.agent.pid).values()))
    for value in (KEY, OWN, TOKEN):
        assert places_with(value, bed.agent) == []
    archive = bed.agent.call("GET", "/v1/edits")
    assert KEY not in json.dumps(archive[1])
    edits = archive[1].get("archive")
    assert edits is None or KEY.encode() not in base64.b64decode(edits)
