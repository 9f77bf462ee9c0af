"""ComputeSession: the chain of stages as a whole, duplicates, and environments that are missing or broken."""

from dataclasses import replace

import pytest

from flowsession.api.session import ComputeSessionSpec
from flowsession.model.plan import Delete, Plan
from flowsession.model.resolved import Unresolved
from flowsession.reconcile.session import chain
from unit.builders import (
    NAMESPACE,
    NOW,
    POD,
    agent,
    condition,
    decide,
    pending_pod,
    pod,
    ready_status,
    session_snapshot,
    session_spec,
    settled_snapshot,
    status_after,
    verdict,
)

GONE = Unresolved("EnvironmentNotFound", "there is no FlowEnvironment 'flow-env' in namespace 'team'; create it, and the session starts")
BROKEN = Unresolved("FlowInvalid", "flow.dag.yaml is a list")


@pytest.mark.parametrize("fields", [{"deleting": True}, {"namespace_ending": True}], ids=["deleted", "its namespace ends"])
@pytest.mark.parametrize("pods", [(), (pod(),)], ids=["no pod", "a pod"])
def test_what_ends_is_left_alone(fields, pods):
    plan = decide(session_snapshot(*pods, **fields))
    assert not (plan.writes or plan.call or plan.events)
    assert (plan.look_again_at is not None) == ("namespace_ending" in fields), "a namespace may be made anew"


def test_the_stages_are_a_chain_in_this_order():
    assert [stage.__name__ for stage in (*chain.STAGES, *chain.LIVE_STAGES)] == [
        "refuse_invalid",
        "refuse_duplicate",
        "stay_suspended",
        "end_of_lifetime",
        "wait",
        "resolve",
        "reset",
        "move",
        "have_a_pod",
        "replace_lost",
        "follow_the_pod",
        "end_unreachable",
        "explain",
        "deliver",
        "follow_the_install",
        "activate",
        "judge_ready",
        "compare_settings",
        "list_packages",
        "judge_flow",
        "decide_idle",
        "follow_the_check",
        "protect",
    ]


# -- the environment


def test_nothing_happens_before_the_environment_is_known():
    assert decide(session_snapshot(environment=None)) == Plan()


def test_an_environment_that_is_applied_a_moment_later_is_not_missed():
    young = session_snapshot(environment=GONE, created_at=NOW - 1)
    plan = decide(young)
    assert (plan.status, plan.events) == (None, ())
    assert plan.look_again_at == NOW + 1
    assert status_after(session_snapshot(environment=GONE, created_at=NOW - 2))["phase"] == "Pending"


@pytest.mark.parametrize(
    ("problem", "message"), [(GONE, GONE.message), (BROKEN, "environment 'flow-env': flow.dag.yaml is a list")], ids=["none", "broken"]
)
def test_without_a_usable_environment_there_is_no_pod(problem, message):
    snapshot = session_snapshot(environment=problem)
    plan, status = decide(snapshot), status_after(snapshot)
    assert plan.creates == ()
    assert status["phase"] == "Pending"
    assert verdict(status, "EnvironmentResolved") == ("False", problem.reason)
    assert verdict(status, "Ready") == ("False", "EnvironmentNotReady")
    assert condition(status, "Ready")["message"] == message
    assert [(event.warning, event.reason, event.message) for event in plan.events] == [(True, problem.reason, message)]
    assert decide(replace(snapshot, status=status)) == Plan()


def test_it_heals_when_the_environment_appears():
    broken = status_after(session_snapshot(environment=GONE))
    plan = decide(session_snapshot(status=broken))
    assert [create.manifest["kind"] for create in plan.creates] == ["Pod"]


def test_a_running_session_goes_on_while_its_environment_is_broken():
    snapshot = settled_snapshot(environment=None)
    snapshot = replace(snapshot, environment=BROKEN)
    status = status_after(snapshot)
    assert verdict(status, "Ready") == ("True", "Running")
    assert verdict(status, "EnvironmentResolved") == ("False", "FlowInvalid")
    assert decide(snapshot).look_again_at is not None  # the idle rule still ends it
    assert decide(snapshot).deletes == ()


def test_a_pod_that_has_not_started_waits_for_its_environment():
    plan = decide(session_snapshot(pending_pod(), environment=GONE))
    assert plan.deletes == ()
    assert plan.creates == ()


# -- duplicates


def duplicate(*pods, **fields):
    return session_snapshot(*pods, older_session="alice-first", **fields)


def test_the_younger_of_two_sessions_is_refused_by_name():
    status = status_after(duplicate())
    assert decide(duplicate()).creates == ()
    assert status["phase"] == "Failed"
    assert verdict(status, "Ready") == ("False", "DuplicateSession")
    message = condition(status, "Ready")["message"]
    assert "alice@example.com already has session 'alice-first' of environment 'flow-env'" in message
    assert "reset-requested-at" in message


def test_a_duplicate_loses_its_pod():
    assert decide(duplicate(pod())).deletes == (Delete("Pod", NAMESPACE, POD, "pod-1"),)
    assert decide(duplicate(pod(deleting_since=NOW))).deletes == ()


def test_it_is_told_once():
    status = status_after(duplicate())
    assert [event.reason for event in decide(duplicate()).events] == ["DuplicateSession"]
    assert decide(duplicate(status=status)) == Plan()


def test_when_the_elder_is_gone_the_owner_has_to_ask_again():
    status = status_after(duplicate())
    assert decide(session_snapshot(status=status)) == Plan()
    asked = session_snapshot(status=status, generation=2)
    assert [create.manifest["kind"] for create in decide(asked).creates] == ["Pod"]


# -- the plan as a whole


def test_the_same_snapshot_and_time_give_the_same_plan():
    snapshot = session_snapshot(pod(), agent=agent())
    assert decide(snapshot) == decide(snapshot)


def test_a_status_patch_is_for_the_version_that_was_judged():
    plan = decide(session_snapshot(pod(), agent=agent()))
    assert (plan.status.kind, plan.status.name, plan.status.resource_version) == ("ComputeSession", "alice-flow", "30")


def test_every_condition_carries_the_generation_it_was_judged_by():
    status = status_after(session_snapshot(pod(), agent=agent(), generation=7))
    assert status["observedGeneration"] == 7
    assert {found["observedGeneration"] for found in status["conditions"]} == {7}


def test_what_others_wrote_into_the_status_stays():
    status = ready_status() | {"handledRequests": {"reset": "x"}}
    plan = decide(settled_snapshot(status=status))
    assert plan.status is None


def test_a_session_says_who_it_is_for():
    with pytest.raises(ValueError, match="user"):
        ComputeSessionSpec.model_validate({"environmentRef": {"name": "e"}})
    assert session_spec().user == "alice@example.com"
