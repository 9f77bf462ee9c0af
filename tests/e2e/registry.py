"""A registry with one small image, which requires a login (https://github.com/opencontainers/distribution-spec/blob/main/spec.md)."""

import base64
import gzip
import hashlib
import io
import json
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType


class Registry:
    """A registry on this machine's loopback, where containerd uses plain HTTP. `image` is the name to pull."""

    def __init__(self, *, user: str, password: str) -> None:
        self._login = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        self.logins: set[str] = set()
        self.blobs = {}
        layer = _layer()
        config = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {},
                "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
            }
        ).encode()
        packed = gzip.compress(layer, mtime=0)
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": self._described(config, "application/vnd.oci.image.config.v1+json"),
            "layers": [self._described(packed, "application/vnd.oci.image.layer.v1.tar+gzip")],
        }
        self.manifest = json.dumps(manifest).encode()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        self.image = f"{self.host}/team/flow:1"

    def __enter__(self) -> "Registry":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _described(self, content: bytes, media_type: str) -> dict[str, object]:
        self.blobs[_digest(content)] = content
        return {"mediaType": media_type, "digest": _digest(content), "size": len(content)}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = default_request_version = "HTTP/1.1"
            """Also used to respond to requests that are not HTTP. containerd tries TLS first, and falls back to HTTP after that."""

            def do_GET(self) -> None:
                if self.headers.get("Authorization") != registry._login:
                    self._answer(401, b"{}", "application/json", {"WWW-Authenticate": 'Basic realm="team"'})
                    return
                registry.logins.add("team")
                name = self.path.rpartition("/")[2]
                if "/manifests/" in self.path:
                    self._answer(200, registry.manifest, "application/vnd.oci.image.manifest.v1+json")
                elif name in registry.blobs:
                    self._answer(200, registry.blobs[name], "application/octet-stream")
                else:
                    self._answer(200 if self.path.rstrip("/") == "/v2" else 404, b"{}", "application/json")

            do_HEAD = do_GET  # noqa: N815

            def _answer(self, status: int, body: bytes, media_type: str, headers: dict[str, str] | None = None) -> None:
                self.send_response(status)
                more = {
                    "Content-Type": media_type,
                    "Content-Length": str(len(body)),
                    "Docker-Content-Digest": _digest(body),
                    **(headers or {}),
                }
                for key, value in more.items():
                    self.send_header(key, value)
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        return Handler


def _layer() -> bytes:
    """Return a layer with one file: no Python, no shell."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        content = b"pulled\n"
        member = tarfile.TarInfo("hello")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
