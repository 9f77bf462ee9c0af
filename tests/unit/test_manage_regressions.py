"""Each of these was a defect of managing a session once, found by looking for one."""

from dataclasses import replace

import pytest

from flowsession.decide.plan import Reopen, Tell
from flowsession.decide.resolution import Unresolved
from unit.builders import (
    NOW,
    agent,
    condition,
    container,
    decide,
    idle,
    pod,
    resolved,
    session_snapshot,
    session_spec,
    settled_snapshot,
    state,
    status_after,
    verdict,
)
from unit.test_idle import ready, says
from unit.world import World

PANDAS, NUMPY = resolved(), resolved(requirements="numpy\n")
AT = "2026-11-22T20:00:00Z"
NOTHING = {"requirementsText": ""}


def test_a_failing_reopen_is_not_repeated_at_once():
    view = replace(says(61.0, retired=True), failures=3, failing_since=NOW - 1, error="HTTP 500", asked_at=NOW)
    plan = decide(replace(ready(61.0, view), spec=idle(3600)))
    assert plan.call is None and plan.events == ()


def test_called_off_is_told_once():
    world = World(environment=NOTHING, idle={"timeoutSeconds": 60})
    world.settle(until_ready=True)
    world.live(58)
    while not world.agent().retired:
        world.hear(), world.work()
        world.calls.waiting and world.answer_calls()
        world.clock.now += 0.5
    world.change_session(idle={"timeoutSeconds": 3600})
    world.agent().dead = True
    world.hear()
    for _ in range(20):
        world.work(), world.answer_calls()
    assert world.told_of("EndCalledOff") <= 1
    assert sum(isinstance(c, Reopen) for c in world.calls.log) <= 2


OOM = container(running_since=NOW - 1, restarts=1, ended_reason="OOMKilled", ended_code=137)


def held(**fields):
    snapshot = session_snapshot(pod(container=OOM), **fields)
    return replace(snapshot, status=status_after(snapshot))


def test_a_look_does_not_break_the_hold_after_out_of_memory():
    snapshot = held()
    view = agent(state(packages_revision="", install=replace(state().install, state="None", packages_revision="")), restarts=1, told=None)
    assert not isinstance(decide(replace(snapshot, agent=view)).call, Tell)


def test_a_held_session_is_not_installed_again_by_a_keep_alive():
    world = World(environment={"requirementsText": "pandas\n"}, idle={"timeoutSeconds": 600})
    for _ in range(20):
        world.hear(), world.work(), world.kubelet(), world.answer_calls()
        if world.agent() and world.agent().install.state == "Running":
            break
    world.container_dies(world.api.pods[0], "OOMKilled", 137)
    world.live(5)
    assert condition(world.status(), "Ready")["reason"] == "OutOfMemory"
    world.ask("keepAlive")
    world.live(10)
    assert condition(world.status(), "Ready")["reason"] == "OutOfMemory", world.agent().install


def test_an_install_request_tries_again_what_was_held_for_memory():
    assert decide(replace(held(), requests={"install": AT})).call == Tell(PANDAS.wire, AT)


@pytest.mark.parametrize("pods", [(), (pod(deleting_since=NOW + 20),)])
def test_resumed_is_not_called_suspended_any_more(pods):
    suspended = status_after(replace(settled_snapshot(), spec=session_spec(suspend=True), generation=2))
    status = status_after(session_snapshot(*pods, status=suspended, generation=3))
    assert status["phase"] not in ("Suspended", "Suspending")
    assert verdict(status, "Ready")[1] != "Suspended"


def test_suspended_by_the_user_after_idleness_names_the_way_that_works():
    snapshot = ready(60.0, says(60.0, retired=True), action="Suspend")
    status = status_after(snapshot)
    again = session_snapshot(status=status, spec=session_spec(suspend=True, idle={"action": "Suspend", "timeoutSeconds": 60}), generation=2)
    words = condition(status_after(again), "Ready")["message"]
    assert "spec.suspend" in words and "resume-requested-at" not in words


def test_released_compute_is_not_allocated():
    status = status_after(replace(settled_snapshot(), spec=session_spec(suspend=True)))
    assert verdict(status, "ComputeAllocated")[0] != "True"


def test_a_reset_does_not_take_the_pod_of_a_session_that_cannot_start_again():
    snapshot = replace(settled_snapshot(), environment=Unresolved("FlowInvalid", "bad"), requests={"reset": AT})
    plan = decide(snapshot)
    assert plan.deletes == ()


def test_a_keep_alive_that_calls_off_the_end_says_so():
    snapshot = replace(ready(61.0, says(61.0, retired=True)), requests={"keepAlive": AT})
    assert [event.reason for event in decide(snapshot).events] == ["EndCalledOff"]


def test_keep_alive_with_action_none_shows_no_deadline_in_one_write():
    snapshot = replace(ready(10.0), spec=idle(60, "None"), requests={"keepAlive": AT}, agent=says(0.0, what="keep-alive"))
    snapshot = replace(snapshot, agent=replace(snapshot.agent, kept=AT))
    status = status_after(snapshot)
    assert "expiresAt" not in status


def test_a_reset_cuts_the_back_off_short():
    lost = status_after(session_snapshot(status=settled_snapshot().status | {"restarts": 8}))
    plan = decide(session_snapshot(status=lost, requests={"reset": AT}), NOW + 5)
    again = session_snapshot(status={**lost, **(plan.status.status if plan.status else {})}, requests={"reset": AT})
    assert plan.creates or decide(again, NOW + 5).creates


def test_a_reset_before_the_first_pod_costs_no_second_pod():
    """Met by the start, but its echo is held back as mere progress: the next decision resets the pod that has just been created."""
    world = World(environment=NOTHING)
    value = world.ask("reset")
    world.hear()
    world.settle()
    assert world.status()["handledRequests"] == {"reset": value}
    assert world.writes().count("POST Pod") == 1
