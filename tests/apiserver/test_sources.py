"""Sources that separate pods read, against a real API server: a real agent and git server, kills at every write, refusals."""

import base64
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from apiserver.agents import HttpAgent, RealAgent
from apiserver.api import Object, eventually
from apiserver.background import Background
from apiserver.lab import Lab, refusal
from apiserver.recorder import Recorder
from apiserver.test_agents import packed
from localcluster.gitserver import PASSWORD, USER, HttpServer, Repository, serving

FLOW = {
    "chat/flow.dag.yaml": b"additional_includes: [../shared/x.py]\nnodes: []\n",
    "chat/a.py": b"A = 1\n",
    "shared/x.py": b"X = 1\n",
}
COMMIT = "c" * 40
URL = "https://git.example.com/team/flows.git"


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    (tmp_path / "served").mkdir()
    found = Repository(tmp_path / "served")
    found.commit(FLOW)
    return found


@pytest.fixture
def server(repository: Repository) -> Iterator[HttpServer]:
    with serving(repository.bare.parent, password=PASSWORD) as found:
        yield found


@pytest.fixture
def real(started: Lab, background: Background, tmp_path: Path) -> list[RealAgent]:
    """Run the real agent in all future pods. `tmp_path / "secret"` takes the place of its Secret."""
    made: list[RealAgent] = []

    def make() -> RealAgent:
        made.append(RealAgent(background, tmp_path / str(len(made))))
        made[-1].credentials = tmp_path / "secret"
        return made[-1]

    (tmp_path / "secret").mkdir()
    started.kubelet.make_agent = make
    return made


def status(lab: Lab) -> Object:
    found: Object = lab.api.get(lab.path("flowenvironments", "env")).get("status") or {}
    return found


def archives(lab: Lab) -> list[Object]:
    return [found for found in lab.api.get(lab.path("configmaps"))["items"] if "-source-" in found["metadata"]["name"]]


def refresh(lab: Lab, value: str) -> None:
    lab.api.patch(lab.path("flowenvironments", "env"), {"metadata": {"annotations": {"flowsession.dev/refresh-requested-at": value}}})


def test_from_a_repository_to_a_session_and_on_to_the_next_commit(
    started: Lab, real: list[RealAgent], server: HttpServer, repository: Repository, tmp_path: Path
) -> None:
    (tmp_path / "secret" / "username").write_text(USER)
    (tmp_path / "secret" / "password").write_text("wrong")
    git = {"url": f"{server.url}/flows.git", "revision": "main", "credentialsSecretName": "git"}
    started.create_environment(source={"git": git}, flowPath="chat")
    started.until_environment("SourceNotFound", says="Authentication failed")
    assert "wrong" not in str(status(started))
    (tmp_path / "secret" / "password").write_text(PASSWORD)
    refresh(started, "2026-11-22T20:00:00Z")
    first = repository.git("rev-parse", "HEAD")
    started.until_environment("Resolved", says=f"main at {first[:12]}")
    eventually(lambda: started.pods() == [], what="no pod is left")
    found = status(started)
    assert (found["source"]["commit"], found["flow"]["includes"]) == (first, 1)
    started.create_session()
    started.until_condition("Ready", "Running")
    flow = real[-1].home / "flow"
    assert {path.name for path in flow.iterdir()} == {"flow.dag.yaml", "a.py", "x.py"}
    repository.commit({"shared/x.py": b"X = 2\n"})
    refresh(started, "2026-11-22T20:00:01Z")
    eventually(lambda: (flow / "x.py").read_bytes() == b"X = 2\n", what="the session has the new file")
    eventually(lambda: [one["metadata"]["name"] for one in archives(started)] == [status(started)["source"]["configMapName"]])
    server.shutdown()
    server.server_close()
    refresh(started, "2026-11-22T20:00:02Z")
    started.until_environment("Resolved", says="the last look at the source failed, what was read before stays in use")
    assert started.condition("Ready")["status"] == "True"
    assert started.operator.lines("error") == []


@pytest.fixture
def answering(lab: Lab, background: Background) -> Callable[[Object], None]:
    """Return a function that sets what future pods report about their source."""

    def chosen(source: Object) -> None:
        lab.kubelet.make_agent = lambda: HttpAgent(background=background, source=source)

    return chosen


def done(**files: bytes) -> Object:
    archive = packed(**(files or {"flow___dag___yaml": b"nodes: []\n"}))["flow.tar.gz"]
    return {"state": "Done", "revision": "main", "commit": COMMIT, "archive": archive}


def test_what_a_reading_costs(lab: Lab, answering: Callable[[Object], None]) -> None:
    answering(done())
    lab.operator.go_on()
    lab.create_environment(source={"git": {"url": URL}})
    lab.until_environment("Resolved")
    lab.settle()
    (archive,) = archives(lab)
    assert archive["immutable"] is True
    assert archive["metadata"]["ownerReferences"][0]["kind"] == "FlowEnvironment"
    digest = hashlib.sha256(base64.b64decode(archive["binaryData"]["source.tar.gz"])).hexdigest()
    assert status(lab)["source"]["digest"] == f"sha256:{digest}"
    writes = sorted(lab.lines(without=("events",)))
    assert writes == ["DELETE pods", *["PATCH flowenvironments/status"] * 3, "POST configmaps", "POST pods"]
    mark = lab.recorder.mark()
    lab.operator.kill()
    lab.operator.go_on()
    lab.settle()
    assert lab.lines(since=mark) == [], "a restart of the operator reads nothing again"


def test_a_pod_whose_deletion_is_seen_before_it_is_answered_does_not_block_the_next(lab: Lab, answering: Callable[[Object], None]) -> None:
    answering({"state": "Failed", "code": "NotFound", "message": "no such revision"})
    lab.operator.start(constants={"flowsession.engine.loop:FIRST_RESYNC_SECONDS": 300.0})
    lab.recorder.inject(lab.writes_to_namespace("DELETE pods"), Recorder.delay_answer(1.0), times=100)
    lab.create_environment(source={"git": {"url": URL, "revision": "0"}})
    for turn in range(1, 4):
        eventually(lambda: status(lab).get("source", {}).get("failures") == 1 and lab.pods() == [], seconds=20)
        mark = lab.recorder.mark()
        source = {"git": {"url": URL, "revision": str(turn)}}
        lab.api.patch(lab.path("flowenvironments", "env"), {"spec": {"source": source}})
        eventually(lambda mark=mark: "POST pods" in lab.lines(since=mark), seconds=20)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_at_every_write_it_reads_once_and_leaves_nothing(lab: Lab, answering: Callable[[Object], None], moment: str) -> None:
    answering(done())
    survived = 0
    while survived < 20:
        lab.new_namespace()
        kill = lab.recorder.kill_before if moment == "before" else lab.recorder.kill_after
        fault = lab.recorder.inject(lab.writes_to_namespace(), kill, nth=survived + 1)
        lab.operator.go_on()
        lab.create_environment(source={"git": {"url": URL}})
        eventually(lambda fault=fault: fault.done.is_set() or lab.condition("Ready", "env", plural="flowenvironments")["status"] == "True")
        if not fault.done.is_set():
            lab.settle()
        over = not fault.done.is_set()
        lab.recorder.disarm()
        if over:
            break
        lab.operator.kill()
        lab.operator.go_on()
        lab.until_environment("Resolved")
        eventually(lambda: lab.pods() == [], what="no pod is left")
        assert len(archives(lab)) == 1
        survived += 1
    assert 5 <= survived < 20


def test_a_hostile_reader_gets_nothing_through(lab: Lab, answering: Callable[[Object], None]) -> None:
    answering(done(**{"..__etc__passwd": b"x"}))
    lab.operator.go_on()
    lab.create_environment(source={"git": {"url": URL}})
    lab.until_environment("FlowInvalid", says="lies outside of the archive's folder")
    lab.new_namespace()
    answering({"state": "Done", "commit": COMMIT, "archive": "A" * 1_500_000})
    lab.create_environment(source={"git": {"url": URL}})
    lab.until_environment("SourceTooLarge", says="at most 1,000,000")
    assert lab.operator.lines("error") == []


def test_what_the_pod_gets_and_does_not_get(lab: Lab, answering: Callable[[Object], None]) -> None:
    answering({"state": "Running"})
    lab.operator.go_on()
    lab.create_environment(source={"git": {"url": URL, "credentialsSecretName": "git"}})
    (pod,) = eventually(lab.pods, what="the pod")
    text = str(pod["spec"])
    assert "serviceAccountToken" not in text
    assert pod["spec"]["volumes"] == [{"name": "credentials", "secret": {"secretName": "git", "optional": True, "defaultMode": 0o440}}]
    lab.until_environment("Resolving", says=f"reading the default branch of {URL}")
    requests = [str(request) for request in lab.recorder.requests(lab.namespace)]
    assert not any("secrets" in line for line in requests), "the operator reads no Secret of anybody's"
    lab.api.delete(lab.path("flowenvironments", "env"))
    eventually(lambda: lab.pods() == [], what="the pod goes with the environment")


@pytest.mark.parametrize(
    "source",
    [
        {"git": {"url": URL, "credentialsSecretName": "git"}},
        {"persistentVolumeClaim": {"claimName": "flows"}},
        {"persistentVolumeClaim": {"claimName": "flows", "readOnly": True}},
        {"ociArtifact": {"reference": "registry.example.com/flows:1"}},
    ],
    ids=["git", "claim", "copied claim", "artifact"],
)
def test_restricted_pod_security_lets_them_in(lab: Lab, answering: Callable[[Object], None], source: Object) -> None:
    answer = done()
    answering(answer if "git" in source else {key: value for key, value in answer.items() if key not in ("revision", "commit")})
    enforced = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    lab.api.patch(f"/api/v1/namespaces/{lab.namespace}", enforced)
    lab.operator.go_on()
    lab.create_environment(source=source)
    lab.until_environment("Resolved")
    lab.create_session()
    lab.until_ready()


@pytest.mark.parametrize(
    ("git", "words"),
    [
        ({"url": "git@github.com:team/flows.git"}, "write ssh://git@host/path"),
        ({"url": "file:///etc/passwd"}, "url must be https://host/path"),
        ({"url": "https://ada:token@git.example.com/flows.git"}, "url must hold no credentials"),
        ({"url": "https://token@git.example.com/flows.git"}, "url must hold no credentials"),
        ({"url": "ssh://git:pw@git.example.com/flows.git"}, "url must hold no credentials"),
        ({"url": "https://-oProxyCommand=id/x"}, "url must be https://host/path"),
        ({"url": "https://git.example.com/a b"}, "url must be https://host/path"),
        ({"url": URL, "revision": "--upload-pack=id"}, "revision must be the name"),
        ({"url": URL, "revision": "a..b"}, "revision must be the name"),
        ({"url": URL, "path": "../x"}, "path must be relative"),
        ({"url": URL, "pollSeconds": 30}, "pollSeconds must be 0 (never) or at least 60"),
    ],
)
def test_what_is_refused_at_once(namespace: Lab, git: dict[str, Any], words: str) -> None:
    assert words in refusal(namespace.create_environment, source={"git": git})


@pytest.mark.parametrize("git", [{"url": "ssh://git@host:2222/~/x.git", "revision": "refs/pull/1/head"}, {"url": URL, "pollSeconds": 60}])
def test_what_is_taken(namespace: Lab, git: dict[str, Any]) -> None:
    namespace.create_environment(source={"git": git})


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"persistentVolumeClaim": {"claimName": "flows", "path": "/etc"}}, "path must be relative"),
        ({"persistentVolumeClaim": {"claimName": "flows", "path": "a/../b"}}, "path must be relative"),
        ({"ociArtifact": {"reference": "a b"}}, "reference must be the name of an image"),
        ({"ociArtifact": {"reference": "registry/x:1", "path": ".."}}, "path must be relative"),
    ],
)
def test_what_is_refused_of_other_sources(namespace: Lab, source: dict[str, Any], words: str) -> None:
    assert words in refusal(namespace.create_environment, source=source)


def test_a_session_on_a_claim_mounts_it_and_is_pushed_nothing(lab: Lab, answering: Callable[[Object], None]) -> None:
    answering({key: value for key, value in done().items() if key not in ("revision", "commit")})
    lab.operator.go_on()
    lab.create_environment(source={"persistentVolumeClaim": {"claimName": "flows", "path": "team"}})
    lab.until_environment("Resolved")
    lab.create_session()
    lab.until_ready()
    (container,) = lab.the_pod("ada")["spec"]["containers"]
    assert {"name": "source", "mountPath": "/source", "subPath": "team"} in container["volumeMounts"]
    assert lab.agent().order["files"] is None
    lab.api.patch(lab.path("flowenvironments", "env"), {"spec": {"source": {"persistentVolumeClaim": {"path": "other"}}}})
    lab.until_condition("InSync", "FlowChanged", says="the PersistentVolumeClaim 'flows'")
    assert lab.condition("Ready")["status"] == "True"


def test_two_sources_are_refused(namespace: Lab) -> None:
    both = {"git": {"url": URL}, "configMap": {"name": "flow"}}
    assert "a source is one of configMap, archive, git, persistentVolumeClaim and ociArtifact" in refusal(
        namespace.create_environment, source=both
    )
