"""A small index proxy on loopback that runs during an install. It adds the token, which the installer never sees.

It forwards `http://127.0.0.1:PORT/SECRET/NUMBER/path` to one feed's server and no other. The installer itself follows links and redirects
to other servers, without a token.
"""

from __future__ import annotations

import base64
import hmac
import http.client
import http.server
import sys
import threading
from urllib.parse import urljoin

from flowsession_agent.feeds import links
from flowsession_agent.feeds.errors import FeedError
from flowsession_agent.feeds.upstream import reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from flowsession_agent.feeds.credentials import Credentials
    from flowsession_agent.feeds.record import Record
    from flowsession_agent.feeds.upstream import Network, Route
    from flowsession_agent.feeds.urls import Address, Feed, Feeds

PAGE_LIMIT = 64 * 1024 * 1024
IDLE_SECONDS = 120
CHUNK = 64 * 1024
# `Accept-Encoding` is not sent on: links are rewritten on the way, and packages are compressed already.
SENT_ON = ("Accept", "User-Agent", "Range", "If-Range", "If-None-Match", "If-Modified-Since", "Cache-Control")
SENT_BACK = ("Content-Type", "Content-Range", "Accept-Ranges", "ETag", "Last-Modified", "Cache-Control", "Retry-After", "Vary")


class Gate:
    """The listening server. `close` ends it with all its connections."""

    def __init__(self, *, address: Address, feeds: Feeds, credentials: Credentials, network: Network, record: Record) -> None:
        """Start the server. Raises OSError if it can't listen on loopback."""
        try:
            self._server = _Server(("127.0.0.1", address.port), _Handler)
        except OSError:  # another process has the port of the last install
            self._server = _Server(("127.0.0.1", 0), _Handler)
        address.port = self._server.server_address[1]
        self._server.address, self._server.feeds = address, feeds
        self._server.credentials, self._server.network, self._server.record = credentials, network, record
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True, name="gate")
        self._thread.start()

    def close(self) -> None:
        """Accept no more connections, and serve nothing more on open ones."""
        self._server.closed = True
        self._server.shutdown()
        self._server.server_close()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256  # uv opens 50 connections at once
    address: Address
    feeds: Feeds
    credentials: Credentials
    network: Network
    record: Record
    closed = False

    def server_bind(self) -> None:
        """Bind without looking up a host name, which may take seconds."""
        self.socket.setsockopt(1, 2, 1)  # SOL_SOCKET, SO_REUSEADDR
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def handle_error(self, *_: Any) -> None:
        """Ignore a tool that hangs up. Anything else is a defect: report it without what was requested."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            print(f"flowsession agent: the index gate failed: {type(error).__name__}", file=sys.stderr, flush=True)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "flowsession", ""
    timeout = IDLE_SECONDS
    server: _Server

    def setup(self) -> None:
        super().setup()
        self._routes: dict[int, Route] = {}

    def finish(self) -> None:
        for route in self._routes.values():
            route.close()
        super().finish()

    def do_GET(self) -> None:
        self._forward()

    def do_HEAD(self) -> None:
        self._forward()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Log nothing, since the tools report what they requested."""

    def _forward(self) -> None:
        feed, path = self._place()
        if feed is None:
            self._refuse(404, "There is nothing here.")
            return
        record = self.server.record
        try:
            token = self.server.credentials.token(feed)
        except FeedError as error:
            record.failed(error.failure)
            self._refuse(502, error.failure.message)
            return
        login = base64.b64encode(f"{feed.user}:{token}".encode()).decode()
        headers = {name: self.headers[name] for name in SENT_ON if name in self.headers}
        headers.update({"Host": feed.place.rpartition("@")[2], "Authorization": f"Basic {login}", "Accept-Encoding": "identity"})
        try:
            answer = self._route(feed).ask(self.command, path, headers)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._give_up(feed, reason(error))
            return
        record.answered(feed, path, answer.status)
        self._answer(feed, path, answer)

    def _place(self) -> tuple[Feed | None, str]:
        """Return the feed and the path that the request is for. The Host is checked since a web page may have made a browser send it."""
        address = self.server.address
        secret, _, rest = self.path.lstrip("/").partition("/")
        number, _, path = rest.partition("/")
        known = hmac.compare_digest(secret.encode(), address.secret.encode()) and not self.server.closed
        if not known or self.headers.get("Host") != f"127.0.0.1:{address.port}" or self.headers.get("Content-Length", "0") != "0":
            return None, ""
        return self.server.feeds.numbered(number), f"/{path}"

    def _route(self, feed: Feed) -> Route:
        if feed.number not in self._routes:
            self._routes[feed.number] = self.server.network.route(feed.scheme, feed.host, feed.port)
        return self._routes[feed.number]

    def _answer(self, feed: Feed, path: str, answer: http.client.HTTPResponse) -> None:
        url = f"{feed.origin}{path}"
        headers = {name: answer.headers[name] for name in SENT_BACK if name in answer.headers}
        target = answer.headers.get("Location")
        if target is not None and 300 <= answer.status < 400:
            headers["Location"] = self._local(feed, urljoin(url, target))
        if self.command == "GET" and answer.status == 200 and links.is_page(headers.get("Content-Type", "")):
            try:
                body = answer.read(PAGE_LIMIT + 1)
            except (OSError, http.client.HTTPException) as error:
                self._give_up(feed, reason(error))
                return
            if len(body) > PAGE_LIMIT or answer.headers.get("Content-Encoding", "identity") != "identity":
                self._give_up(feed, f"its page {path} is packed although nobody asked for that, or larger than {PAGE_LIMIT} bytes")
                return
            body = links.rewritten(body, content_type=headers["Content-Type"], url=url, local=lambda link: self._local(feed, link))
            self._head(answer.status, {**headers, "Content-Length": str(len(body))})
            self.wfile.write(body)
            return
        length = answer.headers.get("Content-Length")
        bare = self.command == "HEAD" or answer.status in (204, 304)
        if length is None and not bare:
            self.close_connection = True
            headers["Connection"] = "close"
        self._head(answer.status, {**headers, **({"Content-Length": length} if length is not None else {})})
        self._stream(feed, answer)

    def _stream(self, feed: Feed, answer: http.client.HTTPResponse) -> None:
        try:
            while data := answer.read(CHUNK):
                self.wfile.write(data)
        except (OSError, http.client.HTTPException) as error:  # the tool sees a truncated response, and retries
            self.close_connection = True
            self._routes.pop(feed.number).close()
            if not isinstance(error, ConnectionError):
                self.server.record.unreachable(feed, reason(error))

    def _give_up(self, feed: Feed, why: str) -> None:
        """Respond in place of a feed that gave no usable response."""
        if feed.number in self._routes:
            self._routes.pop(feed.number).close()
        self.server.record.unreachable(feed, why)
        self._refuse(502, f"{feed.origin} can't be reached: {why}")

    def _local(self, feed: Feed, url: str) -> str:
        path = feed.serves(url)
        return url if path is None else self.server.feeds.address_of(feed, path)

    def _refuse(self, status: int, words: str) -> None:
        body = f"{words}\n".encode()
        self._head(status, {"Content-Type": "text/plain; charset=utf-8", "Content-Length": str(len(body))})
        if self.command != "HEAD":
            self.wfile.write(body)

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value.replace("\r", " ").replace("\n", " "))
        self.end_headers()
