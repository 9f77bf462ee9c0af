"""The part of HTTP/1.1 that agents speak, in a client that a hostile agent can't keep busy: it counts every byte and every small read.

aiohttp and h11 hide interim responses, chunk extensions and tiny chunks from their callers, and parsing those costs processor time. An
agent sends one response with a Content-Length (docs/agent-protocol.md); anything else ends the connection.
"""

import asyncio
import re
import socket
from collections.abc import Iterable, Mapping
from typing import Any

from flowsession.flow import packed

CONNECT_SECONDS = 3.0
LARGEST_HEAD = 16 * 1024
"""Maximum bytes of the status line and headers; genuine agents send 200."""
READ_BYTES = 64 * 1024
SMALL_READ = 4096
"""Bytes below which a read counts as small."""
SMALL_READS = 16
"""Small reads of a connection before it pauses between reads: an honest response takes one to three."""
READ_PAUSE = 0.02
"""Seconds before each further read: meanwhile the kernel collects what trickles in."""

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: [^\r\n]*)?")
_LENGTH = re.compile(rb"[0-9]{1,12}")


class BadAnswer(Exception):
    """An unacceptable response; the text says why, and completes a sentence that begins with "its answer"."""


class Connection:
    """One TCP connection to an agent. Whoever opened it closes it."""

    def __init__(self, connected: socket.socket, host: str) -> None:
        self._socket = connected
        self._host = host
        self._buffer = bytearray()
        self._small_reads = 0

    async def exchange(self, method: str, path: str, headers: Mapping[str, str], body: Any, *, largest: int) -> tuple[int, bytes]:
        """Send a request; return the status and the body, at most `largest` bytes, of the response. Raises BadAnswer, OSError."""
        length, content = packed.as_json(body)
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._host}", "Accept: application/json", "Accept-Encoding: identity"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if body is not None:
            lines += ["Content-Type: application/json", f"Content-Length: {length}"]
        await self._send("\r\n".join([*lines, "", ""]).encode("latin-1"), content)
        status, size = _head(await self._take_head())
        if size > largest:
            raise BadAnswer(f"has more than {largest:,} bytes")
        return status, await self._take(size)

    def close(self) -> None:
        """Close the connection, even if more data would arrive."""
        self._socket.close()

    async def _send(self, head: bytes, content: Iterable[bytes]) -> None:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(self._socket, head)
        for piece in content:
            await loop.sock_sendall(self._socket, piece)

    async def _take_head(self) -> bytes:
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > LARGEST_HEAD:
                raise BadAnswer(f"has headers of more than {LARGEST_HEAD:,} bytes")
            await self._receive()
        if end > LARGEST_HEAD:
            raise BadAnswer(f"has headers of more than {LARGEST_HEAD:,} bytes")
        head = bytes(self._buffer[:end])
        del self._buffer[: end + 4]
        return head

    async def _take(self, length: int) -> bytes:
        while len(self._buffer) < length:
            await self._receive()
        body = bytes(self._buffer[:length])
        del self._buffer[:length]
        return body

    async def _receive(self) -> None:
        if self._small_reads > SMALL_READS:
            await asyncio.sleep(READ_PAUSE)
        data = await asyncio.get_running_loop().sock_recv(self._socket, READ_BYTES)
        if not data:
            raise BadAnswer(f"ended early, after {len(self._buffer):,} bytes")
        if len(data) < SMALL_READ:
            self._small_reads += 1
        self._buffer += data


async def connect(ip: str, port: int) -> Connection:
    """Connect to an address. Raises OSError; TimeoutError after CONNECT_SECONDS."""
    family, host = (socket.AF_INET6, f"[{ip}]") if ":" in ip else (socket.AF_INET, ip)
    made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        async with asyncio.timeout(CONNECT_SECONDS):
            await asyncio.get_running_loop().sock_connect(made, (ip, port))
    except BaseException:
        made.close()
        raise
    return Connection(made, f"{host}:{port}")


def _head(head: bytes) -> tuple[int, int]:
    """Return the status and the length of the body. Raises BadAnswer."""
    first, *lines = head.split(b"\r\n")
    found = _STATUS_LINE.fullmatch(first)
    if found is None:
        raise BadAnswer("is not HTTP/1.1")
    status = int(found[1])
    if status < 200:
        raise BadAnswer(f"is an interim one (HTTP {status})")
    fields = [(name.strip().lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
    if any(name == b"transfer-encoding" for name, _ in fields):
        raise BadAnswer("comes in chunks, not with a Content-Length")
    lengths = [value for name, value in fields if name == b"content-length"]
    if len(lengths) != 1 or not _LENGTH.fullmatch(lengths[0]):
        raise BadAnswer("has no Content-Length")
    return status, int(lengths[0])
