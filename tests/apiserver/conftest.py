"""A private control plane for all tests of this folder. Each test gets a namespace, and the operator connected through the recorder.

Its fixtures end with the folder: an idle control plane would take processor time from the tests of the folders after it.
"""

import contextlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

import longest_first
from apiserver import policies
from apiserver.agents import HttpAgent
from apiserver.api import Api, Object, Refused, eventually
from apiserver.background import Background
from apiserver.kubelet import Kubelet
from apiserver.lab import Lab
from apiserver.operator_process import CHECKOUT, NAMESPACE, Operator, Zygote
from apiserver.recorder import Recorder, kill_process
from flowsession_agent import build
from localcluster import binaries, kubeconfig
from localcluster.controlplane import ControlPlane
from localcluster.daemons import Daemon
from localcluster.kubeconfig import Api as Access
from localcluster.ports import free_port

_LONGEST = ("test_instance_kill.py", "test_kill.py", "test_runs.py", "test_sources.py", "test_instances.py", "test_agents.py")
"""Files that wait for many minutes."""

# Cleans up even if the tests themselves are killed with -9.
_WATCHDOG = "import os, sys; sys.stdin.read(); [os.kill(int(pid), 9) for pid in sys.argv[1:] if os.path.exists('/proc/' + pid)]"
_FAILED = pytest.StashKey[bool]()
_CONTROLLERS = "garbage-collector-controller,namespace-controller,resourcequota-controller,validatingadmissionpolicy-status-controller"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    longest_first.sort(items, Path(__file__).parent, _LONGEST)


class PrivateControlPlane(ControlPlane):
    """A control plane with only the controllers that the tests need. None of them checks the health of a node without a kubelet."""

    def daemons(self) -> list[Daemon]:
        found = super().daemons()
        for daemon in found:
            if daemon.name == "kube-controller-manager":
                daemon.argv.append(f"--controllers={_CONTROLLERS}")
        return found


@dataclass
class Cluster:
    """The control plane as the administrator sees it."""

    plane: ControlPlane
    api: Api
    folder: Path

    def pid(self, component: str) -> int:
        found = next(daemon.pid() for daemon in self.plane.daemons() if daemon.name == component)
        assert found, f"{component} does not run"
        return found

    def kubectl(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run kubectl as the administrator."""
        command = [
            str(binaries.KUBERNETES.binary("kubectl")),
            f"--kubeconfig={self.plane.kubeconfig}",
            f"--cache-dir={self.folder}/kubectl",
            *words,
        ]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="package")
def cluster() -> Iterator[Cluster]:
    """etcd, kube-apiserver and kube-controller-manager with the CRDs."""
    with private_cluster(PrivateControlPlane, ("etcd", "kube-apiserver", "kube-controller-manager")) as found:
        yield found


@contextlib.contextmanager
def private_cluster(make: type[ControlPlane], components: Sequence[str]) -> Iterator[Cluster]:
    """Yield a control plane with our CRDs in its own folder, and remove all of it afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="fs-api-"))
    plane = make(folder, etcd_port=free_port(), etcd_peer_port=free_port(), apiserver_port=free_port(), components=components)
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        stack.callback(plane.stop)
        plane.start()
        stack.enter_context(killed_at_exit(plane.daemons()))
        found = Cluster(plane, Api(plane.server, plane.token, plane.ca), folder)
        install_crds(found.api, sorted((CHECKOUT / "crds").glob("*.yaml")))
        found.api.post("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        yield found


@contextlib.contextmanager
def killed_at_exit(daemons: Sequence[Daemon]) -> Iterator[None]:
    """Kill these programs at the end, and also if the tests themselves are killed with -9.

    Their data is thrown away, and a graceful stop of an API server would wait half a minute for open watches.
    """
    pids = [str(daemon.pid()) for daemon in daemons]
    watchdog = subprocess.Popen([sys.executable, "-c", _WATCHDOG, *pids], stdin=subprocess.PIPE, start_new_session=True)
    try:
        yield
    finally:
        for daemon in daemons:
            if pid := daemon.pid():
                kill_process(pid)
        kill_process(watchdog.pid)
        watchdog.wait()


def install_crds(api: Api, files: Sequence[Path]) -> None:
    """Install the CRDs and return once all of them are served."""
    definitions = [yaml.safe_load(file.read_text()) for file in files]
    for definition in definitions:
        api.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)
    for definition in definitions:
        eventually(lambda crd=definition: _served(api, crd), what=f"CRD {definition['metadata']['name']} is served", seconds=30)


def _served(api: Api, crd: dict[str, Any]) -> bool:
    """Return whether the API server serves the kind. A new kind's storage may become available after its condition Established."""
    name, spec = crd["metadata"]["name"], crd["spec"]
    conditions = api.get(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}").get("status", {}).get("conditions") or ()
    if not any(c["type"] == "Established" and c["status"] == "True" for c in conditions):
        return False
    try:
        api.get(f"/apis/{spec['group']}/{spec['versions'][0]['name']}/{spec['names']['plural']}")
    except Refused:
        return False
    return True


@pytest.fixture(scope="module")
def enforced(cluster: Cluster) -> Iterator[list[Object]]:
    """Yield the chart's admission policies once they are in force. Also installs its roles for people."""
    manifests = policies.rendered("policies", "user-roles")
    text = yaml.safe_dump_all(manifests)
    applied = cluster.kubectl("apply", "-f", "-", stdin=text)
    assert applied.returncode == 0, applied.stderr
    policies.bind(cluster.api, policies.STRANGER, policies.USER_ROLE, NAMESPACE)
    eventually(lambda: all(policies.in_force(cluster.api)), what="the policies are in force", seconds=30)
    yield manifests
    kept = [manifest for manifest in manifests if manifest["kind"] != "ClusterRole"]
    cluster.kubectl("delete", "-f", "-", stdin=yaml.safe_dump_all(kept))
    eventually(lambda: not any(policies.in_force(cluster.api)), what="the policies are not in force any more", seconds=30)


@pytest.fixture(scope="package")
def background() -> Iterator[Background]:
    servers = Background()
    yield servers
    servers.stop()


@pytest.fixture(scope="package")
def zygote(cluster: Cluster, recorder_of_all: Recorder) -> Iterator[Zygote]:
    access = Access(recorder_of_all.url, cluster.plane.ca, cluster.plane.token)
    parent = Zygote(kubeconfig.write(cluster.folder / "operator.kubeconfig", access, user="operator"))
    yield parent
    parent.stop()


@pytest.fixture(scope="package")
def recorder_of_all(cluster: Cluster, background: Background) -> Iterator[Recorder]:
    proxy = Recorder(background, upstream=cluster.plane.server, ca=cluster.plane.ca)
    yield proxy
    proxy.stop()


@pytest.fixture(scope="package")
def kubelet_of_all(cluster: Cluster, background: Background) -> Iterator[Kubelet]:
    kubelet = Kubelet(cluster.api, lambda: HttpAgent(background=background))
    yield kubelet
    kubelet.stop()


@pytest.fixture(scope="package")
def operator_of_all(cluster: Cluster, recorder_of_all: Recorder, zygote: Zygote) -> Iterator[Operator]:
    archive = cluster.folder / "agent.pyz"
    build.build(str(archive))
    process = Operator(zygote, recorder_of_all, folder=cluster.folder, archive=archive)
    yield process
    process.kill()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[Any]:
    """Add the operator's last requests to the API server and its last log lines to a failure's report."""
    report = yield
    lab = getattr(item, "funcargs", {}).get("namespace")
    item.stash[_FAILED] = item.stash.get(_FAILED, False) or report.failed
    if report.failed and isinstance(lab, Lab):
        report.sections.append(("requests", "\n".join(map(str, lab.recorder.requests()[-60:]))))
        report.sections.append(("operator", lab.operator.last_words()))
    return report


@pytest.fixture
def namespace(
    request: pytest.FixtureRequest,
    cluster: Cluster,
    recorder_of_all: Recorder,
    operator_of_all: Operator,
    kubelet_of_all: Kubelet,
    background: Background,
) -> Iterator[Lab]:
    """Yield a lab without faults. The operator may be running."""
    recorder_of_all.disarm()
    kubelet_of_all.hold = kubelet_of_all.lingers = False
    kubelet_of_all.image_ids.clear()
    kubelet_of_all.make_agent = lambda: HttpAgent(background=background)
    yield Lab(cluster.api, recorder_of_all, operator_of_all, kubelet_of_all)
    recorder_of_all.disarm()
    if request.node.stash.get(_FAILED, False):
        operator_of_all.kill()
    kubelet_of_all.lingers = False
    _remove_all(cluster.api)
    kubelet_of_all.stop_agents()


@pytest.fixture
def lab(namespace: Lab) -> Lab:
    """Return a fresh namespace, with no operator running."""
    namespace.operator.kill()
    return namespace


@pytest.fixture
def started(namespace: Lab) -> Lab:
    """Return a fresh namespace, with the operator watching."""
    namespace.operator.go_on()
    return namespace


@pytest.fixture
def agents(namespace: Lab, background: Background) -> Callable[..., None]:
    """Return a function that sets the properties of future pods' agents: `agents(busy=True)`."""

    def chosen(**how: Any) -> None:
        namespace.kubelet.make_agent = lambda: HttpAgent(background=background, **how)

    return chosen


def _remove_all(api: Api) -> None:
    """Remove other tests' objects, so that they don't occupy this test's operator."""
    kinds = [f"/apis/flowsession.dev/v1alpha1/{kind}" for kind in ("flowruns", "computesessions", "computeinstances", "flowenvironments")]
    for path in (*kinds, "/api/v1/pods"):
        for item in api.get(path)["items"]:
            meta = item["metadata"]
            one, plural = path.rsplit("/", 1)
            target = f"{one}/namespaces/{meta['namespace']}/{plural}/{meta['name']}"
            if meta.get("finalizers"):
                with contextlib.suppress(Exception):
                    api.patch(target, {"metadata": {"finalizers": None}})
            api.delete(target, {"gracePeriodSeconds": 0})
