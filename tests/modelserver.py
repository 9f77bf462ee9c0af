"""The examples' model server for tests: it records calls, calls tools, and fails on demand.

Words in the last message decide: `busy` gives 429 with Retry-After at first, `exhausted` 429 for an hour, `broken` 500, `slow` an answer
only once `slow` is set, `tool` a tool call.
"""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import background_server
import model_server
from model_server import Call

DAG = """
inputs: {question: {type: string}}
outputs: {answer: {type: string, reference: "${ask.output}"}}
nodes:
- name: ask
  type: llm
  source: {type: code, path: ask.jinja2}
  inputs: {question: "${inputs.question}", model: small, temperature: 0}
  connection: open_ai_connection
  api: chat
"""
FLOW = {"flow.dag.yaml": DAG, "ask.jinja2": "user:\n{{question}}\n"}
"""A flow that calls the server through a connection."""


@dataclass
class ModelServer(model_server.ModelServer):
    """A server at `url`."""

    calls: list[Call] = field(default_factory=list)
    slow: threading.Event = field(default_factory=threading.Event)

    def answer(self, call: Call) -> model_server.Reply:
        self.calls.append(call)
        if call.authorization not in self.keys or call.path.endswith("/embeddings"):
            return super().answer(call)
        asked = model_server.asked(call)
        same = sum(other.body == call.body for other in self.calls)  # including this one
        if "exhausted" in asked or ("busy" in asked and same < 3):
            seconds = "3600" if "exhausted" in asked else "1"
            return 429, model_server.error("Rate limit reached", "rate_limit_exceeded"), {"Retry-After": seconds}
        if "broken" in asked:
            return 500, model_server.error("The server had an error", "server_error"), {}
        if "slow" in asked:
            self.slow.wait(60)
        if call.body.get("tools") and "tool" in asked:
            function = call.body["tools"][0]["function"]["name"]
            return 200, model_server.completion({"role": "assistant", "content": None, "tool_calls": [tool_call(function)]}), {}
        return super().answer(call)


def tool_call(function: str) -> dict[str, Any]:
    return {"id": "t1", "type": "function", "function": {"name": function, "arguments": '{"place": "Delft"}'}}


@contextlib.contextmanager
def serving(*keys: str, host: str = "127.0.0.1") -> Iterator[ModelServer]:
    """Run a server that accepts these keys."""
    model = ModelServer(keys=set(keys))
    with background_server.serving(model_server.listen(model, host, 0)):
        try:
            yield model
        finally:
            model.slow.set()
