"""How many requests a session costs: the architecture's promise, counted on the wire."""

import pytest

from apiserver.api import eventually
from apiserver.lab import Lab

READY = ["POST pods", "PATCH computesessions/status"]
"""Ready and the list of packages are one write of the status."""
BESIDES = ["POST configmaps", "POST events"]


@pytest.mark.parametrize(("first", "more"), [(60.0, 0), (0.02, 1)], ids=["quick", "longer"])
def test_a_session_with_nothing_to_install_is_ready_after_two_writes_and_one_more_that_says_it_starts(
    started: Lab, first: float, more: int
) -> None:
    """A start that takes longer than FIRST_SECONDS is reported: an empty STATUS looks like a dead operator."""
    started.operator.restart(
        constants={"flowsession.reconcile.session.draft:FIRST_SECONDS": first, "flowsession.reconcile.session.draft:PROGRESS_SECONDS": 60.0}
    )
    started.create_environment()
    started.until_environment("Resolved")
    before = started.recorder.mark()
    started.kubelet.hold = bool(more)
    started.create_session()
    if more:
        eventually(lambda: started.session().get("status", {}).get("phase"), what="the start is told")
        started.kubelet.release()
    started.until_ready()
    started.settle()
    lines = started.lines(since=before, without=("flowenvironments",))
    assert sorted(lines) == sorted(READY + BESIDES + ["PATCH computesessions/status"] * more), lines


def test_a_second_session_of_the_same_environment_lists_no_packages_again(started: Lab) -> None:
    started.create_environment()
    started.create_session("ada")
    started.until_ready("ada")
    started.settle()
    before = started.recorder.mark()
    started.create_session("bob")
    started.until_ready("bob")
    started.settle()
    assert "POST configmaps" not in started.lines(since=before)
    assert started.session("bob")["status"]["packages"] == started.session("ada")["status"]["packages"]


def test_the_count_of_an_environments_sessions_is_written_at_most_once_in_ten_seconds(started: Lab) -> None:
    started.create_environment()
    started.until_environment("Resolved")
    for name in ("ada", "bob", "cy", "dan"):
        started.create_session(name)
    for name in ("ada", "bob", "cy", "dan"):
        started.until_ready(name)
    assert started.lines().count("PATCH flowenvironments/status") <= 2


@pytest.mark.parametrize("flow", [False, True], ids=["image only", "flow folder"])
def test_a_restart_writes_nothing_for_settled_sessions_and_asks_no_agent(started: Lab, flow: bool) -> None:
    started.operator.restart(constants={"flowsession.reconcile.environment.chain:COUNT_SECONDS": 0.5})
    if flow:
        started.environment_of_flow()
    else:
        started.create_environment()
    names = ("ada", "bob", "cy")
    for name in names:
        started.create_session(name)
    for name in names:
        started.until_ready(name)
    environment = started.path("flowenvironments", "env")
    eventually(lambda: started.api.get(environment)["status"]["sessions"] == len(names), what="the count is written")
    started.settle()
    before, calls = started.recorder.mark(), [len(started.agent(name).calls) for name in names]
    started.operator.restart()
    started.settle(quiet=1.5)
    assert started.lines(since=before) == []
    assert [len(started.agent(name).calls) for name in names] == calls


def test_a_change_of_no_consequence_costs_nothing(started: Lab) -> None:
    started.create_environment()
    started.create_session()
    started.until_ready()
    started.settle()
    before = started.recorder.mark()
    started.api.patch(started.path("computesessions", "ada"), {"metadata": {"labels": {"team": "blue"}}})
    pod = started.the_pod()["metadata"]["name"]
    started.api.patch(started.path("pods", pod), {"metadata": {"annotations": {"seen": "yes"}}})
    started.settle(quiet=1.0)
    assert started.lines(since=before) == []
