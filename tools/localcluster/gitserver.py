"""Real git servers on this machine, for tests: git's own http-backend behind HTTP with a password, and OpenSSH's sshd."""

import base64
import contextlib
import os
import subprocess
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from localcluster.ports import free_port
from localcluster.wait import until

BACKEND = "/usr/lib/git-core/git-http-backend"
USER, PASSWORD = "ada", "s3cret-of-ada"
_OWN = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
_NAMES = {f"GIT_{who}_{what}": "ada@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


class Repository:
    """A repository on the server's disk, with a working tree next to it for commits."""

    def __init__(self, root: Path, name: str = "flows.git") -> None:
        self.bare = root / name
        self.tree = root / f"{name}-tree"
        self._environment = {**os.environ, **_OWN, **_NAMES}
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", self.bare], check=True, env=self._environment)
        self.git("clone", "-q", str(self.bare), str(self.tree), cwd=root)
        for setting in ("uploadpack.allowFilter", "http.receivepack"):
            self.configure(setting, "true")

    def configure(self, setting: str, value: str) -> None:
        self.git("--git-dir", str(self.bare), "config", setting, value, cwd=self.bare)

    def git(self, *arguments: str, cwd: Path | None = None) -> str:
        command = ["git", "-c", "protocol.file.allow=always", *arguments]
        done = subprocess.run(command, cwd=cwd or self.tree, env=self._environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def commit(self, files: Mapping[str, bytes | None] | None = None, *, branch: str = "main") -> str:
        """Write the files (None removes one), commit and push everything in the tree, and return the commit."""
        for name, content in (files or {}).items():
            path = self.tree / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True) if content is None else path.write_bytes(content)
        self.git("add", "--all")
        self.git("commit", "-q", "--allow-empty", "-m", "a commit")
        self.git("push", "-q", "origin", f"HEAD:refs/heads/{branch}")
        return self.git("rev-parse", "HEAD")

    def tag(self, name: str, *, annotated: bool = False) -> None:
        self.git("tag", name, *(["-m", name] if annotated else []))
        self.git("push", "-q", "origin", f"refs/tags/{name}")


class HttpServer(ThreadingHTTPServer):
    """Serve the repositories of a folder, with a password if one is set."""

    daemon_threads = True

    def __init__(self, root: Path, *, host: str = "127.0.0.1", password: str = "") -> None:
        super().__init__((host, 0), _Handler)
        self.root = root
        self.password = password
        self.requests: list[str] = []
        self.redirect = ""
        """The URL to which every request is redirected, if set."""
        self.go_on = threading.Event()
        """Authorized requests wait for it."""
        self.go_on.set()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://{self.server_address[0]!s}:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: HttpServer

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def log_message(self, *_: Any) -> None:
        """Log nothing."""

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.requests.append(f"{self.command} {self.path} {self.headers.get('Authorization', '')}")
        if self.server.redirect:
            self.send_response(302)
            self.send_header("Location", self.server.redirect + self.path)
            self.end_headers()
            return
        wanted = "Basic " + base64.b64encode(f"{USER}:{self.server.password}".encode()).decode()
        if self.server.password and self.headers.get("Authorization") != wanted:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.end_headers()
            return
        self.server.go_on.wait(60)
        path, _, query = self.path.partition("?")
        environment = {
            **_OWN,
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.server.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "CONTENT_LENGTH": str(len(body)),
        }
        done = subprocess.run([BACKEND], input=body, env=environment, capture_output=True, check=False)
        head, _, answer = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().splitlines() if ": " in line)
        self.send_response(int(headers.pop("Status", "200").split()[0]))
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)


@contextlib.contextmanager
def serving(root: Path, **how: Any) -> Iterator[HttpServer]:
    """Run an HTTP server for the duration of the block."""
    server = HttpServer(root, **how)
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


class SshServer:
    """sshd on its own port, which accepts one key and runs as the user of the tests."""

    def __init__(self, folder: Path, *, host: str = "127.0.0.1") -> None:
        self.port = free_port()
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
        (folder / "authorized").write_bytes((folder / "user.pub").read_bytes())
        kind, key = (folder / "host.pub").read_text().split()[:2]
        self.known_hosts = f"[{host}]:{self.port} {kind} {key}\n"
        self.key = (folder / "user").read_text()
        options = ("PidFile=none", "StrictModes=no", "UsePAM=no", "PasswordAuthentication=no", "PermitRootLogin=yes", "LogLevel=ERROR")
        settings = (f"HostKey={folder}/host", f"AuthorizedKeysFile={folder}/authorized", f"ListenAddress={host}", *options)
        Path("/run/sshd").mkdir(exist_ok=True)
        words = [word for setting in settings for word in ("-o", setting)]
        self._process = subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", "/dev/null", "-p", str(self.port), *words])
        scan = ["ssh-keyscan", "-p", str(self.port), host]
        assert until(lambda: bool(subprocess.run(scan, capture_output=True, check=False).stdout), seconds=20), "sshd does not answer"

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()
