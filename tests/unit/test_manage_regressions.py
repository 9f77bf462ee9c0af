"""Each of these was once a defect of managing a session, found by looking for one."""

from dataclasses import replace

import pytest

from flowsession.model.plan import Deliver, Reopen
from flowsession.model.resolved import Unresolved
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
    silent_agent,
    state,
    status_after,
    verdict,
)
from unit.reconcile.session.test_idle import ready, says
from unit.world import World

PANDAS, NUMPY = resolved(), resolved(requirements="numpy\n")
AT = "2026-11-22T20:00:00Z"
NOTHING = {"requirementsText": ""}


def test_a_failing_reopen_is_not_repeated_at_once():
    view = replace(says(61.0, retired=True), failures=3, failing_since=NOW - 1, error="HTTP 500", asked_at=NOW)
    plan = decide(replace(ready(61.0, view), spec=idle(3600)))
    assert plan.call is None
    assert [event.reason for event in plan.events] == ["AgentUnreachable"], "that it stays is told when it is so"


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
    view = agent(
        state(packages_revision="", install=replace(state().install, state="None", packages_revision="")), restarts=1, delivered=None
    )
    assert not isinstance(decide(replace(snapshot, agent=view)).call, Deliver)


def test_a_held_session_is_not_installed_again_by_a_keep_alive():
    world = World(environment={"requirementsText": "pandas\n"}, idle={"timeoutSeconds": 600})
    for _ in range(20):
        world.hear(), world.work(), world.kubelet(), world.answer_calls()
        if world.agent() and world.agent().install["state"] == "Running":
            break
    world.container_dies(world.api.pods[0], "OOMKilled", 137)
    world.live(5)
    assert condition(world.status(), "Ready")["reason"] == "OutOfMemory"
    world.ask("keepAlive")
    world.live(10)
    assert condition(world.status(), "Ready")["reason"] == "OutOfMemory", world.agent().install


def test_an_install_request_tries_again_what_was_held_for_memory():
    assert decide(replace(held(), requests={"install": AT})).call == Deliver(PANDAS.wire, AT)


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
    snapshot = replace(snapshot, agent=replace(snapshot.agent, kept_alive=AT))
    status = status_after(snapshot)
    assert "expiresAt" not in status


def test_a_reset_cuts_the_back_off_short():
    lost = status_after(session_snapshot(status=settled_snapshot().status | {"restarts": 8}))
    plan = decide(session_snapshot(status=lost, requests={"reset": AT}), NOW + 5)
    again = session_snapshot(status={**lost, **(plan.status.status if plan.status else {})}, requests={"reset": AT})
    assert plan.creates or decide(again, NOW + 5).creates


def test_a_reset_before_the_first_pod_costs_no_second_pod():
    """Starting fulfills the request, but recording that was held back as mere progress: the next decision reset the pod just created."""
    world = World(environment=NOTHING)
    value = world.ask("reset")
    world.hear()
    world.settle()
    assert world.status()["handledRequests"] == {"reset": value}
    assert world.writes().count("POST Pod") == 1


def test_an_install_request_tries_again_what_the_agent_refused():
    told = (PANDAS.packages_revision, PANDAS.flow_revision)
    view = silent_agent(refused="files: bad", delivered=told, asked_at=NOW - 60)
    plan = decide(session_snapshot(pod(), agent=view, requests={"install": AT}))
    assert plan.call is not None or plan.status.status.get("handledRequests") == {"install": AT}


def test_a_session_that_never_answered_does_not_live_for_ever():
    view = silent_agent(failures=100, since=20_000, asked_at=NOW - 10)
    old = pod(created_at=NOW - 21_000, container=container(running_since=NOW - 21_000))
    assert decide(session_snapshot(old, agent=view, spec=idle(60))).deletes


def test_a_session_whose_agent_refused_its_environment_ends_when_idle():
    told = (PANDAS.packages_revision, PANDAS.flow_revision)
    view = replace(says(70.0, retired=True), refused="files: bad", delivered=told)
    old = pod(created_at=NOW - 101, container=container(running_since=NOW - 100))
    snapshot = session_snapshot(old, agent=view, spec=idle(60))
    assert [event.reason for event in decide(snapshot).events] == ["AgentRefused", "IdleSoon"]
    later = replace(snapshot, status=status_after(snapshot), agent=replace(view, state_at=NOW + 6.0))
    assert [deletion.kind for deletion in decide(later, NOW + 6.0).deletes] == ["ComputeSession"]


def test_the_warning_follows_the_deadline():
    asked = ready(55.0, says(55.0))
    status = status_after(asked)
    for spec in (idle(58), idle(60, "Suspend")):
        changed = replace(asked, status=status, spec=spec, generation=2)
        said = condition(status_after(changed), "Active")["message"]
        assert said != condition(status, "Active")["message"], spec.idle


def test_wait_an_install_that_failed_is_told_the_same_after_a_restart_of_the_operator():
    wait = session_spec(onChange="Wait")
    failed = agent(state(PANDAS, install=replace(state(NUMPY).install, state="Failed", message="no")), NUMPY, delivered_request=AT)
    snapshot = replace(settled_snapshot(PANDAS, spec=wait), environment=NUMPY, agent=failed, requests={"install": AT})
    for _ in range(2):
        snapshot = replace(snapshot, status=status_after(snapshot))
    assert not decide(snapshot).writes
    assert not decide(replace(snapshot, agent=None)).writes, decide(replace(snapshot, agent=None)).status


def test_wait_set_during_an_install_does_not_leave_it_unfollowed_after_a_restart():
    running = agent(state(PANDAS, install=replace(state(NUMPY).install, state="Running")), NUMPY)
    snapshot = replace(settled_snapshot(PANDAS), environment=NUMPY, agent=running)
    status = status_after(snapshot)
    assert verdict(status, "PackagesInstalled") == ("False", "Installing")
    plan = decide(replace(snapshot, status=status, agent=None, spec=session_spec(onChange="Wait"), generation=2))
    assert plan.call is not None


def test_wait_a_restarted_container_is_not_told_other_requirements_under_the_old_revision():
    wait = session_spec(onChange="Wait")
    restarted = pod(container=container(restarts=1, ended_reason="Error", ended_code=1, running_since=NOW - 1))
    plan = decide(replace(settled_snapshot(PANDAS, spec=wait), environment=NUMPY, pods=(restarted,)))
    assert plan.call.body["packagesRevision"] == NUMPY.packages_revision


def test_a_refused_duplicate_answers_requests():
    status = status_after(session_snapshot(older_session="alice-first"))
    plan = decide(session_snapshot(older_session="alice-first", status=status, requests={"reset": AT}))
    assert plan.status and plan.status.status["handledRequests"] == {"reset": AT}


def test_a_keep_alive_after_a_lost_retirement_does_not_wait_for_the_door():
    """If the operator restarts while the agent is retired, KeepAlive gets 409 Retired until the agent accepts work again by itself."""
    world = World(environment=NOTHING, idle={"timeoutSeconds": 600})
    world.settle(until_ready=True)
    world.clock.now += 590
    agent_ = world.agent()
    agent_.retired_at = world.clock()
    world.restart_operator()
    world.ask("keepAlive")
    world.live(8)
    assert world.status().get("handledRequests"), world.calls.log[-5:]
