"""Words for messages: counts, and the name that a misspelled one may mean."""

from typing import Any

import pytest

from flowsession.engine.store import objects
from flowsession.model import words
from flowsession.model.plan import Event
from flowsession.reconcile.environment import chain as environments
from unit.builders import NOW, applied, decide, environment_snapshot, from_text, session_snapshot

OURS = "flowsession.dev/"


@pytest.mark.parametrize(("count", "said"), [(0, "0 packages"), (1, "1 package"), (2, "2 packages")])
def test_one_is_singular(count, said):
    assert words.counted(count, "package") == said


def body(**annotations: str) -> dict[str, Any]:
    names = {f"{OURS}{name.replace('_', '-')}": value for name, value in annotations.items()}
    spec = {"environmentRef": {"name": "env"}, "user": "alice@example.com"}
    return {"metadata": {"name": "s", "namespace": "n", "annotations": {"example.com/reset": "x", **names}}, "spec": spec}


def told(asked: dict[str, str]) -> list[Event]:
    return [event for event in decide(session_snapshot(requests=asked)).events if event.reason == "UnknownAnnotation"]


def test_a_misspelt_annotation_is_told_once_with_the_nearest_name():
    asked = dict(objects.session(body(reset_request_at="2026-11-22T20:00:00Z", install_requested_at="x")).requests)
    (event,) = told(asked)
    assert event.message == f"annotation {OURS}reset-request-at means nothing here: did you mean {OURS}reset-requested-at?"
    snapshot = session_snapshot(requests=asked)
    plan = decide(snapshot)
    assert plan.status is not None
    after = applied(snapshot.status, plan.status.status)
    again = session_snapshot(requests=asked, status=after)
    assert [event for event in decide(again).events if event.reason == "UnknownAnnotation"] == []


def test_one_that_is_like_nothing_is_told_what_there_is():
    (event,) = told(dict(objects.session(body(xyz="1")).requests))
    assert f"there are {OURS}install-requested-at, " in event.message


def test_what_is_ours_and_known_is_not_told():
    assert told(dict(objects.session(body(reset_requested_at="2026-11-22T20:00:00Z")).requests)) == []
    made = {"metadata": {"name": "e", "namespace": "n", "annotations": {f"{OURS}changed-by.source": "bob"}}, "spec": {}}
    assert objects.environment(made).requests == {}


def test_environments_are_told_too_and_once():
    made = {"metadata": {"name": "e", "namespace": "n", "annotations": {f"{OURS}refresh-at": "x"}}, "spec": {}}
    asked = objects.environment(made).requests
    snapshot = environment_snapshot(requests=asked)
    plan = environments.decide(snapshot, from_text("x"), NOW)
    (event,) = [event for event in plan.events if event.reason == "UnknownAnnotation"]
    assert f"did you mean {OURS}refresh-requested-at?" in event.message
    assert plan.status is not None
    after = environment_snapshot(requests=asked, status=applied({}, plan.status.status))
    assert [e for e in environments.decide(after, from_text("x"), NOW).events if e.reason == "UnknownAnnotation"] == []


def test_requests_that_only_sessions_know_mean_nothing_to_an_instance():
    made = {"metadata": {"name": "i", "namespace": "n", "annotations": {f"{OURS}reset-requested-at": "x"}}}
    instance = objects.instance({**made, "spec": {"user": "alice@example.com", "vmSize": "Standard_D2s_v5"}})
    assert instance.unknown == f"{OURS}reset-requested-at"
