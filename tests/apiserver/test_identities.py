"""ServiceAccounts of sessions against a real API server: found, waited for, and rarely listed."""

from typing import Any

from apiserver.api import Object, eventually
from apiserver.lab import Lab, refusal

USER = {"flowsession.dev/user": "ada@example.com"}
FAST = {"flowsession.reconcile.identity:LOOK_SECONDS": 0.5}


def account(lab: Lab, name: str, **meta: Any) -> Object:
    body = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, **meta}}
    answer: Object = lab.api.post(lab.path("serviceaccounts"), body)
    return answer


def lists(lab: Lab, since: int) -> int:
    """Return how many times the ServiceAccounts were listed."""
    return sum(request.kind == "serviceaccounts" for request in lab.recorder.requests(since=since))


def test_a_start_looks_once_and_what_is_settled_never(started: Lab) -> None:
    account(started, "adas", annotations=USER)
    started.create_environment()
    before = started.recorder.mark()
    started.create_session()
    session = started.until_ready()
    started.settle()
    assert lists(started, before) == 1
    assert session["status"]["identity"] == {"serviceAccountName": "adas"}
    assert started.the_pod()["spec"]["serviceAccountName"] == "adas"
    before = started.recorder.mark()
    started.operator.restart()
    started.settle(quiet=1.0)
    assert (lists(started, before), started.lines(since=before, without=("flowenvironments",))) == (0, [])


def test_many_starts_at_once_share_their_looks(started: Lab) -> None:
    started.create_environment()
    started.until_environment("Resolved")
    before = started.recorder.mark()
    names = [f"s{number}" for number in range(8)]
    for name in names:
        started.create_session(name)
    for name in names:
        started.until_ready(name, seconds=60)
    asked = [request for request in started.recorder.requests(since=before) if request.kind == "serviceaccounts"]
    assert 1 <= len(asked) <= 2 + (asked[-1].at - asked[0].at) / 2


def test_a_session_waits_for_its_identity_and_starts_when_it_may_have_it(lab: Lab) -> None:
    lab.operator.start(constants=FAST)
    account(lab, "runner")
    lab.create_environment()
    lab.create_session(identity={"type": "Managed", "serviceAccountName": "runner"})
    lab.until_condition("Ready", "IdentityNotAssignable", says="flowsession.dev/assignable")
    assert lab.pods() == []
    lab.until_event("IdentityNotAssignable")
    lab.api.patch(lab.path("serviceaccounts", "runner"), {"metadata": {"labels": {"flowsession.dev/assignable": "true"}}})
    assert lab.until_ready()["status"]["identity"] == {"serviceAccountName": "runner"}


def test_another_identity_is_another_pod(started: Lab) -> None:
    account(started, "runner", labels={"flowsession.dev/assignable": "true"})
    started.create_environment()
    started.create_session()
    started.until_ready()
    before = started.the_pod()["metadata"]["name"]
    started.change_session(identity={"type": "Managed", "serviceAccountName": "runner"})
    eventually(lambda: (pods := started.pods()) and pods[0]["metadata"]["name"] != before, what="another pod")
    assert started.until_ready()["status"]["identity"] == {"serviceAccountName": "runner"}
    assert "ServiceAccount 'runner'" in started.until_event("IdentityChanged")["message"]


def test_identities_that_make_no_sense_are_refused_in_words(started: Lab) -> None:
    on_instance = {"compute": {"type": "Instance", "instanceRef": {"name": "box"}}}
    for spec, words in (
        ({**on_instance, "identity": {"type": "Managed"}}, "a session on a compute instance has the instance's identity"),
        ({"identity": {"serviceAccountName": "runner"}}, "are for type Managed"),
        ({"identity": {"type": "Managed", "serviceAccountName": "runner", "clientID": "1"}}, "not by both"),
    ):
        assert words in refusal(started.create_session, **spec)
    started.create_session(**on_instance)
    assert "has the instance's identity" in refusal(started.change_session, identity={"type": "Managed"})
