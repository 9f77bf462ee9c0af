"""Serves connections to prompt flow's core, which has no store: over HTTP on loopback, below a path that can't be guessed.

A port on loopback can be forwarded to somebody's machine, where any web page could call it: hence the path. It is not in the pod's
spec, only in the environment of the session's processes.
"""

from __future__ import annotations

import json
import secrets
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import unquote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from flowsession_agent.session.children import Children

SECONDS = 5
"""Seconds for which a caller may block the only thread."""


class Provider:
    """Answers `GET ENDPOINT/connections` and `GET ENDPOINT/connections/NAME` from memory."""

    def __init__(self, children: Children) -> None:
        self.connections: dict[str, dict[str, Any]] = {}
        """By name, in the form that prompt flow's executor takes."""
        self._path = f"/{secrets.token_urlsafe(32)}/connections"
        provider = self

        class Handler(BaseHTTPRequestHandler):
            timeout = SECONDS

            def do_GET(self) -> None:
                provider._answer(self)

            def log_message(self, *_: object) -> None:
                """Log nothing, since the path grants access like a key."""

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}{self._path.rpartition('/')[0]}"
        children.thread(self._server.serve_forever, name="connections")

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        path = unquote(request.path.partition("?")[0])
        inner, length = path[len(self._path) :], len(self._path)
        found: object = None
        if secrets.compare_digest(path[:length].encode(), self._path.encode()):
            found = list(map(_without_secrets, self.connections.values())) if not inner else self.connections.get(inner[1:])
        content = json.dumps({"error": "there is no such connection"} if found is None else found).encode()
        request.send_response(404 if found is None else 200)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)


def _without_secrets(connection: dict[str, Any]) -> dict[str, Any]:
    """Return a connection for a list. Its secrets, which its class requires, are replaced by stars."""
    value = {name: "******" if name in connection["secret_keys"] else text for name, text in connection["value"].items()}
    return {**connection, "value": value}
