"""Flow folders from elsewhere: a git repository on this machine, read by pods of a real cluster."""

import base64
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from localcluster import buildah, images
from localcluster.gitserver import PASSWORD, USER, HttpServer, Repository, SshServer, serving
from localcluster.layout import API_ADDRESS

from .conftest import Cluster, Object, claimed, environment, session

DAG = b"""inputs: {name: {type: string, default: Ada}}
outputs: {greeting: {type: string, reference: "${greet.output}"}}
additional_includes: [../shared/words.py]
nodes:
- name: greet
  type: python
  source: {type: code, path: greet.py}
  inputs: {name: "${inputs.name}"}
"""
GREET = b"""from promptflow.core import tool
from words import GREETING

@tool
def greet(name: str) -> str:
    return f"{GREETING} {name}"
"""
FLOW = {"chat/flow.dag.yaml": DAG, "chat/greet.py": GREET, "shared/words.py": b"GREETING = 'Hello'\n"}


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    (tmp_path / "served").mkdir()
    found = Repository(tmp_path / "served")
    found.commit(FLOW)
    return found


@pytest.fixture
def server(repository: Repository) -> Iterator[HttpServer]:
    """Serve with a password, on the address by which pods reach this machine."""
    with serving(repository.bare.parent, host=API_ADDRESS, password=PASSWORD) as found:
        yield found


def secret(name: str = "git", **keys: str) -> Object:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": keys}


def status(cluster: Cluster, name: str = "flows") -> Object:
    found: Object = (cluster.get("fenv", name) or {}).get("status") or {}
    return found


def until_ready(cluster: Cluster, says: str, *, ready: str = "True", name: str = "flows") -> str:
    """Return the environment's message once it contains `says` and Ready has this status."""

    def so() -> str | None:
        found = cluster.condition(name, "Ready", "fenv")
        message: str = found.get("message", "")
        return message if found.get("status") == ready and says in message else None

    return cluster.until(f"environment {name} is Ready={ready} and says {says!r}", so, 120)


def refresh(cluster: Cluster, value: str, name: str = "flows") -> None:
    cluster.kubectl("annotate", "fenv", name, f"flowsession.dev/refresh-requested-at={value}", "--overwrite")


def git(server: HttpServer, **more: Any) -> Object:
    return {"git": {"url": f"{server.url}/flows.git", "revision": "main", "credentialsSecretName": "git", **more}}


def greeting(cluster: Cluster, pod: str) -> str:
    return cluster.exec(pod, "flow", "test")


def test_a_flow_of_a_private_repository_runs_and_follows_it(cluster: Cluster, server: HttpServer, repository: Repository) -> None:
    cluster.apply(environment("flows", source=git(server), flowPath="chat"))
    until_ready(cluster, "the Secret of credentialsSecretName does not exist in this namespace, or is empty", ready="False")
    cluster.apply(secret(username=USER, password="no"))
    refresh(cluster, "2026-11-22T20:00:00Z")
    until_ready(cluster, "Authentication failed", ready="False")
    cluster.apply(secret(username=USER, password=PASSWORD))
    refresh(cluster, "2026-11-22T20:00:01Z")
    first = repository.git("rev-parse", "HEAD")
    until_ready(cluster, f"main at {first[:12]}")
    cluster.until("no pod is left", lambda: cluster.kubectl.list("pods") == [])
    cluster.apply(session(of="flows"))
    pod = cluster.until_ready("s")["podName"]
    assert "Hello Ada" in greeting(cluster, pod)
    second = repository.commit({"shared/words.py": b"GREETING = 'Good morning'\n"})
    refresh(cluster, "2026-11-22T20:00:02Z")
    until_ready(cluster, f"main at {second[:12]}")
    cluster.until("the session has the new commit", lambda: "Good morning Ada" in greeting(cluster, pod))
    server.shutdown()
    server.server_close()
    refresh(cluster, "2026-11-22T20:00:03Z")
    until_ready(cluster, "the last look at the source failed, what was read before stays in use")
    cluster.apply(session("another", of="flows", user="bob@example.com"))
    assert "Good morning Ada" in greeting(cluster, cluster.until_ready("another")["podName"]), "without the repository"
    (archive,) = [one for one in cluster.kubectl.list("configmaps") if "-source-" in one["metadata"]["name"]]
    assert archive["metadata"]["name"] == status(cluster)["source"]["configMapName"]


def test_a_poll_finds_a_new_commit(cluster: Cluster, server: HttpServer, repository: Repository) -> None:
    cluster.apply(secret(username=USER, password=PASSWORD), environment("flows", source=git(server, pollSeconds=60), flowPath="chat"))
    until_ready(cluster, "main at")
    commit = repository.commit({"chat/more.py": b"pass\n"})
    until_ready(cluster, f"main at {commit[:12]}")


def test_ssh(cluster: Cluster, repository: Repository, tmp_path: Path) -> None:
    server = SshServer(tmp_path, host=API_ADDRESS)
    try:
        url = f"ssh://root@{API_ADDRESS}:{server.port}{repository.bare}"
        source = {"git": {"url": url, "credentialsSecretName": "git"}}
        known = {"ssh-privatekey": server.key, "known_hosts": server.known_hosts}
        another = f"{server.known_hosts.split()[0]} {(tmp_path / 'user.pub').read_text()}"
        cluster.apply(secret(**{**known, "known_hosts": another}), environment("flows", source=source, flowPath="chat"))
        until_ready(cluster, "Host key verification failed", ready="False")
        cluster.apply(secret(**known))
        refresh(cluster, "2026-11-22T20:00:00Z")
        until_ready(cluster, "main at")
        assert base64.b64encode(server.key.encode()).decode() not in cluster.kubectl("get", "configmaps,fenv,events", "-o", "yaml")
    finally:
        server.stop()


def test_what_can_not_be_taken_is_said(cluster: Cluster, server: HttpServer, repository: Repository) -> None:
    repository.commit({"big.bin": b"1" * 9_000_000})
    cluster.apply(secret(username=USER, password=PASSWORD))
    for name, more in {"large": {}, "nopath": {"path": "nope"}, "norev": {"revision": "nope"}}.items():
        cluster.apply(environment(name, source=git(server, **more)))
    until_ready(cluster, "the largest: big.bin 9,000,000", ready="False", name="large")
    assert cluster.condition("large", "Ready", "fenv")["reason"] == "SourceTooLarge"
    until_ready(cluster, "no folder 'nope' (path)", ready="False", name="nopath")
    until_ready(cluster, "no branch or tag 'nope' (it has: main)", ready="False", name="norev")


# -- a claim


@pytest.fixture
def volume(cluster: Cluster) -> Iterator[Path]:
    """Yield the folder behind the claim `flows`, which any node can mount."""
    with tempfile.TemporaryDirectory(prefix="fs-claim-") as name:
        root = Path(name)
        root.chmod(0o755)
        for path, content in FLOW.items():
            file = root / "team" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        (root / "team" / "chat" / "requirements.txt").write_text("iniconfig==2.0.0\n")
        for path in [root / "team", *(root / "team").rglob("*")]:
            os.chown(path, 1000, 1000)
        with claimed(cluster, "flows", root):
            yield root / "team"


def test_sessions_work_in_a_claims_folder_itself(cluster: Cluster, volume: Path) -> None:
    cluster.apply(environment("flows", source={"persistentVolumeClaim": {"claimName": "flows", "path": "team"}}, flowPath="chat"))
    assert "1 requirement," in until_ready(cluster, "dag flow")
    assert "flowRevision" not in status(cluster)
    cluster.apply(session(of="flows"), session("bobs", of="flows", user="bob@example.com"))
    pod = cluster.until_ready("s")["podName"]
    assert "Hello Ada" in greeting(cluster, pod), "with its includes, where they are"
    cluster.exec(pod, "sh", "-c", "cd /session/flow && sed -i s/GREETING}/GREETING},/ greet.py && echo 'tomli==2.0.1' >> requirements.txt")
    assert b"{GREETING}, " in (volume / "chat" / "greet.py").read_bytes()
    assert "Hello, Ada" in greeting(cluster, cluster.until_ready("bobs")["podName"]), "everybody sees it"
    refresh(cluster, "2026-11-22T20:00:00Z")
    until_ready(cluster, "2 requirements")
    cluster.until("they are installed", lambda: "tomli" in cluster.exec(pod, "flow", "packages"))
    cluster.kubectl("delete", "csess", "s", "--wait=true")
    cluster.apply(session("again", of="flows"))
    assert "Hello, Ada" in greeting(cluster, cluster.until_ready("again")["podName"])
    assert [one for one in cluster.kubectl.list("configmaps") if "-edits-" in one["metadata"]["name"]] == []


def test_sessions_get_copies_of_a_read_only_claim(cluster: Cluster, volume: Path) -> None:
    claim = {"claimName": "flows", "path": "team", "readOnly": True}
    cluster.apply(environment("flows", source={"persistentVolumeClaim": claim}, flowPath="chat"), session(of="flows"))
    pod = cluster.until_ready("s")["podName"]
    cluster.exec(pod, "sh", "-c", "echo broken > /session/flow/greet.py")
    assert (volume / "chat" / "greet.py").read_bytes() == GREET
    (volume / "shared" / "words.py").write_text("GREETING = 'Good evening'\n")
    refresh(cluster, "2026-11-22T20:00:00Z")
    cluster.apply(session("bobs", of="flows", user="bob@example.com"))
    cluster.until_ready("bobs")
    bobs = cluster.status("bobs")["podName"]
    cluster.until("the new words", lambda: "Good evening Ada" in greeting(cluster, bobs))


def test_a_claim_that_is_not_there_is_named_and_heals(cluster: Cluster, volume: Path) -> None:
    cluster.apply(environment("later", source={"persistentVolumeClaim": {"claimName": "nope"}}))
    until_ready(cluster, 'persistentvolumeclaim "nope" not found', ready="False", name="later")
    cluster.apply(environment("later", source={"persistentVolumeClaim": {"claimName": "flows", "path": "nope"}}))
    until_ready(cluster, "no folder 'nope' (path); it holds: team", ready="False", name="later")
    cluster.apply(environment("later", source={"persistentVolumeClaim": {"claimName": "flows", "path": "team/chat"}}))
    until_ready(cluster, "additional_includes entry '../shared/words.py' leads out of the source", ready="False", name="later")


# -- an OCI artifact


def test_an_oci_artifact(cluster: Cluster, tmp_path: Path) -> None:
    for path, content in FLOW.items():
        (tmp_path / "team" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "team" / path).write_bytes(content)
    reference = f"localhost/flows-of-a-test:{hashlib.sha256(repr(FLOW).encode()).hexdigest()[:12]}"
    if buildah.image_id(reference) is None:
        buildah.commit_tree(tmp_path, reference, command="none")
    images.load(images.find(reference))
    cluster.apply(
        environment("flows", source={"ociArtifact": {"reference": reference, "path": "team"}}, flowPath="chat"),
        environment("nope", source={"ociArtifact": {"reference": "localhost/no-such-artifact:1"}}),
        session(of="flows"),
    )
    until_ready(cluster, "dag flow")
    assert "Hello Ada" in greeting(cluster, cluster.until_ready("s")["podName"])
    until_ready(cluster, "can't be pulled", ready="False", name="nope")
