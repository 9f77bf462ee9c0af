"""Compute instances: the anchor, the instance's status, when it stops, and what sessions on it do."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowsession.api.instance import ComputeInstanceSpec
from flowsession.manifests import anchor_pod
from flowsession.model.agent_views import AgentView
from flowsession.model.plan import Delete, Probe, Reopen, Retire
from flowsession.model.views import InstanceView, Refusal
from flowsession.reconcile.instance import chain
from flowsession.reconcile.instance.snapshot import HostedSession, InstanceSnapshot, idle_at
from unit import builders
from unit.builders import NAMESPACE, NOW, applied, condition, pending_pod, pod, session_spec, settled_snapshot, stamp, verdict
from unit.builders import decide as decide_session
from unit.builders import session_snapshot as session
from unit.builders import status_after as session_status
from unit.sizing import D2, offer, view
from unit.sizing import pool as nodes

USER = "alice@example.com"
SIZE = offer(D2, nodes({"pool": "a"}), nodeSelector={"pool": "a"}, sessionsPerNode=4, pricePerHour="0.096", priorityClassName="d2")
ANCHOR = "box-anchor-01234-1"


def spec(**fields: Any) -> ComputeInstanceSpec:
    return ComputeInstanceSpec.model_validate({"user": USER, "vmSize": D2, **fields})


def snapshot(**fields: Any) -> InstanceSnapshot:
    known: dict[str, Any] = {
        "namespace": NAMESPACE,
        "name": "box",
        "uid": "0123456789",
        "resource_version": "5",
        "generation": 1,
        "deleting": False,
        "spec": spec(),
        "status": {},
        "resume": "",
        "pods": (),
        "offers": (SIZE,),
        "accounts": (),
    }
    return InstanceSnapshot(**{**known, **fields})


def held(**fields: Any):
    """The anchor, running for 101 s."""
    return pod(**{"name": ANCHOR, "vm_size": D2, "instance": "box", "size_terms": anchor_pod.terms(SIZE), **fields})


def status_after(found: InstanceSnapshot, now: float = NOW) -> dict[str, Any]:
    plan = chain.decide(found, now)
    return applied(found.status, plan.status.status if plan.status else {})


def running(*, used: float = 0.0, **fields: Any) -> InstanceSnapshot:
    """An instance that was last used `used` seconds ago, with the status written then."""
    begun = snapshot(pods=(held(),), spec=fields.get("spec", spec()))
    return snapshot(**{"pods": (held(),), "status": status_after(begun, NOW - used), **fields})


FULL = pending_pod(name=ANCHOR, node="", unscheduled_message="0/3 nodes", container=None)
NO_IMAGE = pending_pod(name=ANCHOR, container=builders.waiting("ErrImagePull", "no such image"))


# -- the reservation


def test_the_anchor_reserves_all_that_a_node_can_give():
    (create,) = chain.decide(snapshot(), NOW).creates
    manifest = create.manifest
    assert manifest["metadata"]["name"] == ANCHOR
    assert manifest["metadata"]["labels"]["flowsession.dev/instance"] == "box"
    assert "flowsession.dev/session" not in manifest["metadata"]["labels"]
    spec = manifest["spec"]
    assert spec["containers"][0]["resources"] == {
        "requests": {"cpu": "1899m", "memory": "6Gi"},
        "limits": {"cpu": "1900m", "memory": "6Gi"},
    }
    assert (spec["priorityClassName"], spec["nodeSelector"]) == ("d2", {"pool": "a"})
    assert spec["automountServiceAccountToken"] is False
    assert spec["containers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_devices_are_left_to_the_sessions():
    gpus = offer(
        D2, nodes(gpus="2", cpu="8", memory="28Gi"), capacity={"cpu": "8", "memory": "32Gi", "nvidia.com/gpu": "2"}, sessionsPerNode=2
    )
    (create,) = chain.decide(snapshot(offers=(gpus,)), NOW).creates
    assert set(create.manifest["spec"]["containers"][0]["resources"]["limits"]) == {"cpu", "memory"}
    box = InstanceView("box", USER, node="n", vm_size=D2, resources={"cpu": "8", "memory": "28Gi"})
    made = decide_session(on(box, offers=(gpus,))).creates[-1].manifest["spec"]["containers"][0]["resources"]
    assert made == {
        "requests": {"cpu": "0", "memory": "0", "nvidia.com/gpu": "1", "ephemeral-storage": "0"},
        "limits": {"cpu": "8", "memory": "28Gi", "nvidia.com/gpu": "1", "ephemeral-storage": "20Gi"},
    }


def test_a_pod_of_an_earlier_start_is_seen_out_beside_the_present_one():
    stray = held(name=f"{ANCHOR}-old", uid="stray")
    deleted = chain.decide(snapshot(pods=(stray, held())), NOW).deletes
    assert [deletion.uid for deletion in deleted] == ["stray"]


def test_a_start_is_told_once_with_its_node_and_how_long_it_took():
    found = snapshot(pods=(held(created_at=NOW - 42.0),))
    plan = chain.decide(found, NOW)
    (event,) = plan.events
    assert (event.reason, event.warning) == ("Running", False)
    assert event.message == "node worker-1 is reserved, 42 s after it was asked for"
    assert status_after(found)["nodeName"] == "worker-1"
    assert chain.decide(replace(found, status=status_after(found)), NOW + 1).events == ()


def test_a_plan_carried_out_leaves_nothing_to_do():
    found = running()
    plan = chain.decide(found, NOW)
    assert not plan.writes
    assert verdict(found.status, "Ready") == ("True", "Running")
    assert found.status["cost"]["perHour"] == "0.0960"


@pytest.mark.parametrize(
    ("fields", "reason", "says"),
    [
        ({"offers": ()}, "SizeNotFound", "no VMSize"),
        ({"quotas": (view("team", requests__cpu="1"),)}, "QuotaExceeded", "an instance needs 1899m"),
        ({"refusal": Refusal("PodRefused", "no such class", NOW, 1)}, "PodRefused", "no such class"),
        (
            {"pods": (pending_pod(name=ANCHOR, node="", unscheduled_message="0/3 nodes", container=None),)},
            "Unschedulable",
            "for the instance",
        ),
        (
            {"pods": (pending_pod(name=ANCHOR, container=builders.waiting("ErrImagePull", "no such image")),)},
            "ImagePullFailed",
            "no such image",
        ),
        ({"pods": (held(phase="Failed", reason="Evicted", message="disk"),)}, "Evicted", "reserving a node again"),
        (
            {"status": {"podName": ANCHOR}, "pods": (held(deleting_since=NOW + 9, disruption="EvictionByEvictionAPI"),)},
            "NodeDrained",
            "a drain of its node",
        ),
        ({"status": {"podName": ANCHOR}}, "PodFailed", "was deleted, or lost"),
    ],
)
def test_why_it_is_not_ready(fields, reason, says):
    status = status_after(snapshot(**fields))
    assert verdict(status, "Ready") == ("False", reason)
    assert says in condition(status, "Ready")["message"]


def test_a_lost_anchor_is_made_anew_with_back_off():
    lost = snapshot(status={"podName": ANCHOR, "incarnation": 1, "restartsInARow": 1})
    status = status_after(lost)
    assert (status["incarnation"], status["restarts"], status["restartsInARow"]) == (2, 1, 2)
    later = replace(lost, status=status)
    assert not chain.decide(later, NOW).creates
    (create,) = chain.decide(later, NOW + 2).creates
    assert create.manifest["metadata"]["name"] == "box-anchor-01234-2"


# -- stop and start


def test_the_anchor_waits_for_the_sessions_pods():
    stopping = replace(running(), spec=spec(running=False), session_pods=2, generation=2)
    assert not chain.decide(stopping, NOW).deletes
    status = status_after(stopping)
    assert (status["phase"], status["stopped"]["by"]) == ("Stopping", "User")
    assert "2 of its sessions" in condition(status, "Ready")["message"]
    free = replace(stopping, status=status, session_pods=0)
    assert chain.decide(free, NOW).deletes == (Delete("Pod", NAMESPACE, ANCHOR, "pod-1"),)
    gone = replace(free, status=status_after(free), pods=())
    assert status_after(gone)["phase"] == "Stopped"
    assert status_after(gone)["cost"]["perHour"] == "0.0000"
    assert not chain.decide(replace(gone, status=status_after(gone)), NOW).writes


@pytest.mark.parametrize("seen", [True, False], ids=["followed", "created a moment ago"])
def test_while_the_anchor_goes_nothing_more_is_written(seen):
    """Otherwise each write of a new incarnation would cause the next, until the kubelet has removed the pod."""
    stopping = replace(running(), spec=spec(running=False), generation=2, **({} if seen else {"status": {}}))
    status = status_after(stopping)
    going = replace(stopping, status=status, pods=(held(deleting_since=NOW),))
    plan = chain.decide(going, NOW)
    assert (status["incarnation"], plan.status, plan.deletes) == (2, None, ())


IDLE = {"phase": "Stopped", "stopped": {"by": "Idle", "at": stamp(NOW)}, "observedGeneration": 1, "incarnation": 2}


@pytest.mark.parametrize(
    ("fields", "starts"),
    [
        ({}, False),
        ({"resume": stamp(NOW)}, True),
        ({"resume": "please"}, False),
        ({"generation": 2}, True),
        ({"generation": 2, "spec": spec(running=False)}, False),
    ],
    ids=["nothing", "request", "junk", "changed spec", "stopped by its owner too"],
)
def test_what_starts_an_instance_that_idleness_stopped(fields, starts):
    found = snapshot(status=IDLE, **fields)
    assert ("stopped" not in status_after(found)) is starts
    then = replace(found, status=status_after(found))
    assert bool(chain.decide(then, NOW).creates or chain.decide(found, NOW).creates) is starts


# -- idleness


def hosted_session(*, idle: float = 0.0, state_at: float = NOW, **fields: Any) -> HostedSession:
    """A session with a pod, last used `idle` seconds ago, and its agent's answer."""
    said = builders.state(idle_seconds=idle, busy=fields.pop("busy", False), retired=fields.pop("retired", False))
    agent = AgentView(0, state=said, state_at=state_at, asked_at=state_at, failures=fields.pop("failures", 0))
    return HostedSession(**{"name": "ada", "pod": pod(), "agent": agent, "began": NOW - 9000, "worked": NOW - idle, **fields})


@pytest.mark.parametrize(
    ("hosted", "stops"),
    [
        ((), True),
        ((hosted_session(idle=4000, retired=True),), True),
        ((hosted_session(idle=4000, retired=True, state_at=NOW - 6),), False),
        ((hosted_session(idle=4000, retired=True, state_at=NOW + 60),), False),
        ((hosted_session(idle=4000),), False),
        ((hosted_session(idle=4000, retired=True), hosted_session(idle=4000)), False),
        ((hosted_session(idle=100, retired=True),), False),
        ((hosted_session(idle=4000, agent=None),), False),
        ((hosted_session(idle=4000, pod=None, agent=None, began=NOW - 10, waits=True),), False),
        ((hosted_session(idle=4000, pod=None, agent=None),), True),
        ((hosted_session(idle=4000, pod=pending_pod(), agent=None),), True),
        ((hosted_session(idle=4000, pod=pending_pod(), agent=None, starts_until=NOW + 60),), False),
    ],
    ids=[
        "no session", "retired", "an old word", "a word from the future", "not retired", "one not retired", "used lately", "not asked",
        "about to start", "suspended", "broken for long", "starting",
    ],
)  # fmt: skip
def test_it_stops_only_when_every_door_is_closed(hosted, stops):
    found = running(used=3700, hosted=hosted)
    plan, status = chain.decide(found, NOW), status_after(found)
    assert ("stopped" in status) is stops
    if stops and hosted and hosted[0].agent:
        assert plan.status.valid_until == NOW + 5, "it acts on a word that ages"
    assert not plan.deletes, "the sessions leave first"


@pytest.mark.parametrize(
    ("found", "idle"),
    [
        (hosted_session(pod=None, agent=None), True),
        (hosted_session(pod=pending_pod(), agent=None), True),
        (hosted_session(agent=None), False),
        (hosted_session(), True),
        (hosted_session(busy=True), False),
        (hosted_session(failures=1), False),
        (hosted_session(state_at=NOW - 11), False),
        (hosted_session(state_at=NOW - 10), True),
        (hosted_session(state_at=NOW + 60), False),
    ],
    ids=[
        "no pod",
        "no pod that runs",
        "not asked",
        "without work",
        "at work",
        "silent",
        "asked before",
        "asked just then",
        "from the future",
    ],
)
def test_who_counts_as_idle_since_a_moment(found, idle):
    assert found.is_idle_since(NOW - 10, NOW) is idle


def test_people_are_warned_before():
    soon = running(used=3400)
    plan = chain.decide(soon, NOW)
    assert [(event.reason, event.warning) for event in plan.events] == [("IdleSoon", True)]
    told = replace(soon, status=status_after(soon))
    assert not chain.decide(told, NOW + 1).writes
    assert not chain.decide(told, NOW + 1).events


@pytest.mark.parametrize("idle", [{"action": "None"}, {"timeoutSeconds": 100000}])
def test_others_are_left_alone(idle):
    assert "stopped" not in status_after(running(used=90000, spec=spec(idle=idle)))


def test_counts_alone_are_written_every_ten_seconds():
    busy = running(hosted=(hosted_session(),))
    busy = replace(busy, written_at=NOW - 4)
    plan = chain.decide(busy, NOW)
    assert plan.status is None
    assert plan.look_again_at <= NOW + 6
    assert chain.decide(busy, NOW + 6).status is not None


# -- sessions on it


def box(**fields: Any) -> InstanceView:
    known: dict[str, Any] = {"name": "box", "user": USER, "node": "worker-1", "vm_size": D2, "resources": {"cpu": "1900m", "memory": "6Gi"}}
    return InstanceView(**{**known, **fields})


ON_BOX = session_spec(compute={"type": "Instance", "instanceRef": {"name": "box"}}, idle={"timeoutSeconds": 36000})
BESIDE = {"instance": "box", "vm_size": D2, "size_terms": "worker-1"}


def on(view: InstanceView | None, *pods: Any, **fields: Any):
    return session(*pods, instances={view.name: view} if view else {}, spec=ON_BOX, **{"offers": (SIZE,), **fields})


@pytest.mark.parametrize(
    ("found", "reason", "says"),
    [
        (None, "InstanceNotFound", "there is no ComputeInstance 'box'"),
        (box(user="bob@example.com"), "InstanceOfAnotherUser", "is bob@example.com's"),
        (box(stopped="User"), "InstanceStopped", "spec.running"),
        (box(stopped="Idle"), "InstanceStopped", "resume-requested-at"),
        (box(node="", message="no node has room"), "InstanceStarting", "no node has room"),
    ],
)
def test_a_session_without_its_instance_waits(found, reason, says):
    waiting = on(found)
    plan, status = decide_session(waiting), session_status(waiting)
    assert not plan.creates
    assert verdict(status, "ComputeAllocated") == ("False", reason)
    assert verdict(status, "Ready") == ("False", reason)
    assert says in condition(status, "Ready")["message"]
    assert not decide_session(replace(waiting, status=status)).writes
    assert not [event for event in plan.events if reason in ("InstanceStopped", "InstanceStarting")], "waiting for oneself is no fault"


@pytest.mark.parametrize(
    ("others", "advice"),
    [
        (("other", "boxx"), "name one of yours: boxx, or"),
        (("zebra", "lynx", "emu", "yak"), "name one of yours: emu, lynx, yak, or"),
        ((), f"{USER} has none there: create one, or"),
    ],
    ids=["a near name", "no near name", "none"],
)
def test_who_names_no_instance_is_told_of_ones_own(others, advice):
    assert advice in condition(session_status(on(None, other_instances=others)), "Ready")["message"]


def settled(view: InstanceView | None, **fields: Any):
    return settled_snapshot(
        **{"pods": (pod(**BESIDE),), "spec": ON_BOX, "instances": {"box": view} if view else {}, "offers": (SIZE,), **fields}
    )


@pytest.mark.parametrize(
    ("found", "leaves"),
    [
        (box(), False),
        (box(node=""), False),
        (box(node="worker-2"), True),
        (box(stopped="Idle"), True),
        (box(user="bob@example.com"), True),
        (None, True),
    ],
    ids=["as before", "anchor lost", "anchor elsewhere", "stopped", "another user's", "gone"],
)
def test_when_a_session_leaves_its_place(found, leaves):
    assert bool(decide_session(settled(found)).deletes) is leaves


@pytest.mark.parametrize("action", ["Delete", "None"])
def test_a_session_is_asked_first_and_closes_its_door_only_when_all_are_quiet(action):
    due = NOW - 1
    spec = ON_BOX.model_copy(update={"idle": builders.idle(36000, action).idle})
    known = {"known_config_maps": builders._AnyPackages(), "spec": spec, "ready_at": NOW - 5000}
    idle = builders.agent(builders.state(idle_seconds=4999.0), asked_at=NOW - 4000, state_at=NOW - 4000)
    asked = settled(box(idle_seconds=3600, idle_at=due), agent=idle, **known)
    assert isinstance(decide_session(asked).call, Probe)
    fresh = replace(idle, asked_at=NOW - 0.5, state_at=NOW - 0.5)
    waits = replace(asked, agent=fresh)
    assert decide_session(waits).call is None
    quiet = replace(waits, instances={"box": box(idle_seconds=3600, idle_at=due, all_idle=True)})
    assert decide_session(quiet).call is None, "a word of a moment ago is not doubted yet"
    assert decide_session(quiet, NOW + 1).call == Retire(3600.0)
    assert decide_session(replace(quiet, server_silent=True), NOW + 1).call is None, "the API server, which could end the instance, is away"
    closed = replace(fresh, state=builders.state(idle_seconds=5000.0, retired=True))
    assert decide_session(replace(quiet, agent=closed)).call is None, "it stays closed while the instance makes up its mind"
    assert isinstance(decide_session(replace(waits, agent=closed)).call, Reopen), "somebody else has come to work"


def test_quiet_time_counts_from_the_last_work_of_anybody():
    status = {"readyAt": stamp(NOW - 5000), "lastActivityAt": stamp(NOW - 4000)}
    assert idle_at(spec(), status, (), NOW) == NOW - 400
    assert idle_at(spec(), status, (hosted_session(idle=100), hosted_session(idle=300)), NOW) == NOW + 3500
    assert idle_at(spec(), status, (hosted_session(worked=NOW + 900),), NOW) == NOW - 400, "a clock that was wrong"
    assert idle_at(spec(), {}, (), NOW) is None


def test_an_anchor_that_no_node_takes_is_replaced_when_its_size_was_mended():
    full = replace(FULL, vm_size=D2, size_terms=anchor_pod.terms(SIZE))
    waiting = snapshot(pods=(full,), status={"podName": ANCHOR, "incarnation": 1})
    assert not chain.decide(waiting, NOW).deletes
    mended = replace(waiting, offers=(offer(D2, nodeSelector={"pool": "b"}),))
    assert chain.decide(mended, NOW).deletes == (Delete("Pod", NAMESPACE, ANCHOR, "pod-1"),)
    assert status_after(mended)["incarnation"] == 2
    taken = replace(mended, pods=(replace(full, node="worker-1"),))
    assert not chain.decide(taken, NOW).deletes, "one that a node took is left alone"


PODS = [(), (held(),), (FULL,), (NO_IMAGE,), (held(phase="Failed"),), (held(deleting_since=NOW - 5),), (held(deleting_since=NOW - 100),)]
HOSTED = [
    (),
    (hosted_session(idle=10),),
    (hosted_session(idle=9000, retired=True),),
    (hosted_session(idle=9000, agent=None),),
    (hosted_session(pod=None, agent=None, waits=True),),
]
STATUSES = [
    {},
    IDLE,
    {"podName": ANCHOR},
    running(used=9000).status,
    {"podName": ANCHOR, "incarnation": 2},
    {"stopped": {"by": "User", "at": stamp(NOW)}},
]


@given(
    pods=st.sampled_from(PODS),
    hosted=st.sampled_from(HOSTED),
    status=st.sampled_from(STATUSES),
    session_pods=st.integers(0, 1),
    runs=st.booleans(),
    resume=st.sampled_from(["", stamp(NOW), "junk"]),
    offers=st.sampled_from([(), (SIZE,)]),
    generation=st.integers(1, 2),
    action=st.sampled_from(["Stop", "None"]),
)
def test_whatever_there_is_a_plan_carried_out_leaves_nothing_to_say(
    pods, hosted, status, session_pods, runs, resume, offers, generation, action
):
    found = snapshot(
        pods=pods,
        hosted=hosted,
        status=status,
        session_pods=session_pods,
        resume=resume,
        offers=offers,
        generation=generation,
        spec=spec(running=runs, idle={"action": action}),
    )
    plan = chain.decide(found, NOW)
    after = replace(found, status=status_after(found))
    assert verdict(after.status, "Ready")[0] != "-" or plan.creates or pods
    assert not (plan.creates and [one for one in pods if one.deleting_since is None and one.name == ANCHOR and one.phase == "Running"])
    assert not (plan.deletes and session_pods and not runs), "the reservation is held for those who are still there"
    again = chain.decide(after, NOW)
    if not (plan.creates or plan.deletes or "incarnation" in (plan.status.status if plan.status else {})) and plan.status:
        stopped_now = "stopped" in plan.status.status  # the next decision acts on it
        assert again.status is None or stopped_now, (plan, again)
        assert not again.events or stopped_now


def test_counts_alone_are_written_at_most_every_ten_seconds():
    counted = {**running().status, "sessions": 7}
    plan = chain.decide(snapshot(pods=(held(),), status=counted, written_at=NOW - 1), NOW)
    assert (plan.status, plan.look_again_at) == (None, NOW - 1 + chain.COUNT_SECONDS)
    plan = chain.decide(snapshot(pods=(held(),), status=counted, written_at=NOW - chain.COUNT_SECONDS), NOW)
    assert set(plan.status.status) == {"sessions"}
    plan = chain.decide(snapshot(pods=(held(),), status=counted, written_at=NOW - 1, generation=2), NOW)
    assert "conditions" in plan.status.status, "what is more than a count is written at once"
