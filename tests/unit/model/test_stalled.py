"""The condition Stalled, by which tools see that an object can't progress by itself, and the reason in the column next to STATUS."""

from dataclasses import replace

import pytest

from flowsession.api.crds import SESSION, definition
from flowsession.model.resolved import Unresolved
from flowsession.reconcile.environment import chain as environments
from unit.builders import (
    NOW,
    agent,
    applied,
    condition,
    decide,
    environment_snapshot,
    from_text,
    installing,
    pod,
    resolved,
    session_snapshot,
    settled_snapshot,
    silent_agent,
    status_after,
    verdict,
)

PANDAS = resolved()


@pytest.mark.parametrize(
    "snapshot",
    [
        session_snapshot(pod(), agent=agent(installing(state="Failed", message="no such version"))),
        session_snapshot(older_session="another"),
        session_snapshot(environment=Unresolved("RequirementsRejected", "line 1: no")),
        session_snapshot(pod(created_at=NOW - 700), agent=silent_agent(failures=9, since=650.0)),
    ],
    ids=["InstallFailed", "DuplicateSession", "RequirementsRejected", "StartTimeout"],
)
def test_what_somebody_has_to_do_something_about_stalls(snapshot) -> None:
    status = status_after(snapshot)
    ready = condition(status, "Ready")
    assert verdict(status, "Stalled")[0] == "True"
    assert condition(status, "Stalled")["message"] == ready["message"]
    assert status["reason"] == ready["reason"], "for the column beside STATUS"


@pytest.mark.parametrize(
    "snapshot",
    [
        session_snapshot(pod(), agent=silent_agent(failures=2)),
        session_snapshot(environment=Unresolved("SourceNotFound", "not applied yet")),
        session_snapshot(environment=Unresolved("Resolving", "reading git")),
        settled_snapshot(agent=agent()),
    ],
    ids=["Starting", "SourceNotFound", "Resolving", "Running"],
)
def test_what_may_go_on_does_not(snapshot) -> None:
    assert verdict(status_after(snapshot, NOW + 10), "Stalled") == ("-", "-")


def test_it_goes_when_the_session_goes_on() -> None:
    failed = session_snapshot(pod(), agent=agent(installing(state="Failed")))
    status = status_after(failed)
    mended = status_after(replace(failed, status=status, agent=agent()))
    assert verdict(mended, "Stalled") == ("False", "Progressing")
    assert "reason" not in mended, "it runs"


def test_a_source_that_is_being_read_is_no_problem() -> None:
    plan = decide(session_snapshot(environment=Unresolved("Resolving", "reading git")))
    assert plan.events == ()
    assert verdict(applied({}, plan.status.status), "Ready") == ("False", "Starting")


def test_an_environment_stalls_likewise_and_drops_the_warnings_of_other_requirements() -> None:
    before = {"warnings": [{"code": "PinnedPromptflow", "message": "x"}]}
    plan = environments.decide(environment_snapshot(status=before), from_text("./local\n"), NOW)
    status = applied(before, plan.status.status)
    assert verdict(status, "Ready") == ("False", "RequirementsRejected")
    assert verdict(status, "Stalled") == ("True", "RequirementsRejected")
    assert "warnings" not in status
    good = environments.decide(environment_snapshot(status=status), PANDAS, NOW)
    assert verdict(applied(status, good.status.status), "Stalled") == ("False", "Progressing")


def test_sessions_are_selected_by_user_environment_and_phase() -> None:
    (version,) = definition(SESSION)["spec"]["versions"]
    assert [field["jsonPath"] for field in version["selectableFields"]] == [".spec.user", ".spec.environmentRef.name", ".status.phase"]
    columns = {column["name"]: column for column in version["additionalPrinterColumns"]}
    assert "priority" not in columns["Reason"], "shown by default"
