"""A small OpenAI-compatible server, to try flows without anybody's key: chat, streaming, completions and embeddings; Azure's paths too.

It is no model: it repeats what it was asked last. Keys other than those of `--key` are answered by 401. Standard library only.
"""

import argparse
import http
import http.server
import json
from dataclasses import dataclass, field
from typing import Any

Reply = tuple[int, dict[str, Any], dict[str, str]]
"""Status, body and headers of an answer."""


@dataclass
class Call:
    """One request."""

    path: str
    authorization: str
    """The key or token, from either of the two headers."""
    body: dict[str, Any]


@dataclass
class ModelServer:
    """What is answered; `keys` are accepted."""

    keys: set[str] = field(default_factory=set)
    url: str = ""

    def answer(self, call: Call) -> Reply:
        """The answer to one request."""
        if call.authorization not in self.keys:
            return 401, error("Incorrect API key provided", "invalid_api_key"), {}
        if call.path.endswith("/embeddings"):
            given = call.body["input"]
            texts = given if isinstance(given, list) else [given]
            data = [{"object": "embedding", "index": number, "embedding": [float(len(text)), 0.5]} for number, text in enumerate(texts)]
            return 200, {"object": "list", "data": data, "model": "small", "usage": {"prompt_tokens": 3, "total_tokens": 3}}, {}
        return 200, completion({"role": "assistant", "content": f"you said: {asked(call)}"}), {}


def asked(call: Call) -> str:
    """The last message of a chat, or the prompt of a completion."""
    return str(call.body["messages"][-1]["content"]) if "messages" in call.body else str(call.body.get("prompt"))


def completion(message: dict[str, Any]) -> dict[str, Any]:
    """The body of an answer with this message."""
    usage = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "text": message["content"]}
    return {"id": "c1", "object": "chat.completion", "created": 1, "model": "small", "choices": [choice], "usage": usage}


def error(message: str, code: str) -> dict[str, Any]:
    """The body of a refusal."""
    return {"error": {"message": message, "type": code, "code": code}}


def listen(model: ModelServer, host: str, port: int) -> http.server.ThreadingHTTPServer:
    """A server that answers for the model once it is told to serve; its address is `model.url` from now on."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            given = self.headers.get("api-key") or self.headers.get("Authorization", "").removeprefix("Bearer ")
            status, answer, headers = model.answer(Call(self.path.partition("?")[0], given, body))
            if status == http.HTTPStatus.OK and body.get("stream"):
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
            """Nothing: what is asked is somebody's."""

    server = http.server.ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True
    model.url = f"http://{host}:{server.server_port}"
    return server


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(description="A small OpenAI-compatible server that repeats what it is asked.")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--key", action="append", default=[], help="a key that it takes; can be given several times")
    arguments = parser.parse_args()
    listen(ModelServer(keys=set(arguments.key)), "", arguments.port).serve_forever()


if __name__ == "__main__":
    main()
