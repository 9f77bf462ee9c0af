"""Sessions suspended by their user, by idleness or by their maximum lifetime, then resumed; and resets."""

from dataclasses import replace

import pytest

from flowsession.model import times
from flowsession.model.plan import Delete, Plan
from flowsession.model.resolved import Unresolved
from flowsession.reconcile.restarts import FORCE_AFTER
from unit.builders import (
    NAMESPACE,
    NOW,
    POD,
    agent,
    applied,
    condition,
    decide,
    idle,
    installing,
    pending_pod,
    pod,
    resolved,
    session_snapshot,
    session_spec,
    settled_snapshot,
    silent_agent,
    stamp,
    state,
    status_after,
    verdict,
)
from unit.reconcile.session.test_idle import TIMEOUT, ready, says
from unit.world import World

AT = "2026-11-22T20:00:00Z"
OFF = session_spec(suspend=True)
GONE = (Delete("Pod", NAMESPACE, POD, "pod-1"),)
OF_THE_POD = {"podName", "nodeName", "startedAt", "readyAt", "expiresAt", "lastActivity", "packagesRevision", "stages", "containerRestarts"}
NOTHING = {"requirementsText": ""}
PANDAS = {"requirementsText": "pandas\n"}


def suspended(*pods, by="User", **fields):
    """A session that was suspended before, with the status that the decisions wrote."""
    match by:
        case "User":
            before = replace(settled_snapshot(), spec=OFF, generation=2)
        case "Idle":
            before = replace(ready(60.0, says(60.0, retired=True), action="Suspend"), generation=2)
        case _:
            status = settled_snapshot().status | {"activatedAt": stamp(NOW - 100)}
            before = settled_snapshot(status=status, spec=session_spec(maxLifetimeSeconds=100), generation=2)
    status = status_after(before)
    assert status["suspended"]["by"] == by
    return session_snapshot(*pods, **{"status": status, "spec": before.spec, "generation": 2, **fields})


def suspended_without_pod(**fields):
    """The same session after its pod is gone and the status says so."""
    snapshot = suspended(**fields)
    return replace(snapshot, status=status_after(snapshot))


# -- by the user


@pytest.mark.parametrize(
    "fields",
    [
        {"pods": (pod(),), "agent": agent()},
        {"pods": (pod(),), "agent": agent(installing())},
        {"pods": (pod(),), "agent": silent_agent(failures=9)},
        {"pods": (pending_pod(),)},
        {"pods": (pod(phase="Failed"),)},
    ],
    ids=["serving", "installing", "unreachable", "starting", "failed"],
)
@pytest.mark.parametrize("environment", [resolved(), Unresolved("FlowInvalid", "bad"), None], ids=["resolved", "broken", "not known yet"])
def test_suspend_releases_the_pod_whatever_the_session_is_doing(fields, environment):
    snapshot = session_snapshot(*fields["pods"], agent=fields.get("agent"), environment=environment, spec=OFF)
    plan, status = decide(snapshot), status_after(snapshot)
    assert plan.deletes == GONE
    assert (plan.call, plan.creates) == (None, ())
    assert (status["phase"], status["suspended"]) == ("Suspending", {"by": "User", "at": stamp(NOW)})
    assert verdict(status, "Ready") == ("False", "Suspended")
    assert [(event.warning, event.reason) for event in plan.events] == [(False, "Suspended")]


def test_what_was_said_of_the_pod_goes_and_the_rest_stays():
    before = settled_snapshot(status=settled_snapshot().status | {"restarts": 3, "handledRequests": {"reset": AT}})
    status = status_after(replace(before, spec=OFF))
    assert OF_THE_POD & set(status) == set()
    assert (status["restarts"], status["handledRequests"], status["incarnation"]) == (3, {"reset": AT}, 2)
    assert "activatedAt" not in status


def test_it_is_suspended_when_the_pod_is_gone_and_then_at_rest():
    ending = suspended(pod(deleting_since=NOW + 30))
    status = status_after(ending)
    assert (status["phase"], decide(ending).deletes, decide(ending).events) == ("Suspending", (), ())
    gone = replace(ending, pods=(), status=status)
    status = status_after(gone)
    assert (status["phase"], verdict(status, "Ready")) == ("Suspended", ("False", "Suspended"))
    assert "spec.suspend; set it to false" in condition(status, "Ready")["message"]
    assert decide(replace(gone, status=status), NOW + 10_000) == Plan()


def test_a_pod_whose_node_is_gone_is_removed_by_force():
    stuck = suspended(pod(deleting_since=NOW))
    assert decide(stuck, NOW + 1).look_again_at == NOW + FORCE_AFTER
    (deletion,) = decide(stuck, NOW + FORCE_AFTER).deletes
    assert deletion.grace_seconds == 0


def test_a_pod_that_an_earlier_operator_still_created_is_removed():
    assert decide(replace(suspended_without_pod(), pods=(pod(name=f"{POD[:-1]}2"),))).deletes == (
        Delete("Pod", NAMESPACE, f"{POD[:-1]}2", "pod-1"),
    )


def test_suspended_before_the_first_pod_there_never_is_one():
    snapshot = session_snapshot(spec=OFF)
    plan, status = decide(snapshot), status_after(snapshot)
    assert (plan.creates, plan.deletes, status["phase"]) == ((), (), "Suspended")
    assert "incarnation" not in status
    assert decide(replace(snapshot, status=status)) == Plan()


@pytest.mark.parametrize("fields", [{"env": [{"name": "A", "value": "b"}]}, {"idle": {"timeoutSeconds": 5}}, {"maxLifetimeSeconds": 10}])
def test_other_changes_of_spec_do_not_start_what_the_user_has_suspended(fields):
    changed = replace(suspended_without_pod(), spec=session_spec(suspend=True, **fields), generation=3)
    assert decide(changed).creates == ()
    assert status_after(changed)["phase"] == "Suspended"
    assert decide(changed).events == ()


@pytest.mark.parametrize("change", [{"agent": None}, {"environment": resolved(requirements="numpy\n")}, {"environment": None}])
@pytest.mark.parametrize("by", ["User", "Idle", "Lifetime"])
def test_a_suspended_session_is_at_rest_whatever_becomes_of_its_environment(by, change):
    assert decide(replace(suspended_without_pod(by=by), **change), NOW + 100_000) == Plan()


# -- resumed


def test_unsuspended_it_starts_anew_as_another_incarnation():
    plan = decide(replace(suspended_without_pod(), spec=session_spec(), generation=3))
    (create,) = plan.creates
    assert create.manifest["metadata"]["name"] == f"{POD[:-1]}2"
    assert plan.status.status["suspended"] is None
    assert plan.status.status["activatedAt"] == stamp(NOW)
    assert [event.reason for event in plan.events] == ["Resumed"]


def test_it_waits_for_the_former_pod_to_end():
    resumed = suspended(pod(deleting_since=NOW + 30), spec=session_spec(), generation=3)
    plan = decide(resumed)
    assert (plan.creates, plan.deletes) == ((), ())
    later = replace(resumed, status=status_after(resumed))
    assert decide(later).creates == ()
    assert [create.manifest["kind"] for create in decide(replace(later, pods=())).creates] == ["Pod"]


@pytest.mark.parametrize("by", ["Idle", "Lifetime"])
@pytest.mark.parametrize("what", ["resume", "reset"])
def test_a_request_brings_back_what_was_suspended_for_the_user(by, what):
    snapshot = replace(suspended_without_pod(by=by), requests={what: AT})
    plan, status = decide(snapshot), status_after(snapshot)
    assert len(plan.creates) == 1
    assert "suspended" not in status
    assert status["handledRequests"] == {what: AT}
    assert [event.reason for event in plan.events] == ["Resumed"]


@pytest.mark.parametrize("by", ["Idle", "Lifetime"])
@pytest.mark.parametrize("spec", [idle(3600), session_spec(env=[{"name": "A"}]), session_spec(onChange="Wait"), session_spec()])
def test_any_change_of_spec_brings_it_back(by, spec):
    assert len(decide(replace(suspended_without_pod(by=by), spec=spec, generation=3)).creates) == 1


@pytest.mark.parametrize("by", ["Idle", "Lifetime"])
def test_a_request_that_was_handled_before_does_not(by):
    snapshot = suspended_without_pod(by=by)
    assert decide(replace(snapshot, status=snapshot.status | {"handledRequests": {"resume": AT}}, requests={"resume": AT})) == Plan()


@pytest.mark.parametrize("by", ["Idle", "Lifetime"])
def test_suspended_by_the_user_as_well_it_takes_the_users_word_to_start(by):
    both = replace(suspended_without_pod(by=by), spec=OFF, generation=3)
    assert decide(both).creates == ()
    status = status_after(both)
    assert decide(replace(both, status=status, requests={"resume": AT})).creates == ()
    assert len(decide(replace(both, status=status, spec=session_spec(), generation=4)).creates) == 1


def test_a_resumed_session_waits_for_a_usable_environment():
    plan = decide(replace(suspended_without_pod(), spec=session_spec(), generation=3, environment=Unresolved("FlowInvalid", "bad")))
    assert plan.creates == ()
    status = applied(suspended_without_pod().status, plan.status.status)
    assert (status["phase"], verdict(status, "Ready")) == ("Pending", ("False", "EnvironmentNotReady"))


# -- by idleness


def test_idleness_suspends_in_the_same_two_steps_and_keeps_the_object():
    snapshot = ready(60.0, says(60.0, retired=True), action="Suspend")
    plan, status = decide(snapshot), status_after(snapshot)
    assert plan.deletes and {deletion.kind for deletion in plan.deletes} == {"Pod"}
    assert plan.status.resource_version == "30"
    assert (status["suspended"], status["phase"]) == ({"by": "Idle", "at": stamp(NOW)}, "Suspending")
    assert [event.reason for event in plan.events] == ["Idle", "Suspended"]
    assert "is being suspended" in plan.events[0].message
    assert "resume-requested-at" in condition(status_after(session_snapshot(status=status, spec=snapshot.spec)), "Ready")["message"]


@pytest.mark.parametrize("view", [None, says(60.0), says(60.0, age=6.0, retired=True), says(0.0, busy=True)])
def test_never_without_a_fresh_word(view):
    plan = decide(ready(60.0, view, action="Suspend"))
    assert plan.deletes == ()
    assert "suspended" not in (plan.status.status if plan.status else {})


def test_what_can_not_be_reached_for_hours_is_suspended_too_where_that_is_the_action():
    snapshot = ready(5000.0, silent_agent(failures=20, since=3600), action="Suspend")
    plan, status = decide(snapshot), status_after(snapshot)
    assert (plan.events[0].warning, plan.events[0].reason) == (True, "ProbeFailed")
    assert {deletion.kind for deletion in plan.deletes} == {"Pod"}
    assert status["suspended"]["by"] == "Idle"


def test_the_warning_says_suspended():
    (event,) = decide(ready(55.0, says(55.0), action="Suspend")).events
    assert "the session is suspended at" in event.message


# -- by lifetime


def lived(seconds, *, limit=100, **fields):
    status = settled_snapshot().status | {"activatedAt": stamp(NOW - seconds)}
    return settled_snapshot(status=status, spec=session_spec(maxLifetimeSeconds=limit), **fields)


def test_the_lifetime_counts_whether_it_is_used_or_not():
    busy = says(0.0, busy=True)
    assert decide(lived(99, agent=busy)).deletes == ()
    assert decide(lived(99)).look_again_at == NOW + 1
    plan, status = decide(lived(100, agent=busy)), status_after(lived(100, agent=busy))
    assert plan.deletes == GONE
    assert (status["suspended"]["by"], status["phase"]) == ("Lifetime", "Suspending")
    at_rest = status_after(session_snapshot(status=status, spec=session_spec(maxLifetimeSeconds=100)))
    assert "100 s after its start (maxLifetimeSeconds)" in condition(at_rest, "Ready")["message"]


@pytest.mark.parametrize("limit", [0, 101, 100_000])
def test_without_a_lifetime_or_before_its_end_it_lives(limit):
    assert decide(lived(100, limit=limit)).deletes == ()


def test_the_lifetime_is_no_secret_of_one_pod():
    """The pod that replaces a lost one continues the same lifetime."""
    status = status_after(lived(50, pods=()))
    assert status["activatedAt"] == stamp(NOW - 50)


def test_resumed_after_its_lifetime_it_gets_another_one():
    plan = decide(replace(suspended_without_pod(by="Lifetime"), requests={"resume": AT}))
    assert plan.deletes == ()
    assert plan.look_again_at <= NOW + 100
    assert times.parse(plan.status.status["activatedAt"]) == NOW


def test_a_session_counts_its_life_from_its_start():
    snapshot = session_snapshot(pod(), agent=agent())
    assert status_after(snapshot)["activatedAt"] == stamp(NOW - 101)


# -- reset


@pytest.mark.parametrize(
    "fields",
    [
        {"pods": (pod(),), "agent": agent()},
        {"pods": (pod(),), "agent": agent(installing())},
        {"pods": (pod(),), "agent": agent(state(install=replace(state().install, state="Failed", message="no")))},
        {"pods": (pod(),), "agent": silent_agent(failures=9, since=60)},
        {"pods": (pending_pod(),)},
        {"pods": (pod(phase="Failed"),)},
    ],
    ids=["serving", "installing", "install failed", "unreachable", "starting", "failed"],
)
def test_a_reset_replaces_the_pod_once(fields):
    snapshot = settled_snapshot(pods=fields["pods"], agent=fields.get("agent"), requests={"reset": AT})
    plan, status = decide(snapshot), status_after(snapshot)
    assert plan.deletes == GONE
    assert (plan.creates, plan.call) == ((), None)
    assert (status["incarnation"], status["handledRequests"], status["activatedAt"]) == (2, {"reset": AT}, stamp(NOW))
    assert verdict(status, "Ready") == ("False", "Starting")
    assert [event.reason for event in plan.events] == ["Reset"]
    ending = replace(snapshot, status=status, pods=(replace(fields["pods"][0], deleting_since=NOW + 30),))
    assert (decide(ending).creates, decide(ending).deletes, decide(ending).writes) == ((), (), False)
    (create,) = decide(replace(ending, pods=())).creates
    assert create.manifest["metadata"]["name"] == f"{POD[:-1]}2"


def test_a_reset_before_there_is_a_pod_is_met_by_the_start():
    plan = decide(session_snapshot(requests={"reset": AT}))
    assert len(plan.creates) == 1
    assert not [event for event in plan.events if event.reason == "Reset"]


def test_a_reset_takes_up_another_image():
    snapshot = replace(settled_snapshot(), environment=resolved(baseImage="python:3.13"), requests={"reset": AT})
    status = status_after(snapshot)
    created = decide(session_snapshot(status=status, environment=snapshot.environment, requests={"reset": AT})).creates
    assert created[-1].manifest["spec"]["containers"][0]["image"] == "python:3.13"


def test_a_reset_is_no_restart_after_a_loss():
    snapshot = settled_snapshot(status=settled_snapshot().status | {"restarts": 4}, requests={"reset": AT})
    status = status_after(snapshot)
    assert status["restarts"] == 4
    assert len(decide(session_snapshot(status=status, requests={"reset": AT})).creates) == 1  # at once, without a back-off


def test_what_is_deleted_is_not_reset():
    assert decide(settled_snapshot(deleting=True, requests={"reset": AT}, spec=OFF)) == Plan()


# -- in a cluster


@pytest.mark.parametrize("moment", range(8))
def test_a_reset_at_any_moment_ends_in_one_fresh_pod(moment):
    """The moments include the start, the install and another reset."""
    world = World(environment=PANDAS, idle={"action": "None"})
    for _ in range(moment):
        world.hear(), world.work(), world.kubelet(), world.answer_calls()
    before = {body["metadata"]["name"] for body in world.api.pods}
    world.ask("reset")
    world.hear(), world.work()
    value = world.ask("reset")
    world.settle()
    assert world.is_ready()
    assert len(world.api.pods) == 1
    assert {body["metadata"]["name"] for body in world.api.pods}.isdisjoint(before)
    assert world.status()["handledRequests"]["reset"] == value


@pytest.mark.parametrize("slow", [False, True], ids=["the pod ends at once", "the pod takes its time"])
@pytest.mark.parametrize("moment", range(6))
def test_suspended_and_resumed_at_any_moment_it_is_ready_again_with_one_pod(moment, slow):
    world = World(environment=PANDAS, idle={"action": "None"})
    for _ in range(moment):
        world.hear(), world.work(), world.kubelet(), world.answer_calls()
    world.change_session(suspend=True)
    world.hear(), world.work()
    if not slow:
        world.settle()
        assert (world.status()["phase"], world.api.pods) == ("Suspended", [])
    world.change_session(suspend=False)
    world.settle()
    assert world.is_ready()
    assert len(world.api.pods) == 1
    assert "suspended" not in world.status()


@pytest.mark.parametrize("action", ["suspend", "reset", "lifetime"])
def test_an_operator_that_is_killed_after_any_step_writes_nothing_twice(action):
    """The pod is deleted once, and each Event is written once."""
    world = World(environment=NOTHING, idle={"action": "None"}, maxLifetimeSeconds=500 if action == "lifetime" else 0)
    world.settle(until_ready=True)
    world.live(2)
    before = len(world.writes())
    match action:
        case "suspend":
            world.change_session(suspend=True)
        case "reset":
            world.ask("reset")
        case _:
            world.clock.now += 600
    for _ in range(6):
        world.restart_operator()
        world.reconcile()
        world.restart_operator()
    world.settle()
    writes = world.writes()[before:]
    assert writes.count("DELETE Pod") == 1
    assert writes.count("POST Pod") == (1 if action == "reset" else 0)
    assert world.told_of("Reset") + world.told_of("Suspended") == 1
    assert world.is_ready() if action == "reset" else world.status()["phase"] == "Suspended"
    settled = len(world.writes())
    world.restart_operator()
    world.live(30)
    assert len(world.writes()) == settled


def test_a_rival_write_between_the_word_and_the_suspension_is_looked_at_first():
    world = World(environment=NOTHING, idle={"timeoutSeconds": 60, "action": "Suspend"})
    world.settle(until_ready=True)
    while not world.agent().retired:
        world.clock.now = max(world.clock() + 0.05, min(world.todo.due, world.clock() + 1))
        world.work(), world.answer_calls()
    world.change_session(idle={"timeoutSeconds": 3600, "action": "Suspend"})  # its watch event has not arrived yet
    world.work()
    world.live(5)
    assert world.is_ready()
    assert not world.agent().retired
    assert "DELETE Pod" not in world.writes()
    assert world.told_of("EndCalledOff") == 1


def test_idle_suspend_and_resume_round_trip():
    world = World(environment=PANDAS, idle={"timeoutSeconds": TIMEOUT, "action": "Suspend"})
    for incarnation in (1, 2, 3):
        world.settle(until_ready=True)
        assert world.status()["incarnation"] == incarnation
        world.live(2 * TIMEOUT + 5)
        assert (world.status()["phase"], world.status()["suspended"]["by"], world.api.pods) == ("Suspended", "Idle", [])
        world.ask("resume")
    assert len(world.ends) == 3
