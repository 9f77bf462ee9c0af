"""Concurrent writers and a failing API server: conflicts, refusals, lost responses, late responses, lost watches."""

import pytest

from apiserver.api import eventually, stays
from apiserver.lab import Lab
from apiserver.recorder import Recorder, Request


def _right(lab: Lab) -> None:
    lab.until_ready()
    lab.settle()
    assert len(lab.pods()) == 1
    assert lab.session()["status"]["podName"] == lab.the_pod()["metadata"]["name"]
    assert len(lab.package_lists()) == 1
    assert lab.operator.running
    assert lab.operator.lines("error") == []


def test_somebody_else_changes_the_session_before_every_status_write(started: Lab) -> None:
    started.create_environment()
    started.until_environment("Resolved")
    count = 0

    def relabel() -> None:
        nonlocal count
        count += 1
        started.api.patch(started.path("computesessions", "ada"), {"metadata": {"labels": {"turn": str(count)}}})

    # Only five times: against an endless rival the operator could never win.
    started.recorder.inject(started.writes_to_namespace("PATCH computesessions/status"), started.recorder.first(relabel), times=5)
    started.create_session()
    _right(started)
    assert count == 5
    assert started.session()["metadata"]["labels"] == {"turn": "5"}
    assert [w.status for w in started.writes() if w.kind == "computesessions/status"].count(409) == 5


def test_somebody_elses_fields_of_the_status_stay(started: Lab) -> None:
    started.create_environment()
    started.create_session()
    started.until_ready()
    own = {"type": "example.com/Audited", "status": "True", "reason": "Yes", "message": "", "lastTransitionTime": "2030-01-01T00:00:00Z"}
    conditions = [*started.session()["status"]["conditions"], own]
    started.api.patch(started.path("computesessions", "ada") + "/status", {"status": {"conditions": conditions}})
    started.api.delete(started.path("pods", started.the_pod()["metadata"]["name"]))
    eventually(lambda: started.session()["status"].get("incarnation") == 2)
    _right(started)
    assert started.condition("example.com/Audited")["status"] == "True"


@pytest.mark.parametrize(
    ("status", "reason"),
    [(409, "Conflict"), (429, "TooManyRequests"), (500, "InternalError"), (503, "ServiceUnavailable"), (401, "Unauthorized")],
)
def test_every_kind_of_write_that_fails_is_done_again(started: Lab, status: int, reason: str) -> None:
    answer = Recorder.answer(status, reason, "injected", headers={"Retry-After": "1"} if status == 429 else None)
    lines = ["POST pods", "PATCH computesessions/status", "POST configmaps", "POST events", "PATCH flowenvironments/status"]
    faults = {
        line: started.recorder.inject(started.writes_to_namespace(line), answer, times=1 if line == "POST events" else 2) for line in lines
    }
    started.create_environment()
    started.create_session()
    _right(started)
    for line, fault in faults.items():
        assert fault.seen >= fault.times, f"{line} was tried {fault.seen} times"


def test_events_are_told_once_however_often_the_status_meets_a_conflict(started: Lab) -> None:
    conflict = Recorder.answer(409, "Conflict", "injected")
    started.recorder.inject(started.writes_to_namespace("PATCH computesessions/status"), conflict, times=4)
    started.create_environment()
    started.create_session()
    _right(started)
    assert [event["count"] for event in started.events(reason="Running")] == [1]


@pytest.mark.parametrize("line", ["POST pods", "PATCH computesessions/status", "POST configmaps", "PATCH flowenvironments/status"])
def test_a_lost_answer_doubles_nothing(started: Lab, line: str) -> None:
    fault = started.recorder.inject(started.writes_to_namespace(line), Recorder.swallow(), times=2)
    started.create_environment()
    started.create_session()
    _right(started)
    assert fault.seen > 0
    assert started.session()["status"]["incarnation"] == 1


def test_late_answers_double_nothing(started: Lab) -> None:
    started.recorder.inject(started.writes_to_namespace(), Recorder.delay(0.3), times=100)
    started.create_environment()
    started.create_session()
    _right(started)
    assert started.lines().count("POST pods") == 1
    assert started.lines().count("POST configmaps") == 1


def test_a_session_deleted_while_its_pod_is_being_made_leaves_no_pod(started: Lab) -> None:
    started.create_environment()
    started.until_environment("Resolved")
    gone = started.recorder.first(lambda: started.api.delete(started.path("computesessions", "ada")))
    started.recorder.inject(started.writes_to_namespace("POST pods"), gone)
    started.create_session()
    eventually(lambda: "POST pods" in started.lines())
    eventually(lambda: started.api.get(started.path("pods"))["items"] == [], what="garbage collection takes the pod")
    started.settle()
    assert started.lines().count("POST pods") == 1


def test_a_refused_pod_is_not_taken_for_quota_forever(started: Lab) -> None:
    refused = Recorder.answer(
        403, "Forbidden", 'pods "x" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1'
    )
    started.recorder.inject(started.writes_to_namespace("POST pods"), refused)
    started.create_environment()
    started.create_session()
    started.until_condition("Ready", "QuotaExceeded")
    _right(started)


def test_a_namespace_that_ends_says_so_once(started: Lab) -> None:
    ending = Recorder.answer(
        403,
        "Forbidden",
        "unable to create new content in namespace because it is being terminated",
        details={"causes": [{"reason": "NamespaceTerminating", "message": "is being terminated", "field": "metadata.namespace"}]},
    )
    started.recorder.inject(started.writes_to_namespace("POST pods"), ending, times=1000)
    started.create_environment()
    started.create_session()
    eventually(lambda: "POST pods" in started.lines())
    stays(lambda: started.lines().count("POST pods") == 1, seconds=3)


def test_watches_that_break_are_taken_up_again(started: Lab) -> None:
    started.create_environment()
    for kind in ("computesessions", "flowenvironments", "pods", "configmaps"):
        started.recorder.cut_watches(kind)
    started.create_session()
    _right(started)


def test_a_session_deleted_unseen_is_forgotten_when_a_write_says_so(started: Lab) -> None:
    started.create_environment()
    started.create_session()
    started.until_ready()
    started.settle()
    before = started.recorder.mark()
    started.recorder.cut_watches("computesessions", hold=True)
    started.api.delete(started.path("computesessions", "ada"))
    eventually(lambda: started.pods() == [])
    started.recorder.expire_watches("computesessions")

    def answers() -> list[int]:
        return [write.status for write in started.writes(since=before) if write.kind == "computesessions/status"]

    eventually(answers, what="a write of the status")
    started.settle(quiet=1.0)
    assert "POST pods" not in started.lines(since=before)
    assert answers() == [404]
    assert started.events(reason="PodFailed") == [], "what is gone has no story"
    started.create_session()
    _right(started)


@pytest.mark.parametrize("others", [["bob"], []], ids=["one of two", "the last one"])
def test_a_pod_deleted_unseen_is_missed_at_the_next_resync(lab: Lab, others: list[str]) -> None:
    lab.operator.start(constants={"flowsession.engine.loop:RESYNC_SECONDS": 1.0})
    lab.create_environment()
    for name in ("ada", *others):
        lab.create_session(name)
    for name in ("ada", *others):
        lab.until_ready(name)
    lab.recorder.cut_watches("pods", hold=True)
    lab.api.delete(lab.path("pods", lab.the_pod("ada")["metadata"]["name"]))
    eventually(lambda: lab.pods(session="ada") == [])
    lab.recorder.expire_watches("pods")
    eventually(lambda: lab.session()["status"].get("incarnation") == 2)
    lab.until_ready()
    assert len(lab.pods(session="ada")) == 1


def test_an_environment_and_its_source_deleted_unseen_are_missed_at_the_next_resync(lab: Lab) -> None:
    lab.operator.start(constants={"flowsession.engine.loop:RESYNC_SECONDS": 1.0})
    lab.environment_of_flow()
    lab.until_environment("Resolved")
    lab.recorder.cut_watches("configmaps", hold=True)
    lab.api.delete(lab.path("configmaps", "flow"))
    lab.recorder.expire_watches("configmaps")
    lab.until_environment("SourceNotFound")
    lab.recorder.cut_watches("flowenvironments", hold=True)
    lab.api.delete(lab.path("flowenvironments", "env"))
    lab.recorder.expire_watches("flowenvironments")

    def unknown() -> bool:
        lab.api.delete(lab.path("computesessions", "ada"))
        lab.create_session()
        lab.until_condition("Ready", "EnvironmentNotReady", says="there is no FlowEnvironment", seconds=10)
        return True

    eventually(unknown)


def test_a_resync_of_settled_sessions_writes_nothing(lab: Lab) -> None:
    lab.operator.start(constants={"flowsession.engine.loop:RESYNC_SECONDS": 0.5})
    lab.environment_of_flow()
    lab.create_session()
    lab.until_ready()
    lab.settle(quiet=1.0)
    before = lab.recorder.mark()

    def listed(request: Request) -> bool:
        return request.kind == "computesessions" and "limit=" in request.query

    eventually(lambda: len([r for r in lab.recorder.requests(since=before) if listed(r)]) >= 3, what="three resyncs")
    assert lab.lines(since=before, without=("flowenvironments",)) == []
