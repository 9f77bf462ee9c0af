"""Failures on real nodes: a clear condition, nothing lost, and recovery once the cause is gone."""

import io
import socket
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from .conftest import Cluster, environment, session


def test_an_image_that_is_not_there(cluster: Cluster) -> None:
    cluster.apply(environment(baseImage="registry.invalid/nobody/nothing:1"), session())
    ready = cluster.until_condition("s", "Ready", status="False", reason="ImagePullFailed")
    assert "registry.invalid/nobody/nothing:1" in ready["message"]
    assert cluster.until_event("s", "ImagePullFailed")[0]["type"] == "Warning"


def test_an_image_without_python(cluster: Cluster) -> None:
    node_image = next(
        name
        for node in cluster.kubectl.list("nodes")
        for image in node["status"].get("images") or []
        for name in image.get("names") or []
        if "pause" in name and "@" not in name
    )
    cluster.apply(environment(baseImage=node_image), session())
    ready = cluster.until_condition("s", "Ready", status="False", reason="PodFailed")
    assert "no python3" in ready["message"]


def test_a_secret_and_then_a_key_that_env_takes_a_value_from_are_missing_and_it_heals(cluster: Cluster) -> None:
    """The kubelet's own messages report it, hence the test on a real node."""
    value = {"secretKeyRef": {"name": "creds", "key": "token"}}
    cluster.apply(environment(), session(env=[{"name": "TOKEN", "valueFrom": value}]))
    ready = cluster.until_condition("s", "Ready", status="False", reason="SecretNotFound")
    assert f"Secret 'creds' in namespace '{cluster.namespace}', which spec.env takes TOKEN from, does not exist" in ready["message"]
    assert cluster.until_event("s", "SecretNotFound")[0]["type"] == "Warning"
    pod = cluster.status("s")["podName"]
    cluster.kubectl("create", "secret", "generic", "creds", "--from-literal=other=1")
    cluster.until("the key is named", lambda: "has no key 'token'" in cluster.condition("s", "Ready").get("message", ""))
    cluster.patch("secret", "creds", {"stringData": {"token": "1"}})
    assert cluster.until_ready("s")["podName"] == pod, "the kubelet tries again by itself"


@pytest.mark.whole_cluster
def test_no_node_has_room_and_it_heals(cluster: Cluster) -> None:
    cluster.until_nodes_are_free()
    fillers = []
    for node in cluster.kubectl.list("nodes"):
        taken = sum(
            _millicores(pod) for pod in cluster.kubectl.list("pods", "-A", "--field-selector", f"spec.nodeName={node['metadata']['name']}")
        )
        free = int(float(node["status"]["allocatable"]["cpu"]) * 1000) - taken
        fillers.append(_filler(node["metadata"]["name"], free - 50))
    cluster.apply(*fillers)
    cluster.until("the nodes are full", lambda: all(p["spec"].get("nodeName") for p in cluster.kubectl.list("pods", "-l", "filler=true")))
    cluster.apply(environment(), session())
    allocated = cluster.until_condition("s", "ComputeAllocated", status="False", reason="Unschedulable")
    assert "Insufficient cpu" in allocated["message"]
    assert cluster.status("s")["phase"] == "Pending"
    cluster.kubectl("delete", "pods", "-l", "filler=true", "--grace-period=0", "--force")
    cluster.until_ready("s")


def test_a_package_that_does_not_exist_and_its_correction(cluster: Cluster) -> None:
    cluster.apply(environment(requirementsText="# tools\ncolorama\nno-such-package-at-all==1.0\n"), session())
    installed = cluster.until_condition("s", "PackagesInstalled", status="False", reason="InstallFailed")
    assert "no-such-package-at-all" in installed["message"]
    status = cluster.status("s")
    assert status["phase"] == "Failed"
    assert status["install"]["stderrTail"]
    cluster.patch("flowenvironment", "plain", {"spec": {"requirementsText": "rapidfuzz\n"}})
    after = cluster.until_ready("s")
    assert after["podName"] == status["podName"], "an install is corrected in place"


def test_an_install_over_its_time_limit(cluster: Cluster, sources: str) -> None:
    cluster.apply(environment(requirementsText=f"endless @ {sources}/endless-1.0.tar.gz\n", installer={"timeoutSeconds": 5}), session())
    installed = cluster.until_condition("s", "PackagesInstalled", status="False", reason="InstallTimeout")
    assert "5 s" in installed["message"]


def test_killed_for_memory_during_install_is_said_and_not_repeated(cluster: Cluster, sources: str) -> None:
    cluster.apply(environment(requirementsText=f"hungry @ {sources}/hungry-1.0.tar.gz\n"), session())
    installed = cluster.until_condition("s", "PackagesInstalled", status="False", reason="InstallFailed", seconds=180)
    assert "memory" in installed["message"]
    before = cluster.status("s")
    restarts = _restarts(cluster, before["podName"])
    assert restarts <= 1
    cluster.patch("flowenvironment", "plain", {"spec": {"requirementsText": "rapidfuzz\n"}})
    cluster.until_ready("s")
    assert _restarts(cluster, before["podName"]) == restarts


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve, over HTTP on this machine's own address, source packages whose builds misbehave."""
    folder = tmp_path_factory.mktemp("sources")
    _source_package(folder, "endless", "import time\ntime.sleep(3600)\n")
    _source_package(folder, "hungry", "hoard = []\nwhile True: hoard.append(bytearray(64 << 20))\n")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("10.96.0.1", 9))
        address = probe.getsockname()[0]
    server = ThreadingHTTPServer((address, 0), partial(SimpleHTTPRequestHandler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://{address}:{server.server_port}"
    server.shutdown()


def _source_package(folder: Path, name: str, setup: str) -> None:
    files = {
        "setup.py": setup + f"from setuptools import setup\nsetup(name='{name}', version='1.0')\n",
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
        "backend.py": "import runpy\ndef build_wheel(*a, **k): runpy.run_path('setup.py')\n"
        "def get_requires_for_build_wheel(*a, **k): return []\n"
        "def prepare_metadata_for_build_wheel(*a, **k): runpy.run_path('setup.py')\n",
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
    }
    with tarfile.open(folder / f"{name}-1.0.tar.gz", "w:gz") as archive:
        for path, text in files.items():
            entry = tarfile.TarInfo(f"{name}-1.0/{path}")
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))


def _restarts(cluster: Cluster, pod: str) -> int:
    found = cluster.get("pod", pod)
    assert found is not None
    return found["status"]["containerStatuses"][0]["restartCount"]


def _millicores(pod: dict) -> int:
    total = 0
    if pod["status"].get("phase") in ("Succeeded", "Failed"):
        return 0
    for container in pod["spec"]["containers"]:
        cpu = container.get("resources", {}).get("requests", {}).get("cpu", "0")
        total += int(cpu[:-1]) if cpu.endswith("m") else int(float(cpu) * 1000)
    return total


def _filler(node: str, millicores: int) -> dict:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"filler-{node}", "labels": {"filler": "true"}},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": node},
            "containers": [{"name": "c", "image": "none.invalid/filler", "resources": {"requests": {"cpu": f"{millicores}m"}}}],
        },
    }
