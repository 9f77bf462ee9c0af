"""A recording OTLP/HTTP server for tests: the spans that it received, with their resource, and the raw requests.

It reads the few fields of opentelemetry-proto's trace messages that tests look at, from protobuf's wire format.
"""

import contextlib
import gzip
import http.server
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import background_server


@dataclass
class Span:
    """The parts of a span that tests look at."""

    name: str
    resource: dict[str, Any]
    attributes: dict[str, Any]
    events: dict[str, dict[str, Any]]
    """Attributes by the event's name."""
    status: str
    """The description in the status."""
    trace: bytes
    parent: bytes


@dataclass
class Request:
    """One request."""

    path: str
    headers: dict[str, str]
    """Headers by lower-case name."""
    body: bytes


@dataclass
class OtlpServer:
    """A server at `url` that answers with `status` once `held` is set."""

    url: str = ""
    status: int = 200
    requests: list[Request] = field(default_factory=list)
    held: threading.Event = field(default_factory=threading.Event)

    @property
    def spans(self) -> list[Span]:
        return [span for request in self.requests for span in spans_of(request.body)]

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]


def fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Yield each field's number and value: an int for a varint, fixed32 or fixed64, otherwise bytes."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        number, kind = divmod(varint(), 8)
        if kind == 0:
            yield number, varint()
            continue
        size = varint() if kind == 2 else {1: 8, 5: 4}[kind]
        content, at = message[at : at + size], at + size
        yield number, content if kind == 2 else int.from_bytes(content, "little")


def only(message: bytes, number: int) -> Iterator[Any]:
    return (value for found, value in fields(message) if found == number)


def text(message: bytes, number: int) -> str:
    return next(only(message, number), b"").decode()


def attributes(message: bytes, number: int) -> dict[str, Any]:
    """Read a list of KeyValue."""
    found: dict[str, Any] = {}
    for pair in only(message, number):
        kind, value = next(fields(next(only(pair, 2), b"")), (1, b""))
        found[text(pair, 1)] = value.decode() if kind == 1 else struct.unpack("d", struct.pack("Q", value))[0] if kind == 4 else value
    return found


def spans_of(request: bytes) -> Iterator[Span]:
    """Yield the spans of an ExportTraceServiceRequest."""
    for group in only(request, 1):
        resource = attributes(next(only(group, 1), b""), 1)
        for scope in only(group, 2):
            for span in only(scope, 2):
                events = {text(event, 2): attributes(event, 3) for event in only(span, 11)}
                status = text(next(only(span, 15), b""), 2)
                trace, parent = next(only(span, 1)), next(only(span, 4), b"")
                yield Span(text(span, 5), resource, attributes(span, 9), events, status, trace, parent)


@contextlib.contextmanager
def serving(host: str = "127.0.0.1") -> Iterator[OtlpServer]:
    """Run a server."""
    otlp = OtlpServer()
    otlp.held.set()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            if headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            otlp.held.wait(60)
            otlp.requests.append(Request(self.path, headers, body))
            self.send_response(otlp.status)
            self.send_header("Location", f"{otlp.url}/elsewhere")
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer((host, 0), Handler)
    server.daemon_threads = True
    otlp.url = f"http://{host}:{server.server_port}"
    with background_server.serving(server):
        try:
            yield otlp
        finally:
            otlp.held.set()
