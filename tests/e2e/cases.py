"""Bring the folders of tests/cases to the cluster, with a session for each, and record what a person would see."""

import base64
import io
import json
import tarfile
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .conftest import Cluster, Object, environment, session

FOLDER = Path(__file__).parents[1] / "cases"
AT_ONCE = 3
"""Number of sessions that fit on two nodes with two cores in addition to those of other test processes."""

NAMES = tuple(sorted(path.parent.name for path in FOLDER.glob("*/case.json")))


@dataclass(frozen=True)
class Ran:
    """The result of a command in the session."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Seen:
    """The observed state of a case: conditions by type, the environment's warnings, `flow test`, and the case's own command."""

    ready: bool
    session: dict[str, Object]
    environment: dict[str, Object]
    warnings: list[Object]
    install_warnings: list[str] = field(default_factory=list)
    test: Ran | None = None
    command: Ran | None = None
    checked: Ran | None = None
    """The result of `flow check`, if it followed a command in the session."""

    @property
    def verdict(self) -> str:
        """Return FlowValid's reason and message, or the output of `flow check` if it ran."""
        if self.checked is not None:
            return f"{'Invalid' if self.checked.code else 'Valid'}: {self.checked.out} {self.checked.err}"
        return _words(self.session.get("FlowValid", {}))

    @property
    def failure(self) -> str:
        """Return why the environment or the session is not Ready."""
        return f"{_words(self.environment.get('Ready', {}))} / {_words(self.session.get('Ready', {}))}"

    @property
    def warned(self) -> str:
        """Return all warnings of the environment and of the install."""
        return " / ".join([*(warning["message"] for warning in self.warnings), *self.install_warnings])


def start_all(cluster: Cluster) -> dict[str, Future[Seen]]:
    """Return a future for each case. AT_ONCE of them run concurrently."""
    pool = ThreadPoolExecutor(AT_ONCE)
    futures = {name: pool.submit(_try, cluster, name) for name in NAMES}
    pool.shutdown(wait=False)
    return futures


def _try(cluster: Cluster, case: str) -> Seen:
    about = json.loads((FOLDER / case / "case.json").read_text())
    name = f"c{case}"[:40].rstrip("-")
    spec = dict(about.get("environmentSpec", {}))
    if "folder" in about:
        cluster.apply(_config_map(name, FOLDER / case / about["folder"]))
        spec |= {"source": {"archive": {"configMap": {"name": name, "key": "flow.tar.gz"}}}, "flowPath": about["flowPath"]}
    cluster.apply(environment(name, **spec), session(name, of=name, **about.get("sessionSpec", {})))
    status = cluster.until(f"case {case} is Ready or has failed", lambda: _settled(cluster, name), 400)
    ready = status["phase"] == "Running"
    seen = _look(cluster, name, about, ready=ready)
    cluster.kubectl("delete", "computesession", name)
    return seen


def _settled(cluster: Cluster, name: str) -> dict[str, Any] | None:
    if _conditions(cluster, "flowenvironment", name).get("Ready", {}).get("status") == "False":
        return {"phase": "Failed"}
    status = cluster.status(name)
    conditions = {entry["type"]: entry for entry in status.get("conditions", ())}
    if conditions.get("PackagesInstalled", {}).get("reason") in ("InstallFailed", "InstallTimeout"):
        return {"phase": "Failed"}
    checked = conditions.get("FlowValid", {}).get("reason", "Checking") != "Checking"
    return status if status.get("phase") == "Running" and checked else None


def _look(cluster: Cluster, name: str, about: dict[str, Any], *, ready: bool) -> Seen:
    status = cluster.status(name)
    pod = status.get("podName", "")
    before = about.get("runInSessionFirst")
    if before:
        _run(cluster, pod, "sh", "-c", before)
    inputs = about.get("inputs")
    words = ["flow", "test", *(["--inputs", inputs] if isinstance(inputs, str) else [])]
    found = cluster.get("flowenvironment", name) or {}
    return Seen(
        ready=ready,
        session=_conditions(cluster, "computesession", name),
        environment=_conditions(cluster, "flowenvironment", name),
        warnings=found.get("status", {}).get("warnings", []),
        install_warnings=status.get("install", {}).get("warnings", []),
        checked=_run(cluster, pod, "flow", "check") if before else None,
        test=_run(cluster, pod, *words) if ready and inputs else None,
        command=_run(cluster, pod, "sh", "-c", about["exec"]) if ready and "exec" in about else None,
    )


def _run(cluster: Cluster, pod: str, *command: str) -> Ran:
    done = cluster.kubectl.attempt("exec", pod, "--", *command)
    return Ran(done.returncode, done.stdout, done.stderr)


def _conditions(cluster: Cluster, kind: str, name: str) -> dict[str, Object]:
    status = (cluster.get(kind, name) or {}).get("status", {})
    return {entry["type"]: entry for entry in status.get("conditions", ())}


def _words(condition: Object) -> str:
    return f"{condition.get('reason', '')}: {condition.get('message', '')}"


def _config_map(name: str, folder: Path) -> Object:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for path in sorted(folder.iterdir()):
            archive.add(path, path.name)
    metadata = {"name": name, "labels": {"flowsession.dev/source": "true"}}
    data = {"flow.tar.gz": base64.b64encode(packed.getvalue()).decode()}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "binaryData": data}
