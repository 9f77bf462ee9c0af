"""Real agents for tests: run them with a chosen Python, call them with an operator's key, and wait for conditions with a deadline."""

import base64
import contextlib
import fcntl
import hashlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

import polling
from localcluster.ports import free_port

SOURCES = Path(__file__).parents[2] / "operator"
PREPARE = f"import sys; sys.path.insert(0, {str(SOURCES)!r}); from flowsession_agent.server.main import serve"
START = f"{PREPARE}; sys.exit(serve())"
START_WITHOUT_RUNNER = f"{PREPARE}; from flowsession_agent.session import runner; runner.ENOUGH_BYTES = sys.maxsize + 1; sys.exit(serve())"
FLOW = f"import sys; sys.path.insert(0, {str(SOURCES)!r}); from flowsession_agent.cli import main; sys.exit(main(sys.argv[1:]))"
POD_UID = "0b7c6c1e-1111-4222-8333-444455556666"
Answer = tuple[int, dict[str, Any]]
T = TypeVar("T")


def eventually(what: str, look: Callable[[], T], *, seconds: float = 90) -> T:
    """Return the first true value of `look`. Fails with `what` in the message after `seconds`."""
    began = time.monotonic()
    while True:
        found = look()
        if found:
            return found
        waited = time.monotonic() - began
        assert waited < seconds, f"{what}: not within {seconds} s"
        time.sleep(polling.pause(waited))


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Operator:
    """An operator that may call agents: a key pair, and tokens signed with it."""

    def __init__(self, kid: str = "key-1") -> None:
        self.kid = kid
        self._key = rsa.generate_private_key(65537, 2048)

    @property
    def public(self) -> dict[str, str]:
        numbers = self._key.public_key().public_numbers()
        return {"kty": "RSA", "kid": self.kid, "n": base64url(numbers.n.to_bytes(256, "big")), "e": "AQAB"}

    def token(self, *, header: Mapping[str, Any] | None = None, **claims: Any) -> str:
        now = int(time.time())
        return self.sign(
            json.dumps({"alg": "RS256", "kid": self.kid, **(header or {})}).encode(),
            json.dumps({"aud": POD_UID, "iat": now, "exp": now + 60, **claims}).encode(),
        )

    def sign(self, header: bytes, claims: bytes) -> str:
        signed = f"{base64url(header)}.{base64url(claims)}"
        return f"{signed}.{base64url(self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


class Agent:
    """A running agent. `pid` is its PID in the tests' PID namespace."""

    def __init__(self, process: subprocess.Popen[bytes], *, operator: Operator, port: int, home: Path, log: Path) -> None:
        self.process = process
        self.operator = operator
        self.port = port
        self.home = home
        self.log = log
        self.pid = process.pid

    def call(self, method: str, path: str, body: Any = None, *, token: str | None = "", timeout: float = 90) -> Answer:
        headers = {} if token is None else {"X-Flowsession-Token": token or self.operator.token()}
        content = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else None
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)) as connection:
            connection.request(method, path, content, headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read())

    def state(self) -> dict[str, Any]:
        return self.call("GET", "/v1/state")[1]

    def settled(self) -> dict[str, Any]:
        """Wait until the flow is checked, and return the state. From then on it changes only on request."""

        def found() -> dict[str, Any] | None:
            state = self.state()
            return state if state["check"]["state"] != "Running" else None

        state = eventually("the flow is checked", found)
        assert state is not None
        return state

    def put(self, packages: str = "p1", flow: str = "", *, files: Mapping[str, bytes] | None = None, **members: Any) -> Answer:
        encoded = None if files is None else {name: base64.b64encode(content).decode() for name, content in files.items()}
        return self.call("PUT", "/v1/environment", {"packagesRevision": packages, "flowRevision": flow, "files": encoded, **members})

    def install(
        self,
        packages: str,
        text: str,
        *,
        path: str | None = None,
        files: Mapping[str, bytes] | None = None,
        flow: str = "",
        **installer: Any,
    ) -> dict[str, Any]:
        """Order an install, wait for its end with long polls, and return the state's `install`."""
        status, state = self.put(
            packages, flow, files=files, requirements={"text": text, "path": path}, installer=machine_settings(installer)
        )
        assert status == 200, state
        return self.installed(state)

    def installed(self, state: dict[str, Any]) -> dict[str, Any]:
        while state["install"]["state"] == "Running":
            _, state = self.call("GET", f"/v1/state?since={state['version']}&wait=30")
        install: dict[str, Any] = state["install"]
        return install

    def flow(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run the command `flow` as a person in the pod does."""
        command, environment = self.command(*arguments)
        return subprocess.run(command, env=environment, input=stdin, capture_output=True, text=True, timeout=120, check=False)

    @contextlib.contextmanager
    def flowing(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """Start the command `flow` with pipes for its streams. Kills it when the block ends."""
        command, environment = self.command(*arguments)
        pipe = subprocess.PIPE
        with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
            try:
                yield process
            finally:
                process.kill()

    def command(self, *arguments: str) -> tuple[list[str], dict[str, str]]:
        """Return the command line of `flow`, and its environment."""
        return [sys.executable, "-IS", "-c", FLOW, *arguments], {"PATH": os.environ["PATH"], "FLOWSESSION_HOME": str(self.home)}

    def execute(self, *command: str) -> subprocess.Popen[bytes]:
        """Start a command as `kubectl exec` does: in the agent's namespaces, with a parent outside them."""
        return subprocess.Popen(["nsenter", "--target", str(self.pid), "--pid", "--mount", *command])

    @contextlib.contextmanager
    def executing(self, *command: str) -> Iterator[None]:
        """Execute a command in the pod, and kill it when the block ends."""
        process = self.execute(*command)
        line = " ".join(command)
        try:
            eventually("inside", lambda: line in "\n".join(descendants(process.pid).values()))
            yield
        finally:
            for pid in [*descendants(process.pid), process.pid]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def crash(self) -> None:
        """Kill the agent and all that it started, as when a container is killed."""
        family = list(descendants(self.process.pid))
        self.close()
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        eventually("all of it is gone", lambda: not any(Path(f"/proc/{pid}").exists() for pid in family))


def start(
    folder: Path,
    *,
    python: str = sys.executable,
    operator: Operator,
    command: Sequence[str] = (),
    prefix: Sequence[str] = (),
    runners: bool = True,
    **environment: str,
) -> Agent:
    """Start an agent below `folder` and wait until it answers.

    `prefix` wraps its command, e.g. in a namespace. Without `runners` it keeps no process with prompt flow imported, as if
    memory were short.
    """
    port = free_port()
    home = Path(environment.pop("FLOWSESSION_HOME", str(folder / "session")))
    settings = {
        "FLOWSESSION_HOME": str(home),
        "FLOWSESSION_POD_UID": POD_UID,
        "FLOWSESSION_PUBLIC_KEYS": json.dumps({"keys": [operator.public]}),
        "FLOWSESSION_PORT": str(port),
    }
    log = folder / "agent.log"
    program = START if runners else START_WITHOUT_RUNNER
    with log.open("ab") as file:
        process = subprocess.Popen(
            [*prefix, *(command or (python, "-IS", "-c", program))],
            env={**os.environ, **settings, **environment},
            stdin=subprocess.DEVNULL,
            stderr=file,
        )
    agent = Agent(process, operator=operator, port=port, home=home, log=log)

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            return agent.call("GET", "/healthz", token=None)[0] == 200
        except OSError:
            return False

    eventually("the agent answers", answers)
    return agent


IN_NAMESPACE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")


def runners(agent: Agent) -> list[int]:
    """Return the PIDs of the process that has prompt flow imported, and of those that it has forked."""
    return [pid for pid, command in descendants(agent.pid).items() if "run_forks" in command]


def start_as_pid1(folder: Path, *, prefix: Sequence[str] = IN_NAMESPACE, **arguments: Any) -> Agent:
    """Start an agent as PID 1 of a namespace, as in a pod."""
    agent = start(folder, prefix=prefix, **arguments)
    agent.pid = int(Path(f"/proc/{agent.process.pid}/task/{agent.process.pid}/children").read_text().split()[0])
    return agent


def pythons() -> list[str]:
    """Return the oldest supported Python and the newest that pyenv has installed, or this Python if it has none."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = {
        tuple(map(int, path.name.split("."))): str(path / "bin" / "python3")
        for path in root.glob("3.*.*")
        if path.name.replace(".", "").isdigit()
    }
    known = sorted(version for version in found if version >= (3, 9))
    return [found[version] for version in dict.fromkeys((known[0], known[-1]))] if known else [sys.executable]


def machine_settings(installer: Mapping[str, Any]) -> dict[str, Any]:
    """Return the installer's settings, with the CA bundle and index that this machine's pip is configured with as defaults."""
    settings: dict[str, Any] = {}
    bundle = os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE")
    if bundle:
        settings["caBundle"] = Path(bundle).read_text()
    if os.environ.get("PIP_INDEX_URL"):
        settings["indexURL"] = os.environ["PIP_INDEX_URL"]
    return {**settings, **installer}


def base(name: str, *packages: str) -> str:
    """Return the Python of a venv with pip, uv and `packages`, in place of an image. The venv is kept outside the checkout between runs."""
    from uv import find_uv_bin

    key = hashlib.sha256(json.dumps([sys.version, sys.base_prefix, *packages]).encode()).hexdigest()[:12]
    cache = Path(os.environ.get("FLOWSESSION_CACHE", Path.home() / ".cache" / "flowsession"))
    folder = cache / "test-bases" / f"{name}-{key}"
    python = folder / "bin" / "python"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another test process may be creating it
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", folder], check=True)
            shutil.copy(find_uv_bin(), folder / "bin" / "uv")
            if packages:
                subprocess.run([folder / "bin" / "uv", "pip", "install", "--quiet", "--python", python, *packages], check=True)
            (folder / "complete").touch()
    return str(python)


@contextlib.contextmanager
def hanging_index() -> Iterator[str]:
    """Yield the URL of a package index that accepts connections and never responds."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/simple"


@contextlib.contextmanager
def folder_of(uid: int) -> Iterator[Path]:
    """Create a folder that `uid` owns and can reach, since pytest's belong to root."""
    with tempfile.TemporaryDirectory(prefix="fs-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        os.chown(folder, uid, uid)
        yield folder


def as_file(folder: Path, python: str) -> tuple[str, ...]:
    """Build `agent.pyz` in `folder`, and return the command that runs it with `python`, as in an image without the agent."""
    from flowsession_agent.build import build

    archive = folder / "agent.pyz"
    build(str(archive))
    archive.chmod(0o644)
    return (python, "-I", str(archive))


def processor_seconds(pid: int) -> float:
    """Return the processor time of a process and of its threads, ended ones too, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def descendants(pid: int) -> dict[int, str]:
    """Return the living descendants of `pid` with their command lines."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if fields[0] != "Z":
                parents[int(stat.parent.name)] = int(fields[1])
    family, grown = {pid}, True
    while grown:
        children = {child for child, parent in parents.items() if parent in family}
        grown = not children <= family
        family |= children
    commands = {}
    for child in family - {pid}:
        with contextlib.suppress(OSError):
            commands[child] = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return commands
