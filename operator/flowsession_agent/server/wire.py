"""The agent's subset of HTTP/1.1: requests with a Content-Length, and JSON responses, whole or line by line.

Written by hand because `http.server` adds 30 ms to every session's start, and because anything in the cluster can reach the port:
before it presents a token, a caller may send at most 16 KiB in 5 seconds.
"""

from __future__ import annotations

import json
import time

from flowsession_agent.errors import ApiError, bad_request

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Any, Callable, Mapping

HEAD_LIMIT = 16 * 1024
BODY_LIMIT = 16 * 1024 * 1024
REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    413: "Content Too Large",
    422: "Unprocessable Content",
    429: "Too Many Requests",
    500: "Internal Server Error",
}


class GoneError(Exception):
    """The caller closed the connection, or was too slow. It gets no response."""


class Request:
    """One request's head. Header names are in lower case."""

    def __init__(self, *, method: str, path: str, query: str, headers: dict[str, str], keep_alive: bool, length: int) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.keep_alive = keep_alive
        self.length = length
        self.gone: Callable[[], bool] = lambda: False
        """Whether the caller has closed the connection."""
        self.send_part: Callable[[Mapping[str, Any]], None] = lambda _: None
        """Sends a part of the response at once, as a line; the whole response is then the last line. Raises GoneError."""


class Wire:
    """One connection: reads heads and bodies within deadlines, writes responses."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = bytearray()
        self._in_lines = self._stuck = False

    def read_head(self, *, within: float) -> Request:
        """Return the next request's head. Raises GoneError after `within` seconds, ApiError if it isn't HTTP or exceeds 16 KiB."""
        deadline = time.monotonic() + within
        while True:
            end = self._buffer.find(b"\r\n\r\n")
            if end >= 0 or len(self._buffer) > HEAD_LIMIT:
                break
            self._receive(deadline)
        if end < 0 or end > HEAD_LIMIT:
            raise bad_request("The request's headers are longer than 16 KiB.")
        head = bytes(self._buffer[:end])
        del self._buffer[: end + 4]
        request = parse_head(head)
        request.gone, request.send_part = self.gone, self.send_part
        return request

    def read_body(self, request: Request, *, within: float) -> bytes:
        """Return the request's body. Raises GoneError after `within` seconds."""
        deadline = time.monotonic() + within
        if request.length and request.headers.get("expect", "").lower() == "100-continue":
            self._send(b"HTTP/1.1 100 Continue\r\n\r\n")
        while len(self._buffer) < request.length:
            self._receive(deadline)
        body = bytes(self._buffer[: request.length])
        del self._buffer[: request.length]
        return body

    def answer(self, status: int, members: Mapping[str, Any], *, keep_alive: bool) -> bool:
        """Send one JSON object; after `send_part`, as the last line and with its status. Return whether the connection stays open.

        Raises GoneError if the caller doesn't receive it.
        """
        if self._in_lines:
            self._send_line({"status": status, **members})
            return False
        body = json.dumps(members, separators=(",", ":")).encode()
        head = (
            f"HTTP/1.1 {status} {REASONS.get(status, 'Error')}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            f"X-Content-Type-Options: nosniff\r\nConnection: {'keep-alive' if keep_alive else 'close'}\r\n\r\n"
        )
        self._send(head.encode("ascii") + body)
        return keep_alive

    def send_part(self, members: Mapping[str, Any]) -> None:
        """Send one JSON object as a line; the connection then closes after the response. Raises GoneError as `answer` does."""
        if not self._in_lines:
            self._in_lines = True
            self._send(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
            )
        self._send_line(members)

    def gone(self) -> bool:
        """Return whether the caller has closed the connection, or has stopped receiving."""
        import select

        if self._stuck:
            return True
        poll = select.poll()
        poll.register(self._connection.fileno(), select.POLLRDHUP)
        return bool(poll.poll(0))

    def drain(self, *, within: float) -> None:
        """Discard what the caller is still sending, so that closing doesn't reset the connection before it has read the response."""
        deadline = time.monotonic() + within
        taken = len(self._buffer)
        try:
            self._connection.shutdown(1)
            while taken < 2 * BODY_LIMIT:
                self._buffer.clear()
                self._receive(deadline)
                taken += len(self._buffer)
        except (GoneError, OSError):
            return

    def _receive(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise GoneError
        try:
            self._connection.settimeout(left)
            data = self._connection.recv(65536)
        except OSError as error:
            raise GoneError from error
        if not data:
            raise GoneError
        self._buffer += data

    def _send_line(self, members: Mapping[str, Any]) -> None:
        self._send(json.dumps(members, separators=(",", ":")).encode() + b"\n")

    def _send(self, data: bytes) -> None:
        try:
            self._connection.settimeout(30)
            self._connection.sendall(data)
        except OSError as error:
            self._stuck = True
            raise GoneError from error


def parse_head(head: bytes) -> Request:
    """Parse the request line and headers. Raises ApiError if it isn't HTTP/1.x, is chunked, or has a body over 16 MiB."""
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3 or words[2] not in ("HTTP/1.1", "HTTP/1.0") or not words[1].startswith("/"):
        raise bad_request("That is not an HTTP/1.1 request.")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        name = name.lower()
        if not colon or not name or name != name.strip() or (name in headers and name == "content-length"):
            raise bad_request("The request's headers are malformed.")
        headers[name] = value.strip(" \t")
    if "transfer-encoding" in headers:
        raise bad_request("Transfer-Encoding is not supported: send the body with a Content-Length.")
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit() and len(length) < 16):
        raise bad_request("Content-Length is not a number.")
    if int(length) > BODY_LIMIT:
        raise ApiError(413, "TooLarge", f"The body has {int(length)} bytes, more than the {BODY_LIMIT} that the agent takes.")
    path, _, query = words[1].partition("?")
    wants = headers.get("connection", "").lower()
    keep_alive = "close" not in wants if words[2] == "HTTP/1.1" else "keep-alive" in wants
    return Request(method=words[0], path=path, query=query, headers=headers, keep_alive=keep_alive, length=int(length))
