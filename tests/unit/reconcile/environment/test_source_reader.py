"""Sources read by a separate pod: when that pod is created, what its answer leads to, and what sessions get meanwhile."""

import base64
import gzip
import hashlib
import io
import tarfile
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from flowsession.cluster.agent import source_answers
from flowsession.model.agent_views import AgentView, SourceAnswer
from flowsession.model.plan import Delete, Fetch, Plan, ReadSource
from flowsession.model.resolved import Claim, Resolved, Unresolved
from flowsession.model.views import Refusal
from flowsession.reconcile.environment import chain as environments
from flowsession.reconcile.environment import last_reading
from flowsession.reconcile.environment import resolve as resolution
from flowsession.reconcile.environment.snapshot import EnvironmentSnapshot, ResolverPod
from flowsession.reconcile.environment.sources import ConfigMapView
from flowsession.settings import ImageSettings, InstallerDefaults, SessionDefaults, Settings
from unit.builders import DAG, NAMESPACE, NOW, applied, condition, environment_snapshot, pending_pod, pod, spec, stamp, waiting

GIT = {"url": "https://git.example.com/team/flows.git", "revision": "main"}
COMMIT, NEWER = "a" * 40, "b" * 40
NO_CONTAINER = {"container": None, "ip": "", "phase": "Pending"}


def packed(files: Mapping[str, bytes]) -> str:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return base64.b64encode(gzip.compress(buffer.getvalue(), mtime=0)).decode()


ARCHIVE = packed({"chat/flow.dag.yaml": DAG, "chat/requirements.txt": b"pandas\n"})
DONE = SourceAnswer(state="Done", revision="main", commit=COMMIT, archive=ARCHIVE)
REFUSED = SourceAnswer(state="Failed", code="AuthenticationFailed", message="can't list URL: Authentication failed; check the Secret")


class World:
    """An environment with a git source, whose plans are carried out."""

    def __init__(self, **git: Any) -> None:
        self.spec = spec(source={"git": {**GIT, **git}}, flowPath="chat")
        self.status: dict[str, Any] = {}
        self.config_maps: dict[str, ConfigMapView] = {}
        self.pods: dict[str, ResolverPod] = {}
        self.now = NOW
        self.more: dict[str, Any] = {}
        self.events: list[str] = []

    @property
    def snapshot(self) -> EnvironmentSnapshot:
        return environment_snapshot(
            spec=self.spec,
            status=self.status,
            config_maps=self.config_maps,
            uid="env-uid",
            resolvers=tuple(self.pods.values()),
            **self.more,
        )

    def resolution(self) -> Resolved | Unresolved | None:
        return resolution.resolve(self.spec, self.config_maps, self.snapshot.settings, self.snapshot.last_reading)

    def decide(self) -> Plan:
        """Decide once, and carry out the plan as the executor does."""
        plan = environments.decide(self.snapshot, self.resolution(), self.now)
        for create in plan.creates:
            meta = create.manifest["metadata"]
            if create.manifest["kind"] == "Pod":
                marks = meta["annotations"]
                view = pending_pod(name=meta["name"], uid=f"uid-of-{meta['name']}")
                self.pods[meta["name"]] = ResolverPod(
                    view, marks["flowsession.dev/source-hash"], marks.get("flowsession.dev/refresh", ""), None
                )
            else:
                self.stored(meta["name"], base64.b64decode(create.manifest["binaryData"]["source.tar.gz"]))
        for fetch in plan.fetches:
            known = self.config_maps.get(fetch.name)
            self.config_maps[fetch.name] = ConfigMapView(fetch.name, known.files if known else None, self.now, watched=False)
        if plan.status:
            self.status = applied(self.status, plan.status.status)
        for deletion in plan.deletes:
            (self.pods if deletion.kind == "Pod" else self.config_maps).pop(deletion.name, None)
        self.events += [f"{event.reason}: {event.message}" for event in plan.events]
        return plan

    def settle(self) -> Plan:
        """Decide until nothing is left to do."""
        for _ in range(6):
            plan = self.decide()
            if not (plan.writes or plan.fetches):
                return plan
        raise AssertionError(f"never settles: {plan}")

    def stored(self, name: str, archive: bytes) -> None:
        self.config_maps[name] = ConfigMapView(name, {"source.tar.gz": archive}, self.now, watched=False)

    def pod(self) -> ResolverPod:
        (found,) = self.pods.values()
        return found

    def answer(self, answer: SourceAnswer | None = None, **view: Any) -> None:
        """Let the pod run and its agent answer."""
        name = self.pod().view.name
        agent = AgentView(restarts=0, asked_at=self.now, source=answer, **view)
        self.pods[name] = replace(self.pod(), view=pod(name=name, uid=f"uid-of-{name}"), agent=agent)

    def read(self, answer: SourceAnswer = DONE) -> Plan:
        """Read the source once, from the pod's creation to the verdict."""
        self.settle()
        self.answer(answer)
        return self.settle()

    def ready(self) -> tuple[str, str, str]:
        found = condition(self.status, "Ready")
        return found["status"], found["reason"], found["message"]


def test_a_pod_reads_it_and_what_it_read_is_kept():
    world = World()
    plan = world.decide()
    (create,) = plan.creates
    assert create.manifest["kind"] == "Pod"
    assert world.ready() == ("False", "Resolving", "reading main of https://git.example.com/team/flows.git")
    assert world.events == [], "that it is being read is no news to warn of"
    assert not world.settle().writes, "one pod, and it is waited for"
    world.answer(DONE)
    plan = world.decide()
    (create,) = plan.creates
    manifest = create.manifest
    assert (manifest["kind"], manifest["immutable"], manifest["metadata"]["ownerReferences"][0]["uid"]) == ("ConfigMap", True, "env-uid")
    assert [deletion.kind for deletion in plan.deletes] == ["Pod"]
    digest = hashlib.sha256(base64.b64decode(ARCHIVE)).hexdigest()
    assert world.status["source"] == {
        "specHash": last_reading.hash_of(world.spec.source),
        "revision": "main",
        "commit": COMMIT,
        "digest": f"sha256:{digest}",
        "configMapName": manifest["metadata"]["name"],
        "resolvedAt": stamp(NOW),
        "checkedAt": stamp(NOW),
    }
    plan = world.settle()
    assert world.ready()[:2] == ("True", "Resolved")
    assert "main at aaaaaaaaaaaa" in world.ready()[2]
    assert world.status["flow"]["kind"] == "dag"
    assert world.status["requirementsFile"] == "requirements.txt"
    assert plan.look_again_at == NOW + environments.REREAD_SECONDS, "nobody looks again by itself, but for the ConfigMap"


def test_the_pod_is_confined_and_gets_the_secret_by_the_kubelet():
    world = World(credentialsSecretName="git-token")
    plan = world.decide()
    manifest = plan.creates[0].manifest
    pod_spec = manifest["spec"]
    (container,) = pod_spec["containers"]
    assert pod_spec["automountServiceAccountToken"] is False
    assert pod_spec["restartPolicy"] == "Never"
    assert pod_spec["activeDeadlineSeconds"] == 600
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert pod_spec["volumes"] == [{"name": "credentials", "secret": {"secretName": "git-token", "optional": True, "defaultMode": 0o440}}]
    assert container["volumeMounts"] == [{"name": "credentials", "mountPath": "/credentials", "readOnly": True}]
    assert manifest["metadata"]["ownerReferences"][0] == {
        "apiVersion": "flowsession.dev/v1alpha1",
        "kind": "FlowEnvironment",
        "name": "flow-env",
        "uid": "env-uid",
        "controller": True,
        "blockOwnerDeletion": False,
    }
    assert World().decide().creates[0].manifest["spec"]["volumes"] == []


def test_it_runs_where_sessions_may():
    world = World()
    rules = SessionDefaults(node_selector={"pool": "flows"}, tolerations=({"key": "flows", "operator": "Exists"},))
    world.more["settings"] = Settings(session=rules)
    pod_spec = world.decide().creates[0].manifest["spec"]
    assert (pod_spec["nodeSelector"], pod_spec["tolerations"]) == ({"pool": "flows"}, [{"key": "flows", "operator": "Exists"}])


def test_what_the_agent_is_told():
    settings = Settings(installer=InstallerDefaults(ca_bundle="PEM", environment={"HTTPS_PROXY": "http://proxy", "PIP_TIMEOUT": "9"}))
    world = World(path="flows")
    world.more["settings"] = settings
    world.settle()
    name = world.pod().view.name
    world.pods[name] = replace(world.pod(), view=pod(name=name, uid="x"))
    call = world.decide().call
    assert call is not None
    assert call.body["git"] == {**GIT, "path": "flows", "known": ""}
    assert (call.body["caBundle"], call.body["environment"]) == ("PEM", {"HTTPS_PROXY": "http://proxy"})


def test_a_settled_environment_has_no_pod_and_asks_nobody():
    world = World()
    world.read()
    assert world.pods == {}
    assert world.decide() == Plan(look_again_at=NOW + environments.REREAD_SECONDS)


@pytest.mark.parametrize(
    ("git", "seconds", "looks"),
    [
        ({}, 86_400, False),
        ({"pollSeconds": 60}, 59, False),
        ({"pollSeconds": 60}, 60, True),
        ({"pollSeconds": 60, "revision": COMMIT}, 86_400, False),
    ],
    ids=["by default never", "too early", "every so often", "a commit never changes"],
)
def test_when_it_is_looked_at_again(git, seconds, looks):
    world = World(**git)
    world.read()
    world.now += seconds
    assert [create.manifest["kind"] for create in world.decide().creates] == ["Pod"] * looks


def test_how_often_it_is_looked_at_is_no_reason_to_look():
    world = World()
    world.read()
    world.spec = spec(source={"git": {**GIT, "pollSeconds": 600}}, flowPath="chat")
    assert not world.decide().creates


def test_a_look_that_finds_the_same_commit_changes_nothing_but_its_time():
    world = World(pollSeconds=60)
    world.read()
    before = dict(world.status["source"])
    world.now += 60
    world.settle()
    world.answer()
    world.now += 2
    call = world.decide().call
    assert call is not None
    assert call.body["git"]["known"] == COMMIT
    world.answer(SourceAnswer(state="Done", revision="main", commit=COMMIT, unchanged=True))
    world.settle()
    assert world.status["source"] == {**before, "checkedAt": stamp(world.now)}
    assert world.pods == {}


def test_a_new_commit_takes_the_place_of_the_old_one():
    world = World(pollSeconds=60)
    world.read()
    old = world.status["source"]["configMapName"]
    world.now += 60
    world.read(replace(DONE, commit=NEWER, archive=packed({"chat/flow.dag.yaml": DAG})))
    assert world.status["source"]["commit"] == NEWER
    assert list(world.config_maps) == [world.status["source"]["configMapName"]]
    assert old not in world.config_maps
    assert world.status["requirements"] == 0


def test_a_request_reads_it_again_and_is_answered_once():
    world = World()
    world.read()
    world.more["requests"] = {"refresh": "2026-11-22T20:00:00Z"}
    world.read(replace(DONE, commit=NEWER))
    assert (world.status["source"]["commit"], world.status["handledRequests"]) == (NEWER, {"refresh": "2026-11-22T20:00:00Z"})
    assert not world.decide().creates


def test_a_request_that_is_no_timestamp_is_refused():
    world = World()
    world.read()
    world.more["requests"] = {"refresh": "now"}
    world.settle()
    assert world.status["handledRequests"] == {"refresh": "now"}
    assert [event for event in world.events if event.startswith("RequestRefused")] != []
    assert world.pods == {}


def test_a_request_reads_config_maps_again_too():
    snapshot = environment_snapshot(
        spec=spec(source={"configMap": {"name": "flow"}}),
        config_maps={"flow": ConfigMapView("flow", {"flow.dag.yaml": DAG}, NOW, watched=False)},
        requests={"refresh": "2026-11-22T20:00:00Z"},
    )
    found = resolution.resolve(snapshot.spec, snapshot.config_maps, Settings())
    plan = environments.decide(snapshot, found, NOW)
    assert plan.fetches == (Fetch(NAMESPACE, "flow"),)
    assert plan.status
    assert plan.status.status["handledRequests"] == {"refresh": "2026-11-22T20:00:00Z"}


# -- failures


def test_a_first_reading_that_fails_says_why_and_is_tried_again_ever_more_slowly():
    world = World()
    pauses = []
    for _ in range(9):
        plan = world.read(REFUSED)
        assert world.ready() == ("False", "SourceNotFound", REFUSED.message)
        assert world.pods == {}
        assert plan.look_again_at
        pauses.append(round(plan.look_again_at - world.now))
        world.now = plan.look_again_at
    assert pauses == [15, 30, 60, 120, 240, 480, 600, 600, 600]


def test_a_source_that_is_too_large_has_a_reason_of_its_own():
    world = World()
    world.read(SourceAnswer(state="Failed", code="TooLarge", message="has 9,000,000 bytes; use a persistentVolumeClaim"))
    assert world.ready()[1] == "SourceTooLarge"


def test_what_was_read_before_stays_in_use_when_a_later_look_fails():
    world = World(pollSeconds=60)
    world.read()
    revision = world.status["flowRevision"]
    world.now += 60
    world.read(REFUSED)
    status, reason, message = world.ready()
    assert (status, reason) == ("True", "Resolved")
    assert f"the last look at the source failed, what was read before stays in use: {REFUSED.message}" in message
    assert world.events == [f"SourceNotFound: what was read before stays in use: {REFUSED.message}"]
    assert world.status["flowRevision"] == revision
    world.now += 15
    world.read(REFUSED)
    assert len(world.events) == 1, "the same words are told once"
    world.now += 30
    world.read()
    assert "failed" not in world.ready()[2]
    assert not {"failures", "reason", "message"} & world.status["source"].keys()


def test_another_source_is_never_served_from_the_old_one():
    world = World()
    world.read()
    old = world.status["source"]["configMapName"]
    world.spec = spec(source={"git": {**GIT, "url": "https://git.example.com/other.git"}}, flowPath="chat")
    world.settle()
    assert world.ready()[1] == "Resolving"
    world.answer(REFUSED)
    world.settle()
    assert world.ready()[:2] == ("False", "SourceNotFound")
    assert old not in world.config_maps


def test_a_source_that_needs_no_pod_leaves_nothing_behind():
    world = World()
    world.read()
    world.now += 60
    world.more["requests"] = {"refresh": "2026-11-22T20:00:00Z"}
    world.settle()
    old = world.status["source"]["configMapName"]
    world.spec = spec(requirementsText="")
    plan = world.decide()
    assert {deletion.kind for deletion in plan.deletes} == {"Pod", "ConfigMap"}
    assert "source" not in world.status
    assert old not in world.config_maps


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"phase": "Failed", "reason": "DeadlineExceeded"}, "it took too long; its Events say why it never started; a claim may be in use"),
        ({"phase": "Failed", "reason": "DeadlineExceeded", "container": waiting("", ended_reason="Error")}, "ended: it took too long"),
        ({"phase": "Failed", "container": waiting("", ended_reason="OOMKilled")}, "it ran out of memory"),
        (
            {"phase": "Failed", "container": waiting("", ended_reason="Error", ended_message="no folder")},
            "the pod that reads it ended: no folder",
        ),
        ({"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource"}, "The node was low on resource"),
    ],
)
def test_a_pod_that_ended_is_a_failure(fields, words):
    world = World()
    world.settle()
    name = world.pod().view.name
    world.pods[name] = replace(world.pod(), view=pod(name=name, **{"container": None, **fields}))
    world.settle()
    assert words in world.ready()[2]
    assert world.pods == {}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"unscheduled_message": "0/3 nodes are available"}, "its pod finds no node: 0/3 nodes are available"),
        ({"container": waiting("ImagePullBackOff", "back-off")}, "its pod's image can't be pulled: back-off"),
    ],
)
def test_what_a_pod_waits_for_is_said(fields, words):
    world = World()
    world.settle()
    name = world.pod().view.name
    world.pods[name] = replace(world.pod(), view=pending_pod(name=name, **fields))
    world.settle()
    assert world.ready()[1] == "Resolving"
    assert world.ready()[2].endswith(f"; {words}")


def test_a_refused_pod_is_said_and_tried_again_later():
    world = World()
    world.more["refusal"] = Refusal("QuotaExceeded", "exceeded quota: pods", NOW, 1)
    plan = world.settle()
    assert world.ready()[2].endswith("its pod was refused: exceeded quota: pods")
    assert (plan.creates, plan.look_again_at) == ((), NOW + 60)
    world.now += 60
    assert world.decide().creates


def test_a_refused_config_map_is_a_failure():
    world = World()
    world.settle()
    world.answer(DONE)
    name = environments.decide(world.snapshot, world.resolution(), NOW).creates[0].manifest["metadata"]["name"]
    world.more["refused_config_maps"] = {name: "exceeded quota: configmaps"}
    world.settle()
    assert "what was read can't be kept in a ConfigMap: exceeded quota: configmaps" in world.ready()[2]


def test_a_config_map_that_somebody_deleted_is_read_again():
    world = World()
    world.read()
    name = world.status["source"]["configMapName"]
    world.config_maps[name] = ConfigMapView(name, None, NOW, watched=False)
    world.settle()
    assert world.pods == {}, "not at once, over and over"
    world.now += 10
    world.read()
    assert world.ready()[0] == "True"


def test_a_config_map_that_somebody_changed_is_not_used():
    world = World()
    world.read()
    world.stored(world.status["source"]["configMapName"], base64.b64decode(packed({"chat/flow.dag.yaml": b"nodes: [{name: evil}]\n"})))
    world.settle()
    assert world.ready()[:2] == ("False", "SourceNotFound")
    assert "does not hold what was read" in world.ready()[2]
    assert world.pods == {}


def test_a_hostile_archive_is_judged_as_any_other():
    world = World()
    world.read(replace(DONE, archive=packed({"../etc/passwd": b""})))
    assert world.ready()[:2] == ("False", "FlowInvalid")
    assert "lies outside" in world.ready()[2]


def test_a_silent_agent_is_asked_again_with_pauses_and_said():
    world = World()
    world.settle()
    world.answer(None, failures=3, error="no connection")
    plan = world.settle()
    assert world.ready()[2].endswith("its agent: no connection")
    assert plan.look_again_at == pytest.approx(NOW + 0.4)
    world.now += 0.5
    assert isinstance(world.decide().call, ReadSource)


def test_a_pod_of_an_older_spec_goes():
    world = World()
    world.settle()
    old = world.pod().view
    world.spec = spec(source={"git": {**GIT, "revision": "v2"}}, flowPath="chat")
    plan = world.decide()
    assert plan.deletes == (Delete("Pod", old.namespace, old.name, uid=old.uid),)


# -- what the agent answers


@pytest.mark.parametrize(
    ("document", "answer"),
    [
        ({"state": "Running"}, SourceAnswer()),
        ({"state": "Done", "commit": COMMIT, "revision": "main", "archive": ARCHIVE, "warnings": 5}, DONE),
        (
            {"state": "Done", "commit": COMMIT, "revision": "main", "unchanged": True, "archive": "x" * 10},
            SourceAnswer(state="Done", revision="main", commit=COMMIT, unchanged=True),
        ),
        ({"state": "Failed", "code": "X\x00", "message": "a\nb"}, SourceAnswer(state="Failed", code="X", message="a b")),
    ],
)
def test_answers(document, answer):
    assert source_answers.source(document) == answer


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"state": ["Done"]},
        {"state": "Done"},
        {"state": "Done", "commit": "main", "archive": ARCHIVE},
        {"state": "Done", "commit": COMMIT},
        {"state": "Done", "commit": COMMIT, "archive": "no base64!"},
        {"state": "Done", "commit": COMMIT, "archive": base64.b64encode(b"x" * 1_000_001).decode()},
    ],
)
def test_answers_that_make_no_sense_are_failures(document):
    assert source_answers.source(document).state == "Failed"


def test_warnings_of_an_agent_are_capped():
    warning = {"code": "Lfs Pointer" * 90, "file": "x" * 9000, "message": "y\x07\n" * 9000, "line": 1}
    (*_, last) = source_answers.source(
        {"state": "Done", "commit": COMMIT, "archive": ARCHIVE, "warnings": [None, *[warning] * 99]}
    ).warnings
    assert len(last.code) <= 40
    assert len(last.file) <= 250
    assert len(last.message) <= 500


# -- claims and OCI artifacts

CLAIM = {"persistentVolumeClaim": {"claimName": "flows", "path": "team"}}
COPIED = {"persistentVolumeClaim": {"claimName": "flows", "path": "team", "readOnly": True}}
ARTIFACT = {"ociArtifact": {"reference": "registry.example.com/flows:v1", "path": "team"}}
READ = SourceAnswer(state="Done", archive=ARCHIVE)


def of(source: Mapping[str, Any]) -> World:
    world = World()
    world.spec = spec(source=source, flowPath="chat")
    return world


@pytest.mark.parametrize(
    ("source", "volume", "outline"),
    [
        (CLAIM, {"persistentVolumeClaim": {"claimName": "flows"}}, True),
        (COPIED, {"persistentVolumeClaim": {"claimName": "flows"}}, False),
        (ARTIFACT, {"image": {"reference": "registry.example.com/flows:v1"}}, False),
    ],
    ids=["in place", "copied", "artifact"],
)
def test_what_is_mounted_is_read_in_the_pod(source, volume, outline):
    world = of(source)
    pod_spec = world.decide().creates[0].manifest["spec"]
    assert pod_spec["volumes"] == [{"name": "source", **volume}]
    assert pod_spec["containers"][0]["volumeMounts"] == [{"name": "source", "mountPath": "/source", "readOnly": True}]
    world.settle()
    name = world.pod().view.name
    world.pods[name] = replace(world.pod(), view=pod(name=name, uid="x"))
    assert world.decide().call == ReadSource(name, {"folder": {"path": "team", "outline": outline}})


def test_who_only_reads_a_claim_leaves_its_groups_alone():
    def security(source: Mapping[str, Any]) -> Mapping[str, Any]:
        found: Mapping[str, Any] = of(source).decide().creates[0].manifest["spec"]["securityContext"]
        return found

    assert "fsGroup" not in security(COPIED)
    assert security(CLAIM)["fsGroupChangePolicy"] == "OnRootMismatch"


@pytest.mark.parametrize("source", [COPIED, ARTIFACT], ids=["copied", "artifact"])
def test_sessions_get_copies_of_what_was_read(source):
    world = of(source)
    world.read(READ)
    found = world.resolution()
    assert isinstance(found, Resolved)
    assert found.claim is None
    assert found.files is not None
    assert set(found.files) == {"flow.dag.yaml", "requirements.txt"}
    assert world.ready()[:2] == ("True", "Resolved")
    assert world.status["flowRevision"]
    assert "commit" not in world.status["source"]


def test_sessions_use_a_claim_in_place():
    world = of(CLAIM)
    world.read(READ)
    found = world.resolution()
    assert isinstance(found, Resolved)
    assert (found.claim, found.files) == (Claim("flows", "team", "chat"), None)
    assert (found.requirements_path, found.requirements_count) == ("requirements.txt", 1)
    assert "flowRevision" not in world.status
    assert world.status["flow"]["kind"] == "dag"


def test_changed_requirements_of_a_claim_are_seen_at_a_request():
    world = of(CLAIM)
    world.read(READ)
    before = world.status["packagesRevision"]
    world.more["requests"] = {"refresh": "2026-11-22T20:00:00Z"}
    world.read(replace(READ, archive=packed({"chat/flow.dag.yaml": DAG, "chat/requirements.txt": b"numpy\n"})))
    assert world.status["packagesRevision"] != before


@pytest.mark.parametrize(("source", "answer"), [({"git": GIT}, READ), (CLAIM, DONE)], ids=["git without a commit", "a claim with one"])
def test_an_answer_of_another_kind_of_source_is_a_failure(source, answer):
    world = of(source)
    world.read(answer)
    assert world.ready()[:2] == ("False", "SourceNotFound")


@pytest.mark.parametrize(("allowed", "reads"), [((), True), (("registry.example.com",), True), (("other.example.com",), False)])
def test_an_artifact_is_of_an_allowed_registry(allowed, reads):
    world = of(ARTIFACT)
    world.more["settings"] = Settings(images=ImageSettings(allowed_registries=allowed))
    world.settle()
    assert bool(world.pods) is reads
    if not reads:
        assert world.ready()[1] == "ImageNotAllowed"
        assert "spec.source.ociArtifact.reference registry.example.com/flows:v1" in world.ready()[2]
        assert "(other.example.com)" in world.ready()[2]


def test_a_pod_that_reads_what_is_no_longer_allowed_goes():
    world = of(ARTIFACT)
    world.settle()
    assert world.pods
    world.more["settings"] = Settings(images=ImageSettings(allowed_registries=("other.example.com",)))
    world.settle()
    assert not world.pods
