"""Runs in a session of another environment: which sessions can take them, what they wait for, and what is sent with the order."""

import base64
from dataclasses import replace
from typing import Any

import pytest

from flowsession.model.plan import BeginRun
from flowsession.model.resolved import Claim, Resolved, Unresolved
from flowsession.model.run_views import RunAnswer, RunView
from flowsession.reconcile.run import guest
from flowsession.reconcile.run.snapshot import RunSnapshot
from unit.builders import DAG, RUNTIME, condition, container, pod, resolved, verdict
from unit.reconcile.run.test_chain import HOME, PLACED, after, rival, snapshot, spec

DIGEST, OTHER = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"
NAME = "registry.example/runtime:1"
HAS = '[["aoai", "open-ai"], ["search", "search"]]'
FLOW = resolved(files={"flow.dag.yaml": DAG}, requirements="pandas>=2\n")
THERE = replace(HOME, environment="answers", running=pod())


def of(image_id: str, image: str = NAME, **fields: Any) -> Any:
    """The session's pod, whose node reports this image and image ID."""
    return pod(image=image, container=container(image_id=image_id), **fields)


def asking(name: str = NAME, *, pinned: str = "", **fields: Any) -> Resolved:
    return replace(FLOW, image=replace(FLOW.image, name=name, pinned=pinned, **fields))


def a_guest(**fields: Any) -> RunSnapshot:
    return snapshot(
        **{"spec": spec(sessionRef={"name": "alice-flow"}), "sessions": (THERE,), "environment": FLOW, "name": "evaluation", **fields}
    )


@pytest.mark.parametrize(
    ("running", "environment", "reason", "says"),
    [
        (pod(), FLOW, "", ""),
        (of(f"{NAME}@{DIGEST}"), asking(pinned=f"registry.example/runtime@{DIGEST}"), "", ""),
        (of(f"mirror.example/runtime@{DIGEST}", "mirror.example/runtime:7"), asking(pinned=f"registry.example/runtime@{DIGEST}"), "", ""),
        (of(f"{NAME}@{DIGEST}"), asking(f"registry.example/runtime@{DIGEST}"), "", ""),
        (of("", started_from=f"registry.example/runtime@{DIGEST}"), asking(pinned=f"registry.example/runtime@{DIGEST}"), "", ""),
        (of(f"{NAME}@{DIGEST}"), asking(), "", ""),
        (of("sha256:1234"), asking(pinned=f"registry.example/runtime@{DIGEST}"), "", ""),
        (
            of(f"{NAME}@{OTHER}"),
            asking(pinned=f"registry.example/runtime@{DIGEST}"),
            "SessionIncompatible",
            f"runs image {NAME} (sha256:bbbbbbbbbbbb), and environment 'chat' asks for {NAME} (sha256:aaaaaaaaaaaa): leave sessionRef out",
        ),
        (of("sha256:1234", RUNTIME), asking(), "SessionIncompatible", f"runs image {RUNTIME}, and environment 'chat' asks for {NAME}: "),
        (
            of(f"{NAME}@{DIGEST}"),
            asking(f"registry.example/runtime@{OTHER}"),
            "SessionIncompatible",
            f"asks for registry.example/runtime@{OTHER}",
        ),
        (of(f"{NAME}@{DIGEST}"), asking(pull_anew=True), "SessionIncompatible", f"asks for {NAME}, pulled anew"),
        (
            pod(),
            replace(FLOW, claim=Claim("data", "/", "flow")),
            "SessionIncompatible",
            "on claim 'data', which only its own sessions have",
        ),
        (pod(connections=HAS), resolved(connections=[{"name": "aoai", "secretName": "another"}]), "", ""),
        (
            pod(connections=HAS),
            resolved(connections=[{"name": name, "secretName": "s"} for name in ("judge", "aoai", "extra")]),
            "ConnectionMissing",
            "names connections that session 'alice-flow' has not: extra, judge; add them to environment 'answers' and reset the session",
        ),
        (pod(), resolved(connections=[{"name": "aoai", "secretName": "s"}]), "ConnectionMissing", "has not: aoai"),
    ],
)
def test_which_sessions_can_take_it(running: Any, environment: Resolved, reason: str, says: str) -> None:
    _, status = after(a_guest(sessions=(replace(THERE, running=running),), environment=environment))
    assert verdict(status, "Complete") == ("False", reason or "Preparing")
    assert status["phase"] == ("Failed" if reason else "Preparing")
    assert says in condition(status, "Complete")["message"]
    assert ("podName" in status) == (not reason)


@pytest.mark.parametrize(
    ("fields", "phase", "reason", "says"),
    [
        ({"sessions": (replace(THERE, user="bob"),)}, "Failed", "SessionFailed", "belongs to bob"),
        ({"sessions": (replace(THERE, pod="", running=None),)}, "Queued", "SessionNotReady", "begins when it is Ready"),
        ({"environment": None}, "Queued", "Resolving", "environment 'chat' is being read"),
        ({"environment": Unresolved("Resolving", "reading it")}, "Queued", "Resolving", "environment 'chat' is being read"),
        ({"environment": Unresolved("InvalidFlow", "no nodes")}, "Queued", "EnvironmentNotReady", "environment 'chat': no nodes"),
        ({"rivals": (rival("first", -20, environment="answers"),)}, "Queued", "RunsAhead", "after first"),
        ({"rivals": (rival("first", -20),)}, "Preparing", "Preparing", "'alice-flow'"),
    ],
)
def test_what_it_waits_for(fields: dict[str, Any], phase: str, reason: str, says: str) -> None:
    plan, status = after(a_guest(**fields))
    assert (status["phase"], verdict(status, "Complete")) == (phase, ("False", reason))
    assert says in condition(status, "Complete")["message"]
    assert plan.run_call is None


def test_flow_folder_and_requirements_go_along_with_the_order() -> None:
    plan, _ = after(a_guest(status=PLACED, pod=pod()))
    assert isinstance(plan.run_call, BeginRun)
    asked = {"text": "pandas>=2\n", "path": None, "shown": "spec.requirementsText"}
    assert plan.run_call.body["guest"] == {"environment": "chat", "requirements": asked}
    assert dict(plan.run_call.body["files"]) == {"flow.dag.yaml": base64.b64encode(DAG).decode()}


def test_a_run_in_a_session_of_its_own_environment_brings_nothing() -> None:
    plan, _ = after(snapshot(spec=spec(sessionRef={"name": "alice-flow"}), status=PLACED, pod=pod()))
    assert isinstance(plan.run_call, BeginRun)
    assert not {"guest", "files"} & plan.run_call.body.keys()


@pytest.mark.parametrize(("environment", "reason"), [(None, "Resolving"), (Unresolved("InvalidFlow", "no nodes"), "EnvironmentNotReady")])
def test_it_never_begins_without_its_flow(environment: Unresolved | None, reason: str) -> None:
    plan, status = after(a_guest(status=PLACED, pod=pod(), environment=environment))
    assert (plan.run_call, status["phase"], verdict(status, "Complete")[1]) == (None, "Preparing", reason)
    canceled = spec(sessionRef={"name": "alice-flow"}, cancel=True)
    _, status = after(a_guest(status=PLACED, pod=pod(), environment=environment, spec=canceled))
    assert (status["phase"], verdict(status, "Complete")[1]) == ("Canceled", "Canceled")


def test_it_waits_for_another_session_when_the_named_one_is_deleted_before_it_began() -> None:
    plan, status = after(a_guest(status=PLACED, pod=pod(), environment=None, sessions=()))
    assert (plan.run_call, status["phase"], verdict(status, "Complete")[1]) == (None, "Queued", "SessionMissing")
    assert not {"podName", "sessionName"} & status.keys()


def test_packages_that_are_missing_are_told_with_both_ways_out() -> None:
    said = "1 of 2 requirements is not satisfied by what is installed there: 'pandas>=3' (line 1 of r.txt): pandas 2.2.3 is installed"
    view = RunView(answer=RunAnswer("Failed", code=guest.INCOMPATIBLE, message=said), archive="eA==")
    _, status = after(a_guest(status=PLACED, pod=pod(), view=view))
    assert (status["phase"], verdict(status, "Failed")) == ("Failed", ("True", "SessionIncompatible"))
    message = condition(status, "Complete")["message"]
    assert f"session 'alice-flow' can't run the flow of environment 'chat': {said}. Leave sessionRef out" in message
    assert "add them to the requirements of environment 'answers' and install them by" in message
    assert "flowsession.dev/install-requested-at" in message
