"""`flow chat`, streamed outputs, and tests that end with their caller: with a real agent and the real prompt flow, cold and warm."""

import contextlib
import dataclasses
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import modelserver
from modelserver import ModelServer

from . import support
from .conftest import StartAgent
from .support import Agent, Operator, eventually
from .test_connections import KEY, Secrets, in_terminal
from .test_runner import cold

CHAT = {
    "flow.dag.yaml": b"""
inputs:
  question: {type: string, is_chat_input: true}
  chat_history: {type: list, default: []}
outputs:
  answer: {type: string, reference: "${reply.output}", is_chat_output: true}
nodes:
- name: count
  type: python
  source: {type: code, path: count.py}
  inputs: {history: "${inputs.chat_history}"}
- name: reply
  use_variants: true
node_variants:
  reply:
    default_variant_id: calm
    variants:
      calm: {node: {type: python, source: {type: code, path: reply.py}, inputs: {question: "${inputs.question}", count: "${count.output}"}}}
      loud:
        node:
          type: python
          source: {type: code, path: reply.py}
          inputs: {question: "${inputs.question}", count: "${count.output}", mark: "!"}
""",
    "count.py": b"""
from promptflow.core import tool

@tool
def count(history: list) -> int:
    return len(history)
""",
    "reply.py": b"""
import os
import signal
import time
from promptflow.core import tool

@tool
def reply(question: str, count: int, mark: str = "."):
    with open("began", "w") as file:
        file.write(str(os.getpid()))
    if question == "fail":
        raise ValueError("no answer to that")
    if question == "stubborn":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if os.fork() == 0:
            os.setsid()
        time.sleep(600)
    yield f"{count}: "
    try:
        while question == "wait" and not os.path.exists("go"):
            time.sleep(0.01)
    except KeyboardInterrupt:
        open("interrupted", "w").close()
        raise
    yield question
    yield mark
""",
}


@pytest.fixture(scope="module")
def talked(tmp_path_factory: pytest.TempPathFactory, operator: Operator, flow_base: str) -> Iterator[Agent]:
    agent = support.start(tmp_path_factory.mktemp("talker"), operator=operator, python=flow_base)
    assert agent.put("p1", "f1", files=CHAT)[0] == 200
    assert agent.call("POST", "/v1/test", {"inputs": {"question": "x"}})[0] == 200
    yield agent
    agent.close()


@pytest.fixture(params=["cold", "warm"])
def talker(request: pytest.FixtureRequest, talked: Agent) -> Iterator[Agent]:
    """A session with a chat flow whose next test runs in a new process (cold), or in one with prompt flow already imported (warm)."""
    for name in ("began", "go", "interrupted"):
        (talked.home / "flow" / name).unlink(missing_ok=True)
    with cold(talked) if request.param == "cold" else contextlib.nullcontext():
        yield talked


def test_a_chat_keeps_the_history_and_ends_with_its_input(talker: Agent) -> None:
    chatted = talker.flow("chat", stdin="hi\n\nagain\n")
    assert (chatted.returncode, chatted.stdout) == (0, "Bot: 0: hi.\nBot: 1: again.\n\n"), chatted.stderr


def test_a_chat_with_a_variant_a_given_history_and_a_failure(talker: Agent) -> None:
    chatted = talker.flow("chat", "--variant", "reply.loud", "--inputs", 'chat_history=[{"inputs": {}, "outputs": {}}]', stdin="hi\nfail\n")
    assert (chatted.returncode, chatted.stdout) == (1, "Bot: 1: hi!\n"), chatted.stderr
    assert "no answer to that" in chatted.stderr


def test_what_is_streamed_comes_while_the_flow_runs(talker: Agent) -> None:
    with talker.flowing("chat") as chat:
        assert chat.stdin
        assert chat.stdout
        chat.stdin.write("wait\n")
        chat.stdin.flush()
        assert chat.stdout.read(len("Bot: 0: ")) == "Bot: 0: "
        (talker.home / "flow" / "go").touch()
        assert chat.stdout.readline() == "wait.\n"


def test_a_test_streams_to_standard_error_and_has_the_whole_as_its_output(talker: Agent) -> None:
    tested = talker.flow("test", "--stream", "--inputs", "question=hi")
    assert (json.loads(tested.stdout), tested.stderr) == ({"answer": "0: hi."}, "0: hi.\n")


@pytest.mark.parametrize(("question", "end"), [("wait", signal.SIGINT), ("wait", signal.SIGKILL), ("stubborn", signal.SIGINT)])
def test_a_test_ends_with_its_caller(talker: Agent, question: str, end: signal.Signals) -> None:
    with talker.flowing("test", "--inputs", f"question={question}") as test:
        pid = running(talker)
        test.send_signal(end)
        assert test.wait(60) == (130 if end == signal.SIGINT else -signal.SIGKILL)
        assert_nothing_is_left(talker, pid)
    assert (talker.home / "flow" / "interrupted").exists() == (question == "wait")


def test_a_test_ends_when_nobody_reads_its_outputs_any_more(talker: Agent) -> None:
    with talker.flowing("test", "--inputs", "question=wait") as test:
        pid = running(talker)
        assert test.stdout
        test.stdout.close()
        test.wait(60)
        assert_nothing_is_left(talker, pid)


def test_in_a_terminal_a_chat_survives_what_fails_and_what_is_canceled(talker: Agent) -> None:
    with in_new_terminal(talker, "chat") as (chat, controller):
        read = b""

        def reads(words: str) -> None:
            nonlocal read
            while words.encode() not in read:
                read += os.read(controller, 65536)
            read = read.partition(words.encode())[2]

        reads("User: ")
        os.write(controller, b"fail\n")
        reads("no answer to that")
        reads("User: ")
        os.write(controller, b"wait\n")
        reads("Bot: 0: ")
        pid = running(talker)
        os.write(controller, b"\x03")
        reads("canceled")
        reads("User: ")
        assert_nothing_is_left(talker, pid)
        os.write(controller, b"hi\n")
        reads("Bot: 0: hi.")
        reads("User: ")
        os.write(controller, b"again\n")
        reads("Bot: 1: again.")
        reads("User: ")
        os.write(controller, b"\x04")
        assert chat.wait(60) == 0


def test_a_closed_terminal_ends_its_test(talker: Agent) -> None:
    with in_new_terminal(talker, "test", "--inputs", "question=wait") as (test, controller):
        pid = running(talker)
        os.close(controller)
        test.wait(60)
        assert_nothing_is_left(talker, pid)


@contextlib.contextmanager
def in_new_terminal(agent: Agent, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Start the command `flow` in a new terminal. Yields it and the terminal's controlling descriptor, and kills it when the block ends."""
    controller, terminal = os.openpty()
    command, environment = agent.command(*arguments)
    with subprocess.Popen(["setsid", "--ctty", *command], env=environment, stdin=terminal, stdout=terminal, stderr=terminal) as process:
        os.close(terminal)
        try:
            yield process, controller
        finally:
            process.kill()
            with contextlib.suppress(OSError):
                os.close(controller)


def running(agent: Agent) -> int:
    """Wait until the test's tool runs, and return its PID."""
    began = agent.home / "flow" / "began"
    return int(eventually("the tool runs", lambda: began.exists() and began.read_text()))


def assert_nothing_is_left(agent: Agent, pid: int) -> None:
    eventually("nothing is left of it", lambda: not agent.state()["activity"]["busy"])
    assert not Path(f"/proc/{pid}").exists()
    eventually("no process but the runner", lambda: len(support.descendants(agent.pid)) <= 1)


def test_what_is_no_chat_flow_is_told_what_it_lacks(talked: Agent) -> None:
    try:
        files = {**CHAT, "flow.dag.yaml": CHAT["flow.dag.yaml"].replace(b", is_chat_input: true", b"")}
        assert talked.put("p1", "f2", files=files)[0] == 200
        chatted = talked.flow("chat", stdin="hi\n")
        assert chatted.returncode == 1
        assert chatted.stderr == "flow: The flow is no chat flow: one input must be marked is_chat_input: true, and none is.\n"
        with in_new_terminal(talked, "chat") as (chat, controller):  # before any input
            assert chat.wait(60) == 1
            assert b"User" not in (said := os.read(controller, 65536)), said
            assert b"must be marked is_chat_input: true" in said
    finally:
        assert talked.put("p1", "f1", files=CHAT)[0] == 200


FLEX = {
    "flow.flex.yaml": b"""
entry: flex:Answer
inputs:
  question: {type: string, is_chat_input: true}
  chat_history: {type: list, default: []}
outputs:
  answer: {type: string, is_chat_output: true}
""",
    "flex.py": b"""
from typing import TypedDict


class Said(TypedDict):
    answer: str


class Answer:
    def __init__(self, mark: str = "."):
        self.mark = mark

    def __call__(self, question: str, chat_history: list) -> Said:
        return {"answer": f"{[said['role'] for said in chat_history]} {question}{self.mark}"}
""",
}
FUNCTION = {
    "flow.flex.yaml": FLEX["flow.flex.yaml"].partition(b"outputs:")[0].replace(b"flex:Answer", b"function:answer"),
    "function.py": b"""
def answer(question: str, chat_history: list):
    yield f"{len(chat_history)}: "
    yield question
""",
}
LLM = {
    "flow.dag.yaml": b"""
inputs:
  question: {type: string, is_chat_input: true}
  past: {type: list, is_chat_history: true, default: []}
outputs:
  answer: {type: string, reference: "${ask.output}", is_chat_output: true}
  length: {type: int, reference: "${measure.output}"}
nodes:
- name: measure
  type: python
  source: {type: code, path: measure.py}
  inputs: {question: "${inputs.question}"}
- name: ask
  type: llm
  source: {type: code, path: ask.jinja2}
  inputs: {question: "${inputs.question}", past: "${inputs.past}", model: small, temperature: 0}
  connection: open_ai_connection
  api: chat
""",
    "measure.py": b"from promptflow.core import tool\n\n\n@tool\ndef measure(question: str) -> int:\n    return len(question)\n",
    "ask.jinja2": b"""
{% for said in past %}
user:
{{said.inputs.question}}
assistant:
{{said.outputs.answer}} {{said.outputs.length}}
{% endfor %}
user:
{{question}}
""",
}
PROMPTY = {
    "chat.prompty": b"""---
model:
  api: chat
  configuration: {type: openai, model: small, connection: open_ai_connection}
  parameters: {temperature: 0, stream: true}
inputs:
  question: {type: string, is_chat_input: true}
  chat_history: {type: list, default: []}
---
{% for said in chat_history %}
{{said.role}}:
{{said.content}}
{% endfor %}
user:
{{question}}
""",
}


@dataclasses.dataclass
class Bed:
    agent: Agent
    model: ModelServer
    pf: str


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory, operator: Operator) -> Iterator[Bed]:
    folder, python = tmp_path_factory.mktemp("bed"), support.base("runtime", "promptflow==1.18.5", "promptflow-tools==1.6.1")
    secrets = Secrets(folder / "mounted")
    with modelserver.serving(KEY) as model:
        secrets.write("open-ai", {"type": "open_ai", "base_url": f"{model.url}/v1", "api_key": KEY})
        agent = support.start(
            folder, python=python, operator=operator, FLOWSESSION_CONNECTIONS=secrets.variable(open_ai_connection="open-ai")
        )
        yield Bed(agent, model, str(Path(python).parent / "pf"))
        agent.close()


@pytest.mark.parametrize("files", [FLEX, LLM, PROMPTY], ids=["flex", "llm", "prompty"])
def test_a_chat_says_and_asks_what_prompt_flows_own_does(bed: Bed, files: dict[str, bytes]) -> None:
    said, expected = "one two\nthree\n", ["one two", "three"]
    assert bed.agent.put("p1", f"f-{next(iter(files))}", files=files)[0] == 200
    before = len(bed.model.calls)
    ours = bed.agent.flow("chat", stdin=said)
    assert ours.returncode == 0, ours.stderr
    asked = [call.body for call in bed.model.calls[before:]]
    flow = next(iter(files)) if files is PROMPTY else "."
    theirs = in_terminal(bed.agent, bed.pf, "flow", "test", "--flow", flow, "--interactive", stdin=said)
    assert [call.body for call in bed.model.calls[before + len(asked) :]] == asked
    assert len(asked) == (0 if files is FLEX else len(expected))
    assert answers(ours.stdout) == answers(theirs.stdout), theirs.stdout + theirs.stderr
    assert all(question in answer for question, answer in zip(expected, answers(ours.stdout), strict=True))


def answers(printed: str) -> list[str]:
    """Return the bot's answers, without colors."""
    return [line.strip() for line in re.findall(r"Bot: ([^\n]*)", re.sub(r"\x1b\[[0-9;]*m", "", printed))]


def test_a_model_that_streams_is_read_while_it_does(bed: Bed) -> None:
    assert bed.agent.put("p1", "streams", files=LLM)[0] == 200
    tested = bed.agent.flow("test", "--stream", "--inputs", "question=one two")
    assert (json.loads(tested.stdout), tested.stderr) == ({"answer": "you said: one two ", "length": 7}, "you said: one two \n")
    assert bed.model.calls[-1].body["stream"] is True
    tested = bed.agent.flow("test", "--inputs", "question=one two")
    assert (json.loads(tested.stdout), tested.stderr) == ({"answer": "you said: one two", "length": 7}, "")
    assert not bed.model.calls[-1].body.get("stream")


def test_prompt_flows_core_alone_without_connections(start: StartAgent) -> None:
    agent = start(python=support.base("core", "promptflow-core==1.18.5", "httpx"))
    assert agent.put("p1", "f1", files=CHAT)[0] == 200
    tested = agent.flow("test", "--stream", "--inputs", "question=hi")
    assert (tested.returncode, tested.stderr) == (0, "0: hi.\n")
    assert json.loads(tested.stdout) == {"answer": "0: hi."}
    assert json.loads(agent.flow("test", "--inputs", "question=hi").stdout) == {"answer": "0: hi."}
    assert agent.put("p1", "f2", files=FUNCTION)[0] == 200
    chatted = agent.flow("chat", stdin="hi\nagain\n")
    assert (chatted.returncode, chatted.stdout) == (0, "Bot: 0: hi\nBot: 2: again\n\n"), chatted.stderr
