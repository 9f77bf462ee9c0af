"""A package index for tests: generates small wheels, injects faults on demand, and records requests."""

import contextlib
import hashlib
import http.server
import io
import json
import os
import socketserver
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import background_server
from flowsession_cache.addresses import cached
from localcluster.ports import free_port

from .support import SOURCES, eventually


def wheel(name: str, version: str = "1.0", *, requires: tuple[str, ...] = (), size: int = 0, content: str = "") -> bytes:
    """Return a wheel with one module. `size` is that of an incompressible file added to it, in bytes."""
    info = f"{name}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {one}\n" for one in requires)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(f"{name}.py", content or f"name = {name!r}\n")
        archive.writestr(f"{name}_data.bin", os.urandom(size))
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", f"{name}.py,,\n{name}_data.bin,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return buffer.getvalue()


@dataclass
class FakeIndex:
    """An index at `url`. A change to a field shows in the next response."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    """Content by file name, whose first part is the project."""
    lies: dict[str, bytes] = field(default_factory=dict)
    """Content sent in place of that in `files`, by file name."""
    cut: dict[str, int] = field(default_factory=dict)
    """Bytes after which the connection is closed, by file name."""
    held: threading.Event = field(default_factory=threading.Event)
    """While cleared, a file's response pauses after its first half."""
    as_json: bool = True
    page_headers: dict[str, str] = field(default_factory=dict)
    file_fields: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def add(self, name: str, version: str = "1.0", **arguments: Any) -> str:
        """Add a wheel, and return its file name."""
        filename = f"{name}-{version}-py3-none-any.whl"
        self.files[filename] = wheel(name, version, **arguments)
        return filename

    def sha256(self, filename: str) -> str:
        return hashlib.sha256(self.files[filename]).hexdigest()

    def fetched(self, filename: str) -> int:
        """Return how often the whole file was requested."""
        return self.asked.count(f"GET /files/{filename}")

    def page(self, project: str) -> tuple[bytes, str]:
        names = [name for name in self.files if name.partition("-")[0].replace("_", "-") == project]
        if self.as_json:
            files = [
                {"filename": name, "url": f"../../files/{name}", "hashes": {"sha256": self.sha256(name)}, **self.file_fields.get(name, {})}
                for name in names
            ]
            document = {"meta": {"api-version": "1.1"}, "name": project, "files": files, "versions": ["1.0"]}
            return json.dumps(document).encode(), "application/vnd.pypi.simple.v1+json"
        links = [f'<a href="../../files/{name}#sha256={self.sha256(name)}">{name}</a>' for name in names]
        return f"<!DOCTYPE html><html><body>{' '.join(links)}</body></html>".encode(), "text/html"


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    index: FakeIndex

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def log_message(self, *_: object) -> None:
        return

    def _answer(self, *, body: bool) -> None:
        index = self.index
        partly = " part" if "Range" in self.headers else ""
        index.asked.append(f"{self.command} {self.path}{partly}")
        _, kind, name, *_ = [*self.path.split("/"), ""]
        if kind == "simple":
            content, content_type = index.page(name)
            etag = index.page_headers.get("ETag")
            if etag and self.headers.get("If-None-Match") == etag:
                return self._send(304, b"", "text/plain", {}, body=False)
            found = bool(json.loads(content)["files"]) if index.as_json else b"<a" in content
            return self._send(200 if found else 404, content, content_type, index.page_headers, body=body)
        if kind == "files" and name in index.files:
            return self._file(name, index.lies.get(name, index.files[name]), body=body)
        return self._send(404, b"no", "text/plain", {}, body=body)

    def _file(self, name: str, content: bytes, *, body: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if not body:
            return
        half = self.index.cut.get(name, len(content) // 2)
        self.wfile.write(content[:half])
        self.wfile.flush()
        if name in self.index.cut:
            self.close_connection = True
            return
        self.index.held.wait(60)
        self.wfile.write(content[half:])

    def _send(self, status: int, content: bytes, content_type: str, headers: dict[str, str], *, body: bool) -> None:
        self.send_response(status)
        for header, value in {"Content-Type": content_type, "Content-Length": str(len(content)), **headers}.items():
            self.send_header(header, value)
        self.end_headers()
        if body:
            self.wfile.write(content)


class _Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        return  # some tests disconnect on purpose


@contextlib.contextmanager
def fake_index() -> Iterator[FakeIndex]:
    """Serve an index while the block runs."""
    index = FakeIndex()
    index.held.set()
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"index": index}))
    index.url = f"http://127.0.0.1:{server.server_address[1]}/simple"
    with background_server.serving(server):
        try:
            yield index
        finally:
            index.held.set()


class RunningCache:
    """The package cache, in its own process."""

    def __init__(self, folder: Path, *indexes: str, limit: int = 1 << 30, prefix: tuple[str, ...] = ()) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = folder.with_suffix(".log").open("ab")
        arguments = [f"--index={index}" for index in indexes] + [f"--folder={folder}", f"--limit={limit}", f"--port={self.port}"]
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "flowsession_cache", *arguments],
            env={**os.environ, "PYTHONPATH": str(SOURCES)},
            stderr=self._log,
        )
        eventually("the cache answers", self._answers)

    def of(self, index: str) -> str:
        """Return the URL at which the cache serves the index."""
        return cached(self.url, index)

    def kept(self) -> set[str]:
        """Return the hashes of the cached files, without their metadata files."""
        return {path.name for path in (self.folder / "files").iterdir() if "." not in path.name}

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._log.close()

    def _answers(self) -> bool:
        import urllib.request

        assert self.process.poll() is None, self.folder.with_suffix(".log").read_text()
        try:
            with urllib.request.urlopen(f"{self.url}/healthz", timeout=5) as response:
                return bool(response.status == 200)
        except OSError:
            return False
