"""The package cache in a cluster: sessions install through it, can't write to it, and work without it when it is down."""

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from demo import programs
from demo.deploy import CHART, NAMESPACE, RELEASE
from flowsession_cache.addresses import cached

from .conftest import Cluster, environment, session

pytestmark = pytest.mark.whole_cluster

NAME = f"{RELEASE}-packages"
PYPI = "https://pypi.org/simple"
PUT = """
import json, sys, urllib.error, urllib.request
page = urllib.request.Request(sys.argv[1] + "/rapidfuzz/", headers={"Accept": "application/vnd.pypi.simple.v1+json"})
file = next(f["url"] for f in json.load(urllib.request.urlopen(page))["files"] if f["url"].startswith("/"))
for method in ("PUT", "POST", "DELETE"):
    try:
        urllib.request.urlopen(urllib.request.Request(sys.argv[2] + file, data=b"poison", method=method))
        print(method, 200)
    except urllib.error.HTTPError as error:
        print(method, error.code)
"""


@pytest.fixture
def system(deployed: Cluster) -> Cluster:
    return deployed.within(NAMESPACE)


@pytest.fixture
def index_and_cache(deployed: Cluster, system: Cluster) -> Iterator[tuple[str, str]]:
    """Switch the release's cache on for this machine's own index, then off again. Yields the index and the cache's address.

    The address is the pod's, since a cluster of this machine needs no DNS.
    """
    values = ("--kubeconfig", str(deployed.target.kubeconfig), "--namespace", NAMESPACE)

    def upgrade(**cache: Any) -> None:
        options = ["--reuse-values", "--wait", "--timeout", "180s", "--set-json", f"packageCache={json.dumps(cache)}"]
        command = [str(programs.helm()), "upgrade", RELEASE, str(CHART), *values, *options]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        told = system.kubectl.attempt("logs", f"deployment/{NAME}", "--tail", "20").stdout
        assert result.returncode == 0, f"{result.stderr}\n{told}"

    found = json.loads(subprocess.check_output([str(programs.helm()), "get", "values", RELEASE, *values, "-o", "json"])) or {}
    index = found.get("installer", {}).get("indexURL") or PYPI
    upgrade(enabled=True, indexURLs=[index])
    (pod,) = system.kubectl.list("pods", "-l", "app.kubernetes.io/name=flowsession-packages")
    address = f"http://{pod['status']['podIP']}:8080"
    upgrade(enabled=True, indexURLs=[index], url=address)
    try:
        yield index, address
    finally:
        upgrade(enabled=False)


def held(system: Cluster) -> set[str]:
    """Return the names of the files in the cache, without their metadata files."""
    names = system.kubectl("exec", f"deployment/{NAME}", "--", "ls", "/cache/files").split()
    return {name for name in names if "." not in name}


def test_sessions_share_what_was_fetched_and_nothing_else(cluster: Cluster, system: Cluster, index_and_cache: tuple[str, str]) -> None:
    cluster.apply(environment("flow", requirementsText="rapidfuzz\n"))
    cluster.apply(session("first", of="flow", user="alice@example.com"))
    first = cluster.until_ready("first")
    assert first["install"].get("warnings") is None, first["install"]
    fetched = held(system)
    assert len(fetched) == 1
    cluster.apply(session("second", of="flow", user="bob@example.com"))
    assert cluster.until_ready("second")["install"].get("warnings") is None
    assert held(system) == fetched

    index, address = index_and_cache
    pod = cluster.session("second")["status"]["podName"]
    assert cluster.exec(pod, "python", "-c", PUT, cached(address, index), address).split() == [
        *("PUT", "405"),
        *("POST", "405"),
        *("DELETE", "405"),
    ]

    system.kubectl("scale", f"deployment/{NAME}", "--replicas=0")
    system.until("the cache is away", lambda: not system.kubectl.list("pods", "-l", "app.kubernetes.io/name=flowsession-packages"))
    cluster.apply(session("third", of="flow", user="carol@example.com"))
    cluster.until_ready("third")
    told = cluster.condition("third", "PackagesInstalled")
    assert told["reason"] == "InstalledWithWarnings"
    assert "package cache" in told["message"]
