"""`why`: a session's conditions, Events and environment, and what is made of them."""

import pytest

from flowsession_cli import explain
from unit.cli.fakes import condition, event, ready_status


def session(*conditions, phase="Pending", **status):
    return {
        "metadata": {"name": "chat", "generation": 1},
        "spec": {"environmentRef": {"name": "env"}},
        "status": {"phase": phase, "conditions": list(conditions), **status},
    }


def of(*conditions, environment=True, pod_events=(), events=(), **status):
    env = {"metadata": {"name": "env"}, "spec": {}, "status": {}} if environment is True else environment
    return explain.session(session(*conditions, **status), env, pod_events, events)


def test_nothing_is_wrong():
    found = of(*ready_status()["conditions"], phase="Running")
    assert found == explain.Finding("chat is Running: nothing is wrong", [("", "running on node-b")], well=True)


@pytest.mark.parametrize("kind", ["FlowValid", "InSync"])
def test_a_running_session_with_something_wrong_is_not_well(kind):
    found = of(*ready_status()["conditions"], condition(kind, "False", "Bad", "node a calls nothing"), phase="Running")
    assert not found.well
    assert found.headline == "chat is Running, but not all is well"
    assert ("cause", "node a calls nothing (Bad)") in found.rows


CASES = {
    "EnvironmentResolved": ("RequirementsRejected", "where", "environment env: kubectl describe fenv env"),
    "ComputeAllocated": ("QuotaExceeded", "where", "compute of the session: size, quota, nodes"),
    "PackagesInstalled": ("InstallFailed", "where", "requirements of environment env"),
}


@pytest.mark.parametrize("kind", CASES)
def test_the_place_is_that_of_the_first_condition_that_is_false(kind):
    reason, title, place = CASES[kind]
    message = "line 3 of requirements.txt: pandas==99 is not there; correct it"
    found = of(condition("Ready", "False", reason, message), condition(kind, "False", reason, message))
    assert found.headline == "chat is not running: it is Pending"
    assert list(found.rows) == [("cause", f"{message} ({reason})"), (title, place)], "the same words once"


def test_the_installers_last_words_are_shown():
    install = {"tool": "uv", "exitCode": 1, "stderrTail": "\n".join(f"line {n}" for n in range(20))}
    found = of(condition("Ready", "False", "InstallFailed", "it failed"), install=install)
    assert found.rows[-1] == ("uv", "\n".join(f"line {n}" for n in range(12, 20)))


def test_scheduler_and_kubelet_have_their_say():
    words = [event("chat-1", "FailedScheduling", "0/2 nodes are available", minute=n) for n in (1, 2)]
    found = of(condition("Ready", "False", "Starting", "it starts"), pod_events=words, podName="chat-1")
    assert ("where", "pod chat-1, on no node yet") in found.rows
    assert found.rows[-1] == ("pod", "FailedScheduling: 0/2 nodes are available (2 times)")


def test_a_suspended_one_is_resumed_by_a_command():
    found = of(condition("Ready", "False", "Suspended", "suspended by its user"), phase="Suspended")
    assert found.rows[-1] == ("do", "kubectl flow resume chat")


def test_an_environment_that_is_not_there_is_told():
    found = of(condition("Ready", "False", "X", "no environment"), environment=None)
    assert found.rows[-1] == ("also", "there is no environment env: kubectl flow start makes one of a flow folder")


def test_without_conditions_the_operator_is_asked_for():
    assert of().rows[0][1].startswith("the operator has not looked at it")


def test_what_is_gone_is_told_by_its_events():
    found = explain.gone(
        "chat", [event("chat", "Running", "it runs", minute=1, kind="Normal"), event("chat", "IdleDeleted", "idle", minute=9)]
    )
    assert [text for _, text in found.rows] == ["Running: it runs", "IdleDeleted: idle"]
    assert not found.well


@pytest.mark.parametrize(("phase", "well"), [("Completed", True), ("Running", True), ("Failed", False), ("Queued", False)])
def test_runs(phase, well):
    done = condition("Complete", "True" if phase == "Completed" else "False", "Any", "1 of 3 lines failed")
    errors = [{"line": 2, "node": "ask", "message": "KeyError"}] if phase == "Failed" else []
    found = explain.run({"metadata": {"name": "r"}, "spec": {}, "status": {"phase": phase, "conditions": [done], "errors": errors}}, [])
    assert found.well is well
    assert (("line 2", "KeyError (node ask)") in found.rows) is (phase == "Failed")
