"""Requests by annotation: each value is handled once and echoed in the status. A refusal says what to do instead."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowsession.engine.store import objects
from flowsession.model import times
from flowsession.model.plan import Deliver, KeepAlive, Plan, Reopen
from flowsession.reconcile.requests import REQUESTS
from unit.builders import (
    NOW,
    agent,
    condition,
    decide,
    resolved,
    session_spec,
    settled_snapshot,
    silent_agent,
    stamp,
    status_after,
    verdict,
)
from unit.reconcile.session.test_idle import TIMEOUT, ready, says
from unit.reconcile.session.test_suspend import suspended_without_pod
from unit.world import World

AT, LATER = "2026-11-22T20:00:00Z", "2026-11-22T21:00:00Z"
EVERY = pytest.mark.parametrize("what", ["reset", "install", "resume", "keepAlive"])
NOTHING = {"requirementsText": ""}


def handled(snapshot, now=NOW):
    return status_after(snapshot, now).get("handledRequests", {})


# -- reading


def test_requests_are_read_from_their_annotations_and_capped():
    names = dict.fromkeys(REQUESTS.values(), "x" * 300) | {"other/annotation": "y", REQUESTS["resume"]: ""}
    body = {
        "metadata": {"name": "s", "namespace": "n", "annotations": names},
        "spec": {"environmentRef": {"name": "e"}, "user": "a"},
    }
    assert objects.session(body).requests == dict.fromkeys(["reset", "install", "keepAlive"], "x" * 100)


# -- invalid values


@EVERY
@pytest.mark.parametrize("value", ["true", "now", "1764000000", "2026-13-01", " ", "2026-11-22T20:00:00Z; rm -rf", "\u0662", "x" * 100])
def test_junk_is_refused_once_and_echoed(what, value):
    snapshot = settled_snapshot(requests={what: value})
    plan, status = decide(snapshot), status_after(snapshot)
    ((event),) = plan.events
    assert (event.warning, event.reason) == (True, "RequestRefused")
    assert repr(value) in event.message and REQUESTS[what] in event.message and "no timestamp" in event.message
    assert status["handledRequests"] == {what: value}
    assert (plan.deletes, plan.creates, plan.call) == ((), (), None)
    again = decide(replace(snapshot, status=status))
    assert (again.events, again.writes) == ((), False)


@EVERY
@pytest.mark.parametrize("by", ["User", "Idle", "Lifetime"])
def test_junk_does_nothing_to_a_suspended_session(by, what):
    snapshot = replace(suspended_without_pod(by=by), requests={what: "please"})
    assert decide(snapshot).creates == ()
    assert [event.reason for event in decide(snapshot).events] == ["RequestRefused"]
    assert decide(replace(snapshot, status=status_after(snapshot))) == Plan()


@given(st.text(min_size=1, max_size=100))
def test_any_text_is_a_request_or_junk_and_never_a_crash(value):
    for snapshot in (settled_snapshot(requests={"resume": value}), replace(suspended_without_pod(), requests={"resume": value})):
        plan = decide(snapshot)
        assert plan.status.status["handledRequests"] == {"resume": value}
        assert (times.parse(value) is None) <= any(event.reason == "RequestRefused" for event in plan.events)


# -- handled once


@EVERY
@pytest.mark.parametrize("view", [None, agent(), silent_agent(failures=2)])
def test_what_was_handled_is_handled(what, view):
    status = settled_snapshot().status | {"handledRequests": {what: AT}}
    plan = decide(settled_snapshot(status=status, requests={what: AT}, agent=view))
    assert (plan.deletes, plan.events) == ((), ())
    assert not isinstance(plan.call, KeepAlive | Deliver)
    assert "handledRequests" not in (plan.status.status if plan.status else {})


@EVERY
def test_an_earlier_time_is_a_new_value_too(what):
    """Clients' clocks differ, so values are compared for equality only."""
    status = settled_snapshot().status | {"handledRequests": {what: LATER}}
    view = agent(kept_alive=AT, delivered_request=AT)
    assert handled(settled_snapshot(status=status, requests={what: AT}, agent=view)) == {what: AT}


def test_the_others_stay_as_they_were():
    status = settled_snapshot().status | {"handledRequests": {"install": AT, "keepAlive": AT}}
    assert handled(settled_snapshot(status=status, requests={"reset": LATER, "install": AT})) == {
        "install": AT,
        "keepAlive": AT,
        "reset": LATER,
    }


def test_resume_is_met_where_nothing_is_suspended():
    snapshot = settled_snapshot(requests={"resume": AT})
    assert handled(snapshot) == {"resume": AT}
    assert (decide(snapshot).events, decide(snapshot).deletes, decide(snapshot).call) == ((), (), None)


# -- while suspended


@pytest.mark.parametrize(
    ("by", "what", "way"),
    [
        ("User", "install", "set spec.suspend to false"),
        ("User", "keepAlive", "set spec.suspend to false"),
        ("User", "resume", "set spec.suspend to false"),
        ("User", "reset", "set spec.suspend to false"),
        ("Idle", "install", "set the annotation flowsession.dev/resume-requested-at"),
        ("Idle", "keepAlive", "set the annotation flowsession.dev/resume-requested-at"),
        ("Lifetime", "install", "set the annotation flowsession.dev/resume-requested-at"),
        ("Lifetime", "keepAlive", "set the annotation flowsession.dev/resume-requested-at"),
    ],
)
def test_a_request_to_a_suspended_session_is_refused_once_with_the_way_out(by, what, way):
    snapshot = replace(suspended_without_pod(by=by), requests={what: AT})
    plan = decide(snapshot)
    ((event),) = plan.events
    assert (event.warning, event.reason) == (True, "RequestRefused")
    assert way in event.message and REQUESTS[what] in event.message
    assert handled(snapshot) == {what: AT}
    assert decide(replace(snapshot, status=status_after(snapshot)), NOW + 1000) == Plan()
    assert len(decide(replace(snapshot, status=status_after(snapshot), requests={what: LATER})).events) == 1


@EVERY
def test_a_refused_request_does_not_come_true_later(what):
    refused = replace(suspended_without_pod(), requests={what: AT})
    resumed = replace(refused, status=status_after(refused), spec=session_spec(), generation=3)
    plan = decide(resumed)
    assert [event.reason for event in plan.events] == ["Resumed"]
    assert len(plan.creates) == 1


# -- keep-alive


def test_a_keep_alive_is_told_to_the_agent_and_echoed_when_it_has_taken_it():
    asked = ready(30.0, says(30.0), requests={"keepAlive": AT})
    assert decide(asked).call == KeepAlive(AT)
    assert handled(asked) == {}
    taken = replace(asked, agent=replace(says(0.0, what="keep-alive"), kept_alive=AT))
    plan, status = decide(taken), status_after(taken)
    assert plan.call is None
    assert status["handledRequests"] == {"keepAlive": AT}
    assert status["expiresAt"] == stamp(NOW + TIMEOUT)
    assert verdict(status, "Active") == ("True", "KeptAlive")
    assert status["lastActivity"] == {"at": stamp(NOW), "what": "keep-alive"}
    after = replace(taken, status=status)
    assert (decide(after).writes, decide(after).call) == (False, None)
    assert decide(replace(after, agent=None)).writes is False  # a restarted operator has nothing to write either


def test_a_keep_alive_at_the_end_first_opens_the_door_then_counts_as_work():
    retired = ready(61.0, says(61.0, retired=True), requests={"keepAlive": AT})
    plan = decide(retired)
    assert (plan.call, plan.deletes) == (Reopen(), ())
    opened = replace(retired, agent=says(61.0))
    assert (decide(opened).call, decide(opened).deletes) == (KeepAlive(AT), ())
    kept = replace(opened, agent=replace(says(0.0, what="keep-alive"), kept_alive=AT))
    assert status_after(kept)["expiresAt"] == stamp(NOW + TIMEOUT)


@pytest.mark.parametrize("action", ["Delete", "Suspend", "None"])
@pytest.mark.parametrize("view", [None, says(500.0), says(500.0, retired=True), says(0.0, busy=True), silent_agent(failures=3)])
def test_while_a_keep_alive_is_pending_nothing_ends(action, view):
    for later in (0, 1, 3, 60, 600):
        plan = decide(ready(500.0, view, action=action, requests={"keepAlive": AT}), NOW + later)
        assert plan.deletes == ()


def test_a_keep_alive_that_fails_is_repeated_ever_more_slowly():
    failing = ready(30.0, silent_agent(failures=3), requests={"keepAlive": AT})
    assert (decide(failing, NOW + 3.9).call, decide(failing, NOW + 3.9).look_again_at) == (None, NOW + 4)
    assert decide(failing, NOW + 4).call == KeepAlive(AT)


def test_a_keep_alive_waits_for_a_call_that_is_under_way():
    assert decide(ready(30.0, replace(says(30.0), calling=True), requests={"keepAlive": AT})).call is None


def test_a_keep_alive_of_what_can_not_be_reached_does_not_keep_it_for_ever():
    gone = ready(5000.0, silent_agent(failures=20, since=3600), requests={"keepAlive": AT})
    assert [deletion.kind for deletion in decide(gone).deletes] == ["ComputeSession"]


def test_a_keep_alive_of_a_session_that_is_never_ended_is_met():
    kept = replace(ready(30.0, says(0.0), action="None", requests={"keepAlive": AT}), agent=replace(says(0.0), kept_alive=AT))
    assert handled(kept) == {"keepAlive": AT}
    assert decide(replace(kept, agent=None)).call == KeepAlive(AT)


def test_each_keep_alive_defers_the_end_by_one_full_timeout():
    world = World(environment=NOTHING, idle={"timeoutSeconds": TIMEOUT})
    world.settle(until_ready=True)
    for _ in range(5):
        world.live(50)
        asked_at = world.clock()
        world.ask("keepAlive")
        world.live(1)
        assert times.parse(world.status()["expiresAt"]) >= asked_at + TIMEOUT
    while world.api.session is not None:
        world.live(1)
    assert asked_at + TIMEOUT <= world.api.session_deleted_at <= asked_at + TIMEOUT + 3


def test_a_keep_alive_between_the_word_and_the_end_wins():
    """The operator has not received the watch event yet: the delete's precondition fails."""
    world = World(environment=NOTHING, idle={"timeoutSeconds": TIMEOUT})
    world.settle(until_ready=True)
    while not world.agent().retired:
        world.clock.now = max(world.clock() + 0.05, min(world.todo.due, world.clock() + 1))
        world.work(), world.answer_calls()
    asked_at, value = world.clock(), world.ask("keepAlive")
    world.work()
    assert world.api.session is not None
    world.live(5)
    assert world.status()["handledRequests"] == {"keepAlive": value}
    assert not world.agent().retired
    assert times.parse(world.status()["expiresAt"]) >= asked_at + TIMEOUT


@pytest.mark.parametrize("steps", range(6))
def test_an_operator_that_is_killed_meanwhile_loses_no_keep_alive(steps):
    world = World(environment=NOTHING, idle={"timeoutSeconds": TIMEOUT})
    world.settle(until_ready=True)
    world.live(TIMEOUT - 8)
    value = world.ask("keepAlive")
    for _ in range(steps):
        world.hear(), world.reconcile(), world.answer_calls()
    world.restart_operator()
    world.live(20)
    assert world.status()["handledRequests"] == {"keepAlive": value}
    writes = len(world.writes())
    world.restart_operator()
    world.live(5)
    assert len(world.writes()) == writes


# -- install (the rest is in test_install)


def test_an_install_request_with_nothing_to_install_is_asked_of_the_agent_and_met():
    snapshot = settled_snapshot(requests={"install": AT})
    assert decide(snapshot).call == Deliver(resolved().wire, AT)
    assert handled(replace(snapshot, agent=agent(delivered_request=AT))) == {"install": AT}


def test_an_install_request_can_not_take_up_another_image():
    snapshot = replace(settled_snapshot(), environment=resolved(baseImage="python:3.13"), requests={"install": AT})
    ((event),) = decide(snapshot).events
    assert (event.reason, REQUESTS["reset"] in event.message) == ("RequestRefused", True)
    assert handled(snapshot) == {"install": AT}


# -- several at once


def test_all_at_once_end_in_one_fresh_pod_and_are_all_echoed():
    world = World(environment={"requirementsText": "pandas\n"}, idle={"timeoutSeconds": 3600})
    world.settle(until_ready=True)
    asked = {what: world.ask(what) for what in REQUESTS}
    world.settle()
    assert world.is_ready()
    assert world.status()["handledRequests"] == asked
    assert (len(world.api.pods), world.status()["incarnation"]) == (1, 2)
    assert condition(world.status(), "Active")["status"] in {"True", "False"}


def test_two_clients_that_ask_for_the_same_get_it_once_each():
    world = World(environment=NOTHING, idle={"action": "None"})
    world.settle(until_ready=True)
    for expected in (2, 3):
        world.ask("reset")
        world.settle()
        world.live(40)
        assert world.status()["incarnation"] == expected
    assert world.told_of("Reset") == 2


@pytest.mark.parametrize("what", ["install", "keepAlive"])
def test_requests_before_the_first_pod_are_met_by_the_start(what):
    world = World(environment=NOTHING)
    value = world.ask(what)
    world.hear()
    world.settle()
    assert world.is_ready()
    assert world.status()["handledRequests"] == {what: value}
    assert world.writes().count("POST Pod") == 1


def test_spec_is_never_written():
    world = World(environment=NOTHING, idle={"timeoutSeconds": TIMEOUT, "action": "Suspend"})
    world.settle(until_ready=True)
    world.live(3 * TIMEOUT)
    assert world.api.session["spec"] == world.spec
    assert "suspend" not in world.spec
