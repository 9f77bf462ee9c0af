"""Private feeds for tests: a real pypiserver that needs a password, with or without TLS, a fake Entra, and a search for leaked tokens."""

import base64
import contextlib
import datetime
import hashlib
import http.server
import ipaddress
import json
import re
import secrets
import socket
import ssl
import subprocess
import sys
import threading
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from localcluster.ports import free_port

from .support import Agent, descendants, eventually

USERS = ("flowsession", "alice")


def wheel(folder: Path, name: str, version: str = "1.0", *, requires: Sequence[str] = (), value: str = "") -> Path:
    """Write a wheel with one module of the same name, whose VALUE is `value`. Return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    metadata = [
        "Metadata-Version: 2.1",
        f"Name: {name.replace('_', '-')}",
        f"Version: {version}",
        *(f"Requires-Dist: {one}" for one in requires),
    ]
    files = {
        f"{name}.py": f"VALUE = {value!r}\n",
        f"{info}/METADATA": "\n".join(metadata) + "\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"])
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(file, text)
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Authority:
    """A private CA, and a certificate that it issued for `host`, an IP address."""

    def __init__(self, folder: Path, *, host: str = "127.0.0.1") -> None:
        key, self._certificate = _certificate(f"Tests' own CA {secrets.token_hex(4)}", None, None)
        server_key, server = _certificate(host, key, self._certificate)
        self.pem = self._certificate.public_bytes(serialization.Encoding.PEM).decode()
        chain, private = folder / "server.crt", folder / "server.key"
        chain.write_bytes(server.public_bytes(serialization.Encoding.PEM))
        private.write_bytes(
            server_key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(chain, private)


def _certificate(
    name: str, issuer_key: ec.EllipticCurvePrivateKey | None, issuer: x509.Certificate | None
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if issuer is not None:
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(name))])
        builder = builder.add_extension(names, critical=False)
    return key, builder.sign(issuer_key or key, hashes.SHA256())


class Front:
    """A proxy before a server: terminates TLS if given a context, records all requests, and holds connections while `open` is cleared."""

    def __init__(self, backend: int, context: ssl.SSLContext | None, host: str) -> None:
        self._backend = backend
        self._context = context
        self._listener = socket.create_server((host, 0), backlog=128)
        self.port = self._listener.getsockname()[1]
        self.open = threading.Event()
        self.open.set()
        self._received = bytearray()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def logins(self) -> set[str]:
        """Return `user:password` of every Basic login received."""
        found = re.findall(rb"(?im)^authorization: basic (\S+)\r$", bytes(self._received))
        return {base64.b64decode(one).decode() for one in found}

    @property
    def requests(self) -> list[str]:
        """Return the method and target of every request received."""
        return [line.decode() for line in re.findall(rb"(?m)^((?:GET|HEAD|POST) \S+) HTTP/1\.[01]\r$", bytes(self._received))]

    def close(self) -> None:
        self.open.set()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        self.open.wait(30)
        with contextlib.suppress(OSError):
            plain = self._context.wrap_socket(connection, server_side=True) if self._context else connection
            with plain, socket.create_connection(("127.0.0.1", self._backend)) as behind:
                back = threading.Thread(target=_pump, args=(behind, plain, None), daemon=True)
                back.start()
                _pump(plain, behind, self._received)
                back.join(30)


def _pump(source: socket.socket, target: socket.socket, record: bytearray | None) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            if record is not None:
                record += data
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


class Tunnel:
    """A proxy that supports CONNECT, and records the request lines."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.place = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.asked: list[str] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head and (data := connection.recv(1)):
                head += data
            self.asked.append(head.partition(b"\r\n")[0].decode())
            host, _, port = self.asked[-1].split(" ")[1].rpartition(":")
            with socket.create_connection((host, int(port))) as behind:
                connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                back = threading.Thread(target=_pump, args=(behind, connection, None), daemon=True)
                back.start()
                _pump(connection, behind, None)
                back.join(30)


class Index:
    """A pypiserver that serves the packages of a folder, and requires the password."""

    def __init__(self, folder: Path, token: str, *, context: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self.packages = folder / "packages"
        self.packages.mkdir(parents=True, exist_ok=True)
        self.scheme = "https" if context else "http"
        digest = base64.b64encode(hashlib.sha1(token.encode()).digest()).decode()
        passwords = folder / "htpasswd"
        passwords.write_text("".join(f"{user}:{{SHA}}{digest}\n" for user in USERS))
        port = free_port()
        command = [sys.executable, "-m", "pypiserver", "run", "--port", str(port), "--interface", "127.0.0.1"]
        command += ["--authenticate", "list,download,update", "--passwords", str(passwords)]
        self._process = subprocess.Popen(
            [*command, "--disable-fallback", str(self.packages)], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        eventually("pypiserver listens", lambda: self._listens(port))
        self.front = Front(port, context, host)
        self.host = host

    @property
    def place(self) -> str:
        return f"{self.host}:{self.front.port}"

    @property
    def origin(self) -> str:
        return f"{self.scheme}://{self.place}"

    def url(self, login: str = "{private}", path: str = "/simple/") -> str:
        return f"{self.scheme}://{login}@{self.place}{path}"

    def close(self) -> None:
        self.front.close()
        self._process.kill()
        self._process.wait()

    def _listens(self, port: int) -> bool:
        assert self._process.poll() is None, "pypiserver ended"
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
        except OSError:
            return False
        return True


Answer = Callable[[str, dict[str, str]], tuple[int, dict[str, str], bytes]]


class Server:
    """An HTTP server that responds with what a function returns, and records requests."""

    def __init__(self, answer: Answer) -> None:
        asked: list[tuple[str, str, dict[str, str], bytes]] = []
        self.asked = asked
        """The method, path, headers and body of every request."""

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                asked.append((self.command, self.path, dict(self.headers), body))
                status, headers, content = answer(self.path, dict(self.headers))
                self.send_response(status)
                for name, value in {"Content-Length": str(len(content)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            def do_HEAD(self) -> None:
                self.do_GET()

            def do_POST(self) -> None:
                self.do_GET()

            def log_message(self, *_: Any) -> None:
                """Print nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.place = f"127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Entra(Server):
    """A token endpoint: returns `token`, or if `error` is set, refuses with it as Entra does. `raw` replaces the response's body."""

    def __init__(self, token: str) -> None:
        self.token, self.error, self.raw = token, "", b""
        super().__init__(self._answer)

    @property
    def forms(self) -> list[tuple[str, dict[str, str]]]:
        """Return the path and form of every request."""
        return [(path, {name: values[0] for name, values in parse_qs(body.decode()).items()}) for _, path, _, body in self.asked]

    def _answer(self, path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        if self.error:
            document: dict[str, Any] = {"error": "invalid_client", "error_description": self.error}
        else:
            document = {"token_type": "Bearer", "expires_in": 3599, "access_token": self.token}
        return 401 if self.error else 200, {"Content-Type": "application/json"}, self.raw or json.dumps(document).encode()


@contextlib.contextmanager
def closing(*servers: Any) -> Iterator[None]:
    try:
        yield
    finally:
        for server in servers:
            server.close()


def places_with(secret: str, agent: Agent) -> list[str]:
    """Return every place where `secret` is now: files of the session, its log, and command lines and environments of its processes."""
    wanted = [secret.encode(), base64.b64encode(secret.encode()), base64.b64encode(f"flowsession:{secret}".encode())]
    found = []
    for path in [*agent.home.rglob("*"), agent.log]:
        with contextlib.suppress(OSError):
            if path.is_file() and any(one in path.read_bytes() for one in wanted):
                found.append(str(path))
    for pid in [agent.pid, *descendants(agent.pid)]:
        for name in ("cmdline", "environ"):
            with contextlib.suppress(OSError):
                if any(one in Path(f"/proc/{pid}/{name}").read_bytes() for one in wanted):
                    found.append(f"{name} of {pid}")
    return found
