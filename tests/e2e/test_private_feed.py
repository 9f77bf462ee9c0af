"""A private feed on real nodes: an index behind a password and a private CA, and a search for the token in every possible place."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.feeds import Authority, Index, closing, wheel
from demo import deploy
from demo.kubectl import Kubectl
from demo.targets import Local
from localcluster import layout

from .conftest import Cluster, environment, session

HUNT = """
import os, sys
secret = sys.stdin.readline().strip().encode()
found, looked = [], 0
def look(path):
    global looked
    try:
        with open(path, "rb") as file:
            data = file.read(64 * 1024 * 1024)
    except OSError:
        return
    looked += 1
    if secret in data:
        found.append(path)
mine = str(os.getpid())
for pid in filter(str.isdigit, os.listdir("/proc")):
    if pid != mine:
        look(f"/proc/{pid}/cmdline"), look(f"/proc/{pid}/environ")
for root in ("/session", "/tmp", "/home", "/dev/shm", "/var/tmp", "/run", "/etc"):
    for folder, _, names in os.walk(root):
        for name in names:
            path = os.path.join(folder, name)
            if os.path.isfile(path):
                look(path)
try:
    open("/proc/1/mem", "rb").close()
    found.append("the memory of PID 1 can be opened")
except PermissionError:
    pass
print(looked, found)
"""
"""Searches, inside the pod and as its user, for the text on standard input. It is not an argument, since command lines are searched too."""


@pytest.fixture
def token() -> str:
    return secrets.token_urlsafe(40)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, host=layout.API_ADDRESS)


@pytest.fixture
def index(cluster: Cluster, authority: Authority, tmp_path: Path, token: str) -> Iterator[Index]:
    """Run the index on this machine, which the pods reach over the node network."""
    if not isinstance(cluster.target, Local):
        pytest.skip("only the local cluster's pods reach this machine")
    index = Index(tmp_path / "index", token, context=authority.context, host=layout.API_ADDRESS)
    wheel(index.packages, "inner_tool", requires=["inner-base"], value="inner")
    wheel(index.packages, "inner_base", value="base")
    with closing(index):
        yield index


def secret(token: str) -> dict[str, object]:
    metadata = {"name": "team-feed", "labels": {"flowsession.dev/feed": "true"}}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"token": token}}


def bundle(authority: Authority) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "team-ca"}, "data": {"ca.crt": authority.pem}}


def of(index: Index) -> dict[str, object]:
    installer = {"indexURL": index.url(), "extraIndexURLs": [], "credentialsSecretName": "team-feed", "caBundleConfigMapName": "team-ca"}
    return environment(requirementsText="inner-tool\n", installer=installer)


def hunt(cluster: Cluster, pod: str, token: str) -> list[str]:
    """Return every place in and around the pod where the token is found."""
    looked, _, found = cluster.kubectl("exec", "-i", pod, "--", "python3", "-c", HUNT, stdin=f"{token}\n").partition(" ")
    assert int(looked) > 20
    operator = Kubectl(cluster.kubectl.program, cluster.kubectl.kubeconfig, deploy.NAMESPACE)
    texts = {
        "objects": cluster.kubectl("get", "pods,csess,fenv,configmaps,events", "-o", "json"),
        "descriptions": cluster.kubectl("describe", "pods,csess,fenv"),
        "the pod's log": cluster.kubectl("logs", pod),
        "the operator's log": operator("logs", f"deployment/{deploy.RELEASE}", "--tail=-1"),
        "the operator's objects": operator("get", "pods,configmaps,events", "-o", "json"),
    }
    assert pod in texts["objects"]
    return [place for place, text in texts.items() if token in text] + ([] if found.strip() == "[]" else [found.strip()])


def test_packages_come_from_the_feed_and_the_token_is_nowhere(cluster: Cluster, index: Index, authority: Authority, token: str) -> None:
    index.front.open.clear()
    cluster.apply(secret(token), bundle(authority), of(index), session())
    cluster.until_condition("s", "PackagesInstalled", status="False", reason="Installing", seconds=180)
    pod = cluster.status("s")["podName"]
    cluster.until("the installer waits for the feed", lambda: "pip install" in _processes(cluster, pod))
    assert hunt(cluster, pod, token) == []
    index.front.open.set()
    cluster.until_ready("s")
    assert index.front.logins == {f"flowsession:{token}"}
    assert cluster.exec(pod, "python", "-c", "import inner_tool, inner_base; print(inner_tool.VALUE, inner_base.VALUE)").split() == [
        "inner",
        "base",
    ]
    assert hunt(cluster, pod, token) == []
    install = cluster.status("s")["install"]
    assert (install["exitCode"], install["changed"]) == (0, 2)


def test_a_refused_token_is_told_and_a_new_one_taken(cluster: Cluster, index: Index, authority: Authority, token: str) -> None:
    cluster.apply(secret("no-longer-valid"), bundle(authority), of(index), session())
    cluster.until_condition("s", "PackagesInstalled", status="False", reason="FeedRefused", seconds=180)
    said = cluster.condition("s", "PackagesInstalled")["message"]
    assert f"Feed {index.origin}/simple/inner-tool/ answered 403: the token of Secret 'team-feed' is refused" in said
    cluster.apply(secret(token))
    cluster.kubectl("annotate", "csess", "s", "flowsession.dev/install-requested-at=2026-01-01T00:00:00Z")
    cluster.until_ready("s")
    pod = cluster.status("s")["podName"]
    assert hunt(cluster, pod, token) == [] == hunt(cluster, pod, "no-longer-valid")


def test_without_the_secret_the_condition_says_what_to_make(cluster: Cluster, index: Index, authority: Authority, token: str) -> None:
    cluster.apply(bundle(authority), of(index), session())
    cluster.until_condition("s", "PackagesInstalled", status="False", reason="FeedCredentialsMissing", seconds=180)
    assert "kubectl create secret generic team-feed" in cluster.condition("s", "PackagesInstalled")["message"]
    assert "warnings" not in (cluster.get("flowenvironment", "plain") or {})["status"], "it does name a source for the token"


def _processes(cluster: Cluster, pod: str) -> str:
    """Return the command lines in the pod."""
    show = "import glob; print(*[open(p).read().replace(chr(0), ' ') for p in glob.glob('/proc/[0-9]*/cmdline')], sep=chr(10))"
    return cluster.exec(pod, "python3", "-c", show)
