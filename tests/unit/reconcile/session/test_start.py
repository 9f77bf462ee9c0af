"""The start of a pod: the plan, status and messages for each state that Kubernetes reports."""

from dataclasses import replace

import pytest

from flowsession.engine.store import objects
from flowsession.manifests import session_pod as pods
from flowsession.model.plan import Delete
from flowsession.model.views import Refusal
from flowsession.reconcile.session.draft import BACKLOG_STEP, FIRST_SECONDS, MOST_PROGRESS_SECONDS, PROGRESS_SECONDS
from flowsession.reconcile.session.start import pod_of
from flowsession.settings import Settings
from unit.builders import (
    DAG,
    NAMESPACE,
    NOW,
    POD,
    agent,
    applied,
    condition,
    container,
    decide,
    pending_pod,
    pod,
    ready_status,
    resolved,
    session_snapshot,
    session_spec,
    settled_snapshot,
    silent_agent,
    stamp,
    status_after,
    verdict,
    waiting,
)

POD_2 = "alice-flow-01234-2"
QUOTA = "exceeded quota: team, requested: pods=1, used: pods=5, limited: pods=5"


def created(plan):
    return [(create.manifest["kind"], create.manifest["metadata"]["name"]) for create in plan.creates]


# -- the pod that is created


def test_a_new_session_gets_the_pod_of_its_first_incarnation():
    assert created(decide(session_snapshot())) == [("Pod", POD)]


def test_an_image_without_the_agent_gets_it_by_a_config_map_named_by_content():
    snapshot = session_snapshot(environment=resolved(baseImage="python:3.12"))
    assert created(decide(snapshot)) == [("ConfigMap", "flowsession-agent-abababababab"), ("Pod", POD)]
    known = replace(snapshot, known_config_maps={"flowsession-agent-abababababab": 0})
    assert created(decide(known)) == [("Pod", POD)]


def manifest(environment=None, **fields):
    snapshot = session_snapshot(**fields)
    return pods.manifest(pod_of(snapshot, environment or resolved(), 1))


def test_restricted_pod_security():
    spec = manifest()["spec"]
    container = spec["containers"][0]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert spec["automountServiceAccountToken"] is False


@pytest.mark.parametrize(
    ("environment", "volumes"),
    [
        (resolved(requirements=""), []),
        (resolved(), ["session"]),
        (resolved(requirements="", files={"flow.dag.yaml": DAG}), ["session"]),
        (resolved(requirements="", baseImage="python:3.12"), ["session", "agent"]),
    ],
    ids=["nothing to keep", "packages", "a flow folder", "another image"],
)
def test_no_volume_unless_there_is_something_in_it(environment, volumes):
    """Foreign images always get a volume: they may have no folder that every user can write, and their agent needs a volume anyway."""
    spec = manifest(environment)["spec"]
    assert [volume["name"] for volume in spec["volumes"]] == volumes
    assert {"name": "FLOWSESSION_HOME", "value": "/session"} in spec["containers"][0]["env"]
    assert spec["containers"][0]["workingDir"] == "/session/flow", "where commands and terminals start, in every layout"


def created_pod(**session):
    (created,) = (created for created in decide(session_snapshot(**session)).creates if created.manifest["kind"] == "Pod")
    return created.manifest["spec"]


def test_all_that_a_session_writes_is_limited():
    """The container's limit covers volumes, writable layer and logs together. Without its own value the request would equal the limit."""
    spec = created_pod()
    assert spec["containers"][0]["resources"]["limits"]["ephemeral-storage"] == "20Gi"
    assert spec["containers"][0]["resources"]["requests"]["ephemeral-storage"] == "0"
    assert spec["volumes"][0]["emptyDir"] == {"sizeLimit": "20Gi"}


def test_the_platforms_own_limit_of_storage_stays():
    own = {"requests": {"ephemeral-storage": "1Gi"}, "limits": {"ephemeral-storage": "5Gi"}}
    spec = created_pod(settings=Settings.model_validate({"session": own}))
    assert spec["containers"][0]["resources"] == own
    assert spec["volumes"][0]["emptyDir"] == {"sizeLimit": "5Gi"}


def test_no_limit_where_the_platform_wants_none():
    spec = created_pod(settings=Settings.model_validate({"session": {"ephemeralStorageLimit": ""}}))
    assert "ephemeral-storage" not in str(spec)
    assert spec["volumes"][0]["emptyDir"] == {}


def test_the_loader_checks_the_agent_by_its_hash():
    command = manifest(resolved(baseImage="python:3.12"))["spec"]["containers"][0]["command"]
    assert command[:3] == ["python3", "-I", "-c"]
    assert command[-2:] == ["/opt/flowsession-agent/agent.pyz", "ab" * 32]
    compile(command[3], "loader", "exec")
    assert manifest()["spec"]["containers"][0]["command"] == ["/opt/flowsession/agent"]


def test_labels_and_owner():
    meta = manifest()["metadata"]
    assert meta["labels"]["app.kubernetes.io/managed-by"] == "flowsession"
    assert meta["labels"]["flowsession.dev/session"] == "alice-flow"
    assert len(meta["labels"]["flowsession.dev/user"]) == 32
    assert meta["annotations"]["flowsession.dev/user"] == "alice@example.com"
    assert [(owner["kind"], owner["uid"], owner["controller"]) for owner in meta["ownerReferences"]] == [
        ("ComputeSession", "0123456789", True)
    ]


def test_what_people_add_never_replaces_our_own():
    spec = session_spec(
        podMetadata={"labels": {"team": "x", "flowsession.dev/session": "stolen"}, "annotations": {"note": "y"}},
        env=[{"name": "HOME", "value": "/mine"}, {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
    )
    made = manifest(spec=spec)
    assert made["metadata"]["labels"]["team"] == "x"
    assert made["metadata"]["labels"]["flowsession.dev/session"] == "alice-flow"
    env = {variable["name"]: variable for variable in made["spec"]["containers"][0]["env"]}
    assert env["HOME"]["value"] == "/mine"
    assert env["KEY"]["valueFrom"] == {"secretKeyRef": {"name": "s", "key": "k"}}
    assert "FLOWSESSION_POD_UID" in env
    assert env["FLOWSESSION_SECRET_VARIABLES"]["value"] == "KEY", "requirements must not show its value"


@pytest.mark.parametrize("reason", ["ImagePullBackOff", "ErrImagePull"])
def test_an_image_that_a_webhook_rewrites_and_that_cannot_be_pulled_is_waited_for(reason):
    """Otherwise the session would be restarted in a loop, since every new pod gets the rewritten image too."""
    made = manifest()
    made["metadata"] |= {"uid": "pod-1", "creationTimestamp": stamp(NOW)}
    made["spec"]["containers"][0]["image"] = "mirror.example.com/runtime"
    made["status"] = {
        "phase": "Pending",
        "containerStatuses": [{"name": "session", "state": {"waiting": {"reason": reason, "message": "no such image"}}}],
    }
    snapshot = session_snapshot(objects.pod(made).view)
    assert decide(snapshot).deletes == ()
    assert verdict(status_after(snapshot), "Ready") == ("False", "ImagePullFailed")


@pytest.mark.parametrize("reason", ["ImagePullBackOff", "CreateContainerError", "CrashLoopBackOff"])
def test_an_image_that_does_not_start_gives_way_to_a_corrected_one(reason):
    wrong = pending_pod(image="no/such:image", container=waiting(reason, "no such image"))
    snapshot = session_snapshot(wrong)
    assert decide(snapshot).deletes == (Delete("Pod", NAMESPACE, POD, "pod-1"),)
    assert "the environment's image has changed before no/such:image ran" in condition(status_after(snapshot), "Ready")["message"]
    assert decide(session_snapshot(pending_pod(container=waiting(reason, "no such image")))).deletes == ()
    served = session_snapshot(replace(wrong, phase="Running"), status=ready_status())
    assert decide(served).deletes == (), "what was ready once waits for a reset"


def test_the_platforms_settings_are_in_the_pod():
    settings = Settings.model_validate(
        {
            "imagePullPolicy": "Always",
            "session": {
                "requests": {"cpu": "2"},
                "limits": {"memory": "8Gi"},
                "nodeSelector": {"pool": "a"},
                "tolerations": [{"operator": "Exists"}],
                "runAsUser": 4242,
                "ephemeralStorageLimit": "5Gi",
            },
        }
    )
    spec = pods.with_limited_storage(manifest(settings=settings), "5Gi")["spec"]
    assert spec["containers"][0]["resources"] == {
        "requests": {"cpu": "2", "ephemeral-storage": "0"},
        "limits": {"memory": "8Gi", "ephemeral-storage": "5Gi"},
    }
    assert spec["containers"][0]["imagePullPolicy"] == "Always"
    assert (spec["nodeSelector"], spec["tolerations"]) == ({"pool": "a"}, [{"operator": "Exists"}])
    assert spec["securityContext"]["fsGroup"] == 4242
    assert spec["volumes"][0]["emptyDir"] == {"sizeLimit": "5Gi"}


def test_names_fit():
    snapshot = session_snapshot(name="n" * 50)
    assert len(pods.name_of(snapshot.name, snapshot.uid, 99_999)) <= 63


# -- the API server's refusal


def refused(count, ago=0.0):
    return Refusal("QuotaExceeded", QUOTA, NOW - ago, count)


def test_a_refusal_is_shown_in_the_servers_own_words():
    snapshot = session_snapshot(refusal=refused(1))
    status = status_after(snapshot)
    assert verdict(status, "ComputeAllocated") == ("False", "QuotaExceeded")
    assert verdict(status, "Ready") == ("False", "QuotaExceeded")
    said = f"{QUOTA}; end sessions, or have the quota raised"
    assert condition(status, "Ready")["message"] == said
    assert status["phase"] == "Pending"
    assert [(event.reason, event.message) for event in decide(snapshot).events] == [("QuotaExceeded", said)]
    assert not decide(replace(snapshot, status=status)).writes


def test_the_way_out_of_a_refusal_fits_its_figures():
    words = QUOTA.replace("pods=1,", "limits.memory=4Gi,pods=1,").replace("used: ", "used: limits.memory=0,")
    words = words.replace("limited: ", "limited: limits.memory=2Gi,")
    status = status_after(session_snapshot(refusal=replace(refused(1), message=words)))
    said = condition(status, "Ready")["message"]
    assert said.startswith(words)
    assert "end sessions" not in said
    assert "have the quota raised" in said
    assert "limit requests.memory instead" in said


@pytest.mark.parametrize(("count", "pause"), [(1, 1.0), (2, 2.0), (3, 4.0), (9, 256.0), (10, 300.0), (50, 300.0)])
def test_it_is_tried_again_ever_more_slowly(count, pause):
    early = decide(session_snapshot(refusal=refused(count, ago=pause - 0.01)))
    assert early.creates == ()
    assert early.look_again_at == pytest.approx(NOW + 0.01)
    assert created(decide(session_snapshot(refusal=refused(count, ago=pause)))) == [("Pod", POD)]


# -- pods that are lost


def test_a_lost_pod_is_written_down_before_another_is_created():
    snapshot = settled_snapshot(pods=())
    plan, status = decide(snapshot), status_after(snapshot)
    assert plan.creates == ()
    assert (status["incarnation"], status["restarts"]) == (2, 1)
    assert "podName" not in status and "readyAt" not in status and "packagesRevision" not in status
    assert verdict(status, "Ready") == ("False", "PodFailed")
    assert condition(status, "Ready")["message"] == f"pod {POD} was deleted, or lost with its node; starting again"
    assert verdict(status, "PackagesInstalled") == ("Unknown", "Waiting")
    due = plan.look_again_at
    assert NOW <= due <= NOW + 1
    again = replace(snapshot, status=status)
    assert created(decide(again, NOW + 1)) == [("Pod", POD_2)]
    assert not decide(again, due - 0.5).writes


def test_a_pod_that_is_being_deleted_counts_as_lost_but_is_waited_for():
    going = pod(deleting_since=NOW + 30)
    snapshot = settled_snapshot(pods=(going,))
    plan, status = decide(snapshot), status_after(snapshot)
    assert plan.deletes == ()
    assert status["incarnation"] == 2
    later = replace(snapshot, status=status)
    for seconds in (1, 10, 29, 80):
        assert decide(later, NOW + seconds).creates == ()


@pytest.mark.parametrize(("past", "deletes"), [(59.0, ()), (60.0, (Delete("Pod", NAMESPACE, POD, "pod-1", grace_seconds=0),))])
def test_a_pod_that_does_not_end_is_removed_by_force_a_minute_past_its_grace(past, deletes):
    status = status_after(settled_snapshot(pods=()))
    plan = decide(session_snapshot(pod(deleting_since=NOW - past), status=status))
    assert plan.deletes == deletes
    assert plan.creates == ()


def test_strays_of_other_incarnations_go():
    stray = pod(name="alice-flow-01234-7", uid="pod-7")
    plan = decide(settled_snapshot(pods=(pod(), stray)))
    assert plan.deletes == (Delete("Pod", NAMESPACE, "alice-flow-01234-7", "pod-7"),)
    assert plan.creates == ()


@pytest.mark.parametrize(
    ("failed", "reason", "words"),
    [
        (pod(phase="Failed", reason="Evicted", message="The node was low on memory."), "Evicted", "low on memory"),
        (pod(phase="Failed", reason="Preempted"), "Preempted", "Preempted"),
        (pod(phase="Failed", reason="NodeShutdown"), "NodeShutdown", "NodeShutdown"),
        (pod(phase="Failed", reason="OutOfcpu", message="no cpu left"), "PodFailed", "no cpu left"),
        (pod(phase="Failed", container=container(ended_reason="OOMKilled")), "OutOfMemory", "killed for memory"),
        (pod(phase="Succeeded"), "PodFailed", "Succeeded"),
        (pod(phase="Succeeded", container=waiting("", ended_reason="Error", ended_code=143)), "PodFailed", "asked to end"),
        (pod(phase="Failed", disruption="TerminationByKubelet", message="low on disk"), "Evicted", "low on disk"),
        (pod(phase="Failed", reason="Terminated", disruption="TerminationByKubelet", message="shutdown"), "NodeShutdown", "shutdown"),
        (pod(phase="Failed", reason="Preempting", disruption="TerminationByKubelet", message="a critical pod"), "Preempted", "critical"),
        (pod(phase="Failed", reason="Evicted", container=container(ended_reason="OOMKilled", restarts=1)), "Evicted", "Evicted"),
        (
            pod(
                phase="Succeeded", disruption="TerminationByKubelet", message="low on memory", container=container(ended_reason="OOMKilled")
            ),
            "Evicted",
            "low on memory",
        ),
    ],
    ids=[
        "evicted",
        "preempted",
        "node shut down",
        "not admitted",
        "out of memory",
        "succeeded",
        "asked to end",
        "by the kubelet",
        "at the node's shutdown",
        "for a critical pod",
        "evicted after a restart for memory",
        "by the kubelet, and ended well",
    ],
)
def test_a_failed_pod_is_removed_and_started_again(failed, reason, words):
    snapshot = settled_snapshot(pods=(failed,))
    plan, status = decide(snapshot), status_after(snapshot)
    assert plan.deletes == (Delete("Pod", NAMESPACE, POD, "pod-1"),)
    assert plan.creates == ()
    assert status["incarnation"] == 2
    assert verdict(status, "Ready") == ("False", reason)
    assert words in condition(status, "Ready")["message"]
    assert condition(status, "Ready")["message"].endswith("; starting again")


@pytest.mark.parametrize(
    ("restarts", "lived", "pause"),
    [(0, 10.0, 1.0), (1, 10.0, 2.0), (4, 10.0, 16.0), (20, 10.0, 300.0), (20, 599.0, 300.0), (20, 600.0, 0.0)],
)
def test_what_dies_young_again_and_again_is_started_ever_more_slowly(restarts, lived, pause):
    status = ready_status(ready_at=NOW - lived) | {"restarts": 30, "restartsInARow": restarts}
    after = status_after(session_snapshot(status=status))
    assert after["startedAt"] == stamp(NOW + pause)
    assert after["restarts"] == 31, "what people read counts on"


def test_after_a_while_of_use_the_back_off_begins_anew():
    """Twenty crashes on its first day must not make every crash of the next month cost five minutes."""
    status = ready_status(ready_at=NOW - 600) | {"restarts": 20, "restartsInARow": 20}
    after = status_after(session_snapshot(status=status))
    assert (after["restarts"], after.get("restartsInARow"), after["startedAt"]) == (21, None, stamp(NOW))
    status = ready_status(ready_at=NOW - 10) | {"restarts": after["restarts"]}
    again = status_after(session_snapshot(status=status))
    assert (again["restarts"], again["restartsInARow"], again["startedAt"]) == (22, 1, stamp(NOW + 1))


def test_a_young_ones_ready_time_does_not_forget_the_row():
    """The count stays in the status while the pod runs, so a restarted operator continues from it."""
    status = ready_status(ready_at=NOW - 10) | {"restartsInARow": 3}
    served = status_after(session_snapshot(pod(), status=status, agent=agent()))
    assert served["restartsInARow"] == 3


# -- pods that do not run yet


@pytest.mark.parametrize(
    ("backlog", "seconds"),
    [
        (0, FIRST_SECONDS),
        (BACKLOG_STEP, FIRST_SECONDS),
        (5 * BACKLOG_STEP, 5 * FIRST_SECONDS),
        (10_000 * BACKLOG_STEP, MOST_PROGRESS_SECONDS),
    ],
)
def test_the_longer_the_backlog_the_longer_mere_progress_waits(backlog, seconds):
    snapshot = session_snapshot(pending_pod(created_at=NOW), backlog=backlog)
    assert decide(snapshot, NOW).look_again_at == NOW + seconds
    assert not decide(snapshot, NOW + seconds - 0.01).writes
    assert decide(snapshot, NOW + seconds).writes


@pytest.mark.parametrize("later", [0.0, 0.2, FIRST_SECONDS - 0.01])
def test_a_start_as_expected_needs_no_word_at_first(later):
    young = pending_pod(created_at=NOW)
    plan = decide(session_snapshot(young), NOW + later)
    assert not plan.writes
    assert plan.look_again_at == NOW + FIRST_SECONDS


def test_a_longer_one_is_told_of_soon_and_then_as_seldom_as_before():
    """An empty STATUS looks like a dead operator."""
    snapshot = session_snapshot(pending_pod(created_at=NOW, node="", scheduled_at=None))
    status = status_after(snapshot, NOW + FIRST_SECONDS)
    assert (status["phase"], verdict(status, "Ready")) == ("Starting", ("False", "Starting"))
    later = replace(snapshot, status=status, pods=(pending_pod(created_at=NOW),))
    assert not decide(later, NOW + PROGRESS_SECONDS - 0.01).writes
    assert decide(later, NOW + PROGRESS_SECONDS).writes


def test_after_a_while_it_is_said_how_far_the_pod_is():
    status = status_after(session_snapshot(pending_pod(created_at=NOW)), NOW + PROGRESS_SECONDS)
    assert status["phase"] == "Starting"
    assert verdict(status, "Ready") == ("False", "Starting")
    assert verdict(status, "ComputeAllocated") == ("True", "Allocated")
    assert (status["podName"], status["nodeName"], status["incarnation"], status["vmSize"]) == (POD, "worker-1", 1, "default")
    assert status["startedAt"] == stamp(NOW)


def test_before_the_scheduler_has_spoken_nothing_is_known():
    status = status_after(session_snapshot(pending_pod(node="", container=None)))
    assert verdict(status, "ComputeAllocated") == ("Unknown", "Scheduling")
    assert "nodeName" not in status


def test_no_room_is_said_at_once_in_the_schedulers_words():
    words = "0/2 nodes are available: 2 Insufficient memory."
    snapshot = session_snapshot(pending_pod(node="", container=None, unscheduled_message=words, created_at=NOW))
    status = status_after(snapshot)
    assert status["phase"] == "Pending"
    assert verdict(status, "ComputeAllocated") == ("False", "Unschedulable")
    assert verdict(status, "Ready") == ("False", "Unschedulable")
    assert condition(status, "Ready")["message"] == f"no node has room for the session: {words}"
    assert [event.reason for event in decide(snapshot).events] == ["Unschedulable"]


@pytest.mark.parametrize("words", ['persistentvolumeclaim "data" not found', "pod has unbound immediate PersistentVolumeClaims"])
def test_a_claim_that_is_not_there_is_no_lack_of_room(words):
    status = status_after(session_snapshot(pending_pod(node="", container=None, unscheduled_message=words)))
    assert condition(status, "Ready")["message"] == f"the session waits for a claim: {words}"


PULL = 'failed to pull and unpack image "x": not found'


@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"])
def test_an_image_that_cannot_be_pulled(reason):
    status = status_after(session_snapshot(pending_pod(container=waiting(reason, PULL))))
    assert status["phase"] == "Starting"
    assert verdict(status, "Ready") == ("False", "ImagePullFailed")
    message = condition(status, "Ready")["message"]
    assert message.startswith("image flowsession-runtime:latest can't be pulled; check its name")
    assert message.endswith(PULL)


def test_the_back_offs_words_do_not_hide_the_cause():
    first = session_snapshot(pending_pod(container=waiting("ErrImagePull", PULL)))
    status = status_after(first)
    later = replace(first, status=status, pods=(pending_pod(container=waiting("ImagePullBackOff", "Back-off pulling image")),))
    assert decide(later).status is None


@pytest.mark.parametrize(
    ("container", "reason", "words"),
    [
        pytest.param(
            waiting(
                "CrashLoopBackOff",
                "back-off 10s",
                ended_reason="Error",
                ended_code=64,
                ended_message="Python 3.6.9 in this image is too old",
            ),
            "PodFailed",
            ["Python 3.6.9 in this image is too old"],
            id="python too old",
        ),
        pytest.param(
            waiting("", ended_reason="Error", ended_code=65, ended_message="the agent in /x is not the one that the operator shipped"),
            "PodFailed",
            ["not the one that the operator shipped"],
            id="wrong agent",
        ),
        pytest.param(
            waiting("RunContainerError", 'exec: "python3": executable file not found in $PATH'),
            "PodFailed",
            ["no python3 on its PATH", "executable file not found"],
            id="no python",
        ),
        pytest.param(
            waiting("", ended_reason="StartError", ended_code=128, ended_message="exec /usr/bin/python3: no such file or directory"),
            "PodFailed",
            ["no python3 on its PATH"],
            id="no python, in other words",
        ),
        pytest.param(
            waiting("CrashLoopBackOff", "back-off 40s", ended_reason="OOMKilled", ended_code=137),
            "OutOfMemory",
            ["killed for memory; ask for more memory"],
            id="out of memory",
        ),
        pytest.param(
            waiting("", ended_reason="Error", ended_code=143, ended_message="cat: x: no such file or directory"),
            "PodFailed",
            ["asked to end (SIGTERM)"],
            id="asked to end",
        ),
        pytest.param(
            waiting("", ended_reason="Error", ended_code=137, ended_message="cat: x: no such file or directory"),
            "PodFailed",
            ["exit code 137 (Error): cat: x: no such file or directory"],
            id="killed, whatever its log says",
        ),
        pytest.param(
            waiting("", ended_reason="Error", ended_code=1, ended_message="Traceback:\n  x\nOSError: no space"),
            "PodFailed",
            ["ended with exit code 1 (Error): OSError: no space"],
            id="its last line",
        ),
        pytest.param(
            waiting("CreateContainerConfigError", "container has runAsNonRoot and image will run as root"),
            "PodFailed",
            ["can't create the session's container: container has runAsNonRoot"],
            id="it can't be created",
        ),
    ],
)
def test_a_container_that_does_not_stay_up(container, reason, words):
    status = status_after(session_snapshot(pending_pod(container=container)))
    assert status["phase"] == "Failed"
    assert verdict(status, "Ready") == ("False", reason)
    for word in words:
        assert word in condition(status, "Ready")["message"]
    assert "Traceback" not in condition(status, "Ready")["message"]


ENV = [
    {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "creds", "key": "token"}}},
    {"name": "LOGIN", "valueFrom": {"secretKeyRef": {"name": "creds", "key": "login"}}},
    {"name": "COLOR", "valueFrom": {"configMapKeyRef": {"name": "theme", "key": "color"}}},
    {"name": "PLAIN", "value": "1"},
]


@pytest.mark.parametrize(
    ("words", "reason", "message"),
    [
        (
            'secret "creds" not found',
            "SecretNotFound",
            "Secret 'creds' in namespace 'team', which spec.env takes TOKEN, LOGIN from, does not",
        ),
        (
            'configmap "theme" not found',
            "ConfigMapNotFound",
            "ConfigMap 'theme' in namespace 'team', which spec.env takes COLOR from, does not",
        ),
        (
            "couldn't find key login in Secret team/creds",
            "SecretNotFound",
            "takes LOGIN from, has no key 'login': add the key to the Secret",
        ),
        ("couldn't find key color in ConfigMap team/theme", "ConfigMapNotFound", "takes COLOR from, has no key 'color': add the key"),
    ],
)
def test_a_value_that_the_node_does_not_find_is_told_by_its_name_and_with_the_way_out(words, reason, message):
    """The messages are those of kubelet 1.37."""
    held = pending_pod(container=waiting("CreateContainerConfigError", words))
    snapshot = session_snapshot(held, spec=session_spec(env=ENV))
    status = status_after(snapshot)
    said = condition(status, "Ready")["message"]
    assert verdict(status, "Ready") == ("False", reason)
    assert message in said
    assert "the session starts by itself, or correct spec.env" in said
    assert "ended" not in said
    assert [event.reason for event in decide(snapshot).events] == [reason]


@pytest.mark.parametrize("ready_at", ["", stamp(NOW - 50)], ids=["before it ran", "afterwards"])
def test_a_corrected_env_starts_a_session_that_could_not_be_created_and_restarts_none_that_ran(ready_at):
    wrong, right = session_spec(env=ENV), session_spec(env=ENV[3:])
    held = pending_pod(container=waiting("CreateContainerConfigError", 'secret "creds" not found'), settings=pods.settings_of(wrong))
    status = {"podName": held.name, "incarnation": 1, **({"readyAt": ready_at} if ready_at else {})}
    assert decide(session_snapshot(held, spec=wrong, status=status)).deletes == ()
    said = condition(status_after(session_snapshot(held, spec=wrong, status=status)), "Ready")["message"]
    assert said.endswith("correct spec.env" + (" and set the annotation flowsession.dev/reset-requested-at" if ready_at else ""))
    plan = decide(session_snapshot(held, spec=right, status=status))
    assert [deletion.name for deletion in plan.deletes] == ([] if ready_at else [held.name])
    if not ready_at:
        again = session_snapshot(spec=right, status=applied(status, plan.status.status))
        (create,) = decide(again).creates
        assert create.manifest["metadata"]["name"] == POD_2


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (pending_pod(node="", container=None, unscheduled_message="0/2 nodes"), ["no node has room", "0/2 nodes"]),
        (pending_pod(container=waiting("ErrImagePull", PULL)), ["can't be pulled", PULL]),
        (pending_pod(), ["its container is being created"]),
    ],
    ids=["unschedulable", "pull", "slow"],
)
def test_the_start_timeout_names_the_cause_and_the_start_goes_on(made, words):
    snapshot = session_snapshot(replace(made, created_at=NOW - 600), spec=session_spec(startTimeoutSeconds=600))
    status = status_after(snapshot)
    assert status["phase"] == "Failed"
    assert verdict(status, "Ready") == ("False", "StartTimeout")
    assert condition(status, "Ready")["message"].startswith("not started after 600 s, still waiting until its container runs: ")
    for word in words:
        assert word in condition(status, "Ready")["message"]
    assert decide(snapshot).deletes == ()
    assert not decide(replace(snapshot, status=status), NOW + 50).writes


def test_the_timeout_is_not_early():
    snapshot = session_snapshot(pending_pod(created_at=NOW - 599), spec=session_spec(startTimeoutSeconds=600))
    assert verdict(status_after(snapshot), "Ready") == ("False", "Starting")
    assert decide(snapshot).look_again_at == NOW + 1


@pytest.mark.parametrize(("ready", "reason"), [(True, "OutOfMemory"), (False, "StartTimeout")])
def test_the_timeout_of_a_restarted_container_counts_from_the_end_of_the_one_that_ran(ready, reason):
    killed = waiting("CrashLoopBackOff", ended_reason="OOMKilled", ended_code=137, ended_at=NOW - 5.0, restarts=1)
    made = pending_pod(container=killed, created_at=NOW - 3600)
    status = {"podName": made.name, "incarnation": 1, **({"readyAt": stamp(NOW - 3500)} if ready else {})}
    after = status_after(session_snapshot(made, status=status, spec=session_spec(startTimeoutSeconds=600)))
    assert verdict(after, "Ready") == ("False", reason)


def test_the_timeout_counts_from_the_present_incarnation():
    status = status_after(settled_snapshot(pods=()))
    second = pending_pod(name=POD_2, uid="pod-2", created_at=NOW + 1)
    after = status_after(session_snapshot(second, status=status, spec=session_spec(startTimeoutSeconds=10)), NOW + 5)
    assert verdict(after, "Ready") == ("False", "Starting")


ENDED_FIRST = waiting("", ended_reason="Error", ended_code=143)
"""A container that its node reports as ended, before or together with the reason."""

EVICTED = {"phase": "Failed", "reason": "Evicted", "message": "Pod ephemeral local storage usage exceeds the total limit."}


@pytest.mark.parametrize(
    "seen",
    [
        (pod(**EVICTED, container=ENDED_FIRST),),
        (pod(container=ENDED_FIRST), pod(**EVICTED, container=ENDED_FIRST)),
        (pod(**EVICTED, container=ENDED_FIRST, deleting_since=NOW),),
        (pod(disruption="TerminationByKubelet", message=EVICTED["message"]), pod(**EVICTED, container=ENDED_FIRST)),
        (pod(disruption="TerminationByKubelet", message=EVICTED["message"], container=ENDED_FIRST, deleting_since=NOW),),
    ],
    ids=["at once", "its container first", "already being deleted", "its condition first", "deleted while it ended"],
)
def test_an_eviction_is_told_in_whichever_order_its_node_reports_it(seen):
    status, told = settled_snapshot().status, []
    for view in seen:
        snapshot = settled_snapshot(status=status, pods=(view,))
        told += [(event.reason, event.message) for event in decide(snapshot).events if event.reason not in ("PodFailed", "EditsNotSaved")]
        status = status_after(snapshot)
    assert [reason for reason, _ in told] == ["Evicted"]
    assert EVICTED["message"] in told[0][1]
    assert verdict(status, "Ready") == ("False", "Evicted")


@pytest.mark.parametrize(
    ("code", "not_saved", "told"),
    [(143, "", False), (143, "too large", True), (66, "", True), (137, "", True)],
    ids=["ended with nothing unsaved", "could not be saved", "nobody took them in time", "killed"],
)
def test_edits_are_told_to_be_lost_where_an_agent_did_not_end_with_all_of_them_saved(code, not_saved, told):
    editable = resolved(files={"flow.dag.yaml": b"nodes: []"})
    saved = {
        "count": 1,
        "savedTo": "edits-1",
        "savedAt": stamp(NOW - 30),
        "revision": "e1",
        **({"notSaved": not_saved} if not_saved else {}),
    }
    status = {**settled_snapshot(editable).status, "edits": saved}
    ended = pod(**EVICTED, container=waiting("", ended_reason="Error", ended_code=code))
    plan = decide(settled_snapshot(editable, status=status, pods=(ended,)))
    assert ("EditsNotSaved" in [event.reason for event in plan.events]) == told


@pytest.mark.parametrize(
    ("view", "unready", "told"),
    [
        (None, False, False),
        (None, True, True),
        (silent_agent(failures=1), False, False),
        (silent_agent(failures=3), False, True),
        (silent_agent(failures=12), False, True),
    ],
)
def test_edits_of_a_lost_node_are_told_to_be_lost_where_node_or_agent_do_not_answer(view, unready, told):
    """Otherwise the agent is asked for them while its pod exists."""
    editable = resolved(files={"flow.dag.yaml": b"nodes: []"})
    status = {**settled_snapshot(editable).status, "edits": {"savedTo": "edits-1", "savedAt": stamp(NOW - 30), "revision": "e1"}}
    why = {"disruption": "DeletionByTaintManager", "message": "Taint manager: deleting due to NoExecute taint"}
    lost = pod(deleting_since=NOW + 30, unready=unready, **why)
    plan = decide(settled_snapshot(editable, status=status, pods=(lost,), agent=view))
    assert [event.reason for event in plan.events] == ["NodeLost", *(["EditsNotSaved"] if told else [])]


def test_a_pod_that_is_deleted_is_not_told_by_its_containers_former_end():
    going = pod(deleting_since=NOW + 30, container=container(ended_reason="OOMKilled", restarts=1))
    status = status_after(settled_snapshot(pods=(going,)))
    assert verdict(status, "Ready") == ("False", "PodFailed")
    assert "was deleted" in condition(status, "Ready")["message"]


def test_a_second_incarnation_that_runs_is_the_sessions_pod():
    status = status_after(settled_snapshot(pods=()))
    running = pod(name=POD_2, uid="pod-2", created_at=NOW + 1, container=container(running_since=NOW + 2))
    after = status_after(session_snapshot(running, status=status, agent=agent(state_at=NOW + 3)), NOW + 3)
    assert verdict(after, "Ready") == ("True", "Running")
    assert (after["podName"], after["incarnation"], after["restarts"]) == (POD_2, 2, 1)


@pytest.mark.parametrize(
    ("disruption", "reason"),
    [
        ("PreemptionByScheduler", "Preempted"),
        ("EvictionByEvictionAPI", "NodeDrained"),
        ("DeletionByTaintManager", "NodeLost"),
        ("TerminationByKubelet", "Evicted"),
    ],
)
def test_a_pod_that_is_taken_away_is_told_by_its_cause(disruption, reason):
    going = pod(deleting_since=NOW + 30, disruption=disruption, message="the words of Kubernetes")
    status = status_after(settled_snapshot(pods=(going,)))
    assert verdict(status, "Ready") == ("False", reason)
    assert "the words of Kubernetes" in condition(status, "Ready")["message"]
