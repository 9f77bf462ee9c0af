"""This machine's cluster with this checkout's operator in it, and a namespace for each test."""

import contextlib
import json
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

import polling
from demo import programs
from demo.deploy import deploy
from demo.kubectl import Kubectl
from demo.targets import Local, Target, choose
from localcluster import images

from .processes import Processes
from .reading import ReadingKubectl

Object = dict[str, Any]
T = TypeVar("T")
CHECKOUT = Path(__file__).parents[2]
LABELS = {"app.kubernetes.io/part-of": "flowsession-e2e"}
"""Labels of namespaces and cluster-scoped objects, so that a run finds what a killed run left behind."""

SET_ASIDE = "flowsession-e2e-set-aside"
"""The ConfigMap in `default` with what a run removes while it lasts."""

BUSY = "import time\nend = time.monotonic() + 30\nwhile time.monotonic() < end: sum(range(300_000)); time.sleep(0.04)"
"""A Python program that works for 30 seconds, on less than a tenth of a core since other tests share the machine."""


class Cluster:
    """kubectl, and functions that wait for conditions."""

    def __init__(self, target: Target, namespace: str = "default") -> None:
        self.target = target
        self.namespace = namespace
        self.kubectl = ReadingKubectl(programs.kubectl(), target.kubeconfig, namespace)

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

    def until_event(self, name: str, reason: str, *words: str) -> list[Object]:
        """Return an object's Events with this reason and these words. Events are written right after the status that they report."""

        def told() -> list[Object]:
            return [e for e in self.events(name) if e["reason"] == reason and all(word in e["message"] for word in words)]

        return self.until(f"Event {reason} of {name} {' '.join(words)}".strip(), told, 30)

    def until(self, what: str, check: Callable[[], T | None], seconds: float = 120.0) -> T:
        """Poll until the check returns something true, and return that. The failure shows every session's conditions and the pods."""
        began = time.monotonic()
        while (waited := time.monotonic() - began) < seconds:
            if found := check():
                return found
            time.sleep(polling.pause(waited, least=0.1, most=0.5))
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

    def until_nodes_are_free(self, seconds: float = 120.0) -> None:
        """Wait until no other sessions are on the nodes, for tests that need them all. The failure names the pods in the way."""
        end = time.monotonic() + seconds
        while pods := self._other_sessions():
            names = ", ".join(f"{pod['metadata']['namespace']}/{pod['metadata']['name']}" for pod in pods)
            assert time.monotonic() < end, f"these pods are on the nodes still; end their sessions: {names}"
            time.sleep(0.2)

    def _other_sessions(self) -> list[Object]:
        found = self.kubectl.list("pods", "-A", "-l", "flowsession.dev/user")
        return [pod for pod in found if pod["metadata"]["namespace"] != self.namespace]

    def create_namespace(self) -> None:
        """Create the namespace."""
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace, "labels": LABELS}})

    def command(self, *arguments: str) -> list[str]:
        """Return a kubectl command line for a process that runs concurrently with the test."""
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


def flow_run(name: str, *, of: str = "plain", user: str = "alice@example.com", **spec: Any) -> Object:
    given = {"user": user, "environmentRef": {"name": of}, **spec}
    return {"apiVersion": "flowsession.dev/v1alpha1", "kind": "FlowRun", "metadata": {"name": name}, "spec": given}


@contextlib.contextmanager
def claimed(cluster: Cluster, name: str, folder: Path) -> Iterator[None]:
    """Provide a claim for a folder of this machine, which any node can mount. Everything that may use it is deleted at the end."""
    size, spec, volume = {"storage": "1Gi"}, {"storageClassName": "", "accessModes": ["ReadWriteMany"]}, f"{cluster.namespace}-{name}"
    kept = {"capacity": size, "hostPath": {"path": str(folder)}, "persistentVolumeReclaimPolicy": "Retain"}
    asked = {"resources": {"requests": size}, "volumeName": volume}
    cluster.apply(
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": volume}, "spec": {**spec, **kept}},
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": {**spec, **asked}},
    )
    yield
    cluster.kubectl("delete", "frun,csess,fenv", "--all", "--wait=true")
    cluster.until("nothing uses the claim", lambda: cluster.kubectl.list("pods") == [])
    cluster.kubectl("delete", "pvc", name, "--wait=true")
    cluster.kubectl("delete", "pv", volume, "--wait=true")


_PROCESSES = pytest.StashKey[Processes]()


def pytest_configure(config: pytest.Config) -> None:
    shared = Path(config.option.basetemp).parent if hasattr(config, "workerinput") else None
    config.stash[_PROCESSES] = Processes(shared)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put tests that need the whole cluster last, all in one process, so that the others wait for them only once."""
    items.sort(key=_whole)
    for item in filter(_whole, items):
        item.add_marker(pytest.mark.xdist_group("whole_cluster"))


def _whole(item: pytest.Item | None) -> bool:
    return item is not None and item.get_closest_marker("whole_cluster") is not None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Get access to the cluster before any fixture: module fixtures may change the operator or leave sessions running."""
    item.config.stash[_PROCESSES].use(alone=_whole(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    try:
        return (yield)
    finally:
        if nextitem is None or _whole(nextitem) is not _whole(item):
            item.config.stash[_PROCESSES].done()


@pytest.fixture(scope="session")
def deployed(pytestconfig: pytest.Config) -> Iterator[Cluster]:
    """Install the operator of this very checkout by Helm, as `make deploy` does, once for all processes of the run."""
    target = choose()
    kubectl = Kubectl(programs.kubectl(), target.kubeconfig, "default")
    name, value = next(iter(LABELS.items()))

    def prepare() -> None:
        target.up()
        if isinstance(target, Local):  # undo what a run left that was killed while a node was lost on purpose
            kubectl("uncordon", "-l", "kubernetes.io/hostname")
            kubectl.attempt("taint", "nodes", "--all", "node.kubernetes.io/out-of-service:NoExecute-")
        kubectl("delete", "namespaces,priorityclasses", "-l", f"{name}={value}", "--timeout=120s")
        deploy(target)
        kubectl("delete", "vmsizes", "-l", f"{name}={value}")
        set_sizes_aside(kubectl, f"{name}!={value}")

    with pytestconfig.stash[_PROCESSES].member(prepare, lambda: bring_sizes_back(kubectl)):
        yield Cluster(target)


def set_sizes_aside(kubectl: Kubectl, selector: str) -> None:
    """Remove the VMSizes of others, since sessions would get one of them, and keep them in a ConfigMap.

    If a run is killed, the next one restores them from there.
    """
    sizes = kubectl.list("vmsizes", "-l", selector)
    kept = kubectl.get("configmap", SET_ASIDE)
    sizes += json.loads(kept["data"]["sizes"]) if kept else []
    names = sorted({size["metadata"]["name"] for size in sizes})
    if not names:
        return
    warnings.warn(f"set aside while these tests run: VMSizes {', '.join(names)}", stacklevel=1)
    manifests = [{**size, "metadata": {"name": size["metadata"]["name"], "labels": size["metadata"].get("labels", {})}} for size in sizes]
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": SET_ASIDE}, "data": {"sizes": json.dumps(manifests)}}
    kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(config_map))
    kubectl("delete", "vmsizes", "-l", selector)


def bring_sizes_back(kubectl: Kubectl) -> None:
    """Undo `set_sizes_aside`."""
    if kept := kubectl.get("configmap", SET_ASIDE):
        items = json.loads(kept["data"]["sizes"])
        kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
        kubectl("delete", "configmap", SET_ASIDE)


@pytest.fixture(scope="session")
def python_image(deployed: Cluster) -> str:
    """Return an image with Python and without our agent, on the nodes or in a public registry."""
    own = deployed.target.build_args.get("BASE")
    if own is None:
        return "docker.io/library/python:3.12-slim"
    deployed.target.load(images.find(own))
    return own


@pytest.fixture
def cluster(deployed: Cluster) -> Iterator[Cluster]:
    """Yield a fresh namespace."""
    own = deployed.within(f"e2e-{uuid.uuid4().hex[:8]}")
    own.create_namespace()
    yield own
    deployed.kubectl("delete", "namespace", own.namespace, "--wait=false")
