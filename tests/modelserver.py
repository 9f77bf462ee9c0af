"""A small OpenAI-compatible server for tests: chat, streaming, tool calls, embeddings, and faults on demand; Azure's paths work as well.

Unknown keys get 401. The last message's words decide on the rest: `busy` 429 with Retry-After at first, `limited` 429 for ever, `broken`
500, `slow` an answer only when `slow` is set, `tool` a tool call.
"""

import contextlib
import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import background_server

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
"""A flow that asks the server by a connection."""


@dataclass
class Call:
    """One request."""

    path: str
    authorization: str
    """The key or token, from either of the two headers."""
    body: dict[str, Any]


@dataclass
class ModelServer:
    """A server at `url`; `keys` are accepted."""

    url: str = ""
    keys: set[str] = field(default_factory=set)
    calls: list[Call] = field(default_factory=list)
    slow: threading.Event = field(default_factory=threading.Event)

    def answer(self, call: Call) -> tuple[int, dict[str, Any], dict[str, str]]:
        if call.authorization not in self.keys:
            return 401, error("Incorrect API key provided", "invalid_api_key"), {}
        if call.path.endswith("/embeddings"):
            given = call.body["input"]
            texts = given if isinstance(given, list) else [given]
            data = [{"object": "embedding", "index": number, "embedding": [float(len(text)), 0.5]} for number, text in enumerate(texts)]
            return 200, {"object": "list", "data": data, "model": "small", "usage": {"prompt_tokens": 3, "total_tokens": 3}}, {}
        asked = str(call.body["messages"][-1]["content"]) if "messages" in call.body else str(call.body.get("prompt"))
        same = sum(other.body == call.body for other in self.calls)  # with this one
        if "limited" in asked or ("busy" in asked and same < 3):
            return 429, error("Rate limit reached", "rate_limit_exceeded"), {"Retry-After": "1"}
        if "broken" in asked:
            return 500, error("The server had an error", "server_error"), {}
        if "slow" in asked:
            self.slow.wait(60)
        message: dict[str, Any] = {"role": "assistant", "content": f"you said: {asked}"}
        if call.body.get("tools") and "tool" in asked:
            function = call.body["tools"][0]["function"]["name"]
            message = {"role": "assistant", "content": None, "tool_calls": [tool_call(function)]}
        usage = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
        choice = {"index": 0, "message": message, "finish_reason": "stop", "text": message["content"]}
        return 200, {"id": "c1", "object": "chat.completion", "created": 1, "model": "small", "choices": [choice], "usage": usage}, {}


def tool_call(function: str) -> dict[str, Any]:
    return {"id": "t1", "type": "function", "function": {"name": function, "arguments": '{"place": "Delft"}'}}


def error(message: str, code: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": code, "code": code}}


@contextlib.contextmanager
def serving(*keys: str, host: str = "127.0.0.1") -> Iterator[ModelServer]:
    """A running server that accepts these keys."""
    model = ModelServer(keys=set(keys))

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            given = self.headers.get("api-key") or self.headers.get("Authorization", "").removeprefix("Bearer ")
            call = Call(self.path.partition("?")[0], given, body)
            model.calls.append(call)
            status, answer, headers = model.answer(call)
            if status == 200 and body.get("stream"):
                self.stream(answer)
                return
            self.reply(status, json.dumps(answer).encode(), {"Content-Type": "application/json", **headers})

        def stream(self, answer: dict[str, Any]) -> None:
            (choice,) = answer["choices"]
            lines = []
            for word in str(choice["message"]["content"]).split(" "):
                piece = {"index": 0, "delta": {"role": "assistant", "content": f"{word} "}, "finish_reason": None}
                lines.append(json.dumps({**answer, "object": "chat.completion.chunk", "choices": [piece], "usage": None}))
            events = "".join(f"data: {line}\n\n" for line in [*lines, "[DONE]"])
            self.reply(200, events.encode(), {"Content-Type": "text/event-stream"})

        def reply(self, status: int, content: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer((host, 0), Handler)
    server.daemon_threads = True
    model.url = f"http://{host}:{server.server_port}"
    with background_server.serving(server):
        try:
            yield model
        finally:
            model.slow.set()
