"""The cluster of this machine with the operator of this checkout in it, and a namespace for each test."""

import json
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from demo import programs
from demo.deploy import deploy
from demo.kubectl import Kubectl
from demo.targets import Target, choose

Object = dict[str, Any]
T = TypeVar("T")
CHECKOUT = Path(__file__).parents[2]


class Cluster:
    """kubectl, and waiting for conditions."""

    def __init__(self, target: Target, namespace: str = "default") -> None:
        self.target = target
        self.namespace = namespace
        self.kubectl = Kubectl(programs.kubectl(), target.kubeconfig, namespace)

    def within(self, namespace: str) -> "Cluster":
        return Cluster(self.target, namespace)

    def apply(self, *objects: Object) -> None:
        self.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))

    def get(self, kind: str, name: str) -> Object | None:
        return self.kubectl.get(kind, name)

    def patch(self, kind: str, name: str, body: Object) -> None:
        self.kubectl("patch", kind, name, "--type=merge", "-p", json.dumps(body))

    def session(self, name: str) -> Object:
        return self.get("computesession", name) or {}

    def status(self, name: str) -> Object:
        return self.session(name).get("status", {})

    def condition(self, name: str, kind: str, resource: str = "computesession") -> Object:
        status = (self.get(resource, name) or {}).get("status", {})
        return next((c for c in status.get("conditions", []) if c["type"] == kind), {})

    def events(self, name: str) -> list[Object]:
        found = self.kubectl.list("events", "--field-selector", f"involvedObject.name={name}")
        return sorted(found, key=lambda event: event["firstTimestamp"] or "")

    def until(self, what: str, check: Callable[[], T | None], seconds: float = 120.0) -> T:
        """Polls until the check gives something true. The failure shows every session's conditions and the pods."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if found := check():
                return found
            time.sleep(0.1)
        told = self.kubectl.attempt("describe", "computesessions,flowenvironments").stdout
        pods = self.kubectl.attempt("get", "pods", "-o", "wide").stdout
        raise AssertionError(f"not so after {seconds:.0f} s: {what}\n{told}\n{pods}")

    def until_condition(self, name: str, kind: str, *, status: str, reason: str | None = None, seconds: float = 120.0) -> Object:
        def check() -> Object | None:
            found = self.condition(name, kind)
            return found if found.get("status") == status and reason in (None, found.get("reason")) else None

        return self.until(f"{kind}={status} {reason or ''} of session {name}", check, seconds)

    def until_ready(self, name: str, seconds: float = 180.0) -> Object:
        self.until_condition(name, "Ready", status="True", seconds=seconds)
        return self.status(name)

    def until_gone(self, kind: str, name: str, seconds: float = 120.0) -> None:
        self.until(f"{kind} {name} is gone", lambda: self.get(kind, name) is None, seconds)

    def command(self, *arguments: str) -> list[str]:
        """A kubectl command line for what runs beside the test."""
        return [str(self.kubectl.program), "--kubeconfig", str(self.kubectl.kubeconfig), "-n", self.namespace, *arguments]

    def exec(self, pod: str, *command: str) -> str:
        return self.kubectl("exec", pod, "--", *command)


def environment(name: str = "plain", **spec: Any) -> Object:
    return {"apiVersion": "flowsession.dev/v1alpha1", "kind": "FlowEnvironment", "metadata": {"name": name}, "spec": spec}


def session(
    name: str = "s", *, of: str = "plain", user: str = "alice@example.com", idle: int = 3600, action: str = "Delete", **spec: Any
) -> Object:
    return {
        "apiVersion": "flowsession.dev/v1alpha1",
        "kind": "ComputeSession",
        "metadata": {"name": name},
        "spec": {"environmentRef": {"name": of}, "user": user, "idle": {"action": action, "timeoutSeconds": idle}, **spec},
    }


@pytest.fixture(scope="session")
def deployed() -> Cluster:
    """The operator of this very checkout, installed by Helm as `make deploy` does."""
    target = choose()
    target.up()
    deploy(target)
    return Cluster(target)


@pytest.fixture
def cluster(deployed: Cluster) -> Iterator[Cluster]:
    """A namespace of its own."""
    name = f"e2e-{uuid.uuid4().hex[:8]}"
    deployed.kubectl("create", "namespace", name)
    yield deployed.within(name)
    deployed.kubectl("delete", "namespace", name, "--wait=false")
