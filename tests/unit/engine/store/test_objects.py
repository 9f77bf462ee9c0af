"""Reading API objects into views: which parts of a pod's status the decisions see."""

from typing import Any

import pytest

from flowsession.engine.store import objects
from unit.builders import NOW, stamp


def pod(status: dict[str, Any], **meta: Any) -> Any:
    return objects.pod({"metadata": {"name": "p", "namespace": "n", **meta}, "spec": {}, "status": status}).view


def container(**status: Any) -> Any:
    return pod({"containerStatuses": [{"name": "other"}, {"name": "session", **status}]}).container


def test_an_empty_pod_is_pending():
    view = pod({})
    assert (view.phase, view.running, view.container, view.deleting_since) == ("Pending", False, None, None)


MIRROR = "mirror.example.com/flow:1"


@pytest.mark.parametrize(("annotations", "image"), [({"flowsession.dev/image": "flow:1"}, "flow:1"), ({}, MIRROR), (None, MIRROR)])
def test_a_pods_image_is_the_one_that_was_asked_for(annotations, image):
    """An admission webhook may write a mirror's name into the spec, which is no change of the environment's image."""
    spec = {"containers": [{"name": "sidecar", "image": "proxy"}, {"name": "session", "image": MIRROR}]}
    body = {"metadata": {"name": "p", "namespace": "n", "annotations": annotations}, "spec": spec, "status": {}}
    assert objects.pod(body).view.image == image


def test_why_it_ended_is_read_of_the_present_state_first():
    last = {"terminated": {"reason": "Error", "exitCode": 1}}
    now = container(state={"terminated": {"reason": "OOMKilled", "exitCode": 137, "message": "m" * 5000}}, lastState=last)
    assert (now.ended_reason, now.ended_code, len(now.ended_message)) == ("OOMKilled", 137, 4000)
    before = container(state={"running": {"startedAt": stamp(NOW)}}, lastState=last, restartCount=2)
    assert (before.ended_reason, before.running_since, before.restarts) == ("Error", NOW, 2)


@pytest.mark.parametrize(
    ("condition", "message", "scheduled"),
    [
        ({"status": "False", "message": "0/2 nodes"}, "0/2 nodes", None),
        ({"status": "False", "reason": "SchedulingGated"}, "SchedulingGated", None),
        ({"status": "True", "lastTransitionTime": stamp(NOW)}, "", NOW),
    ],
)
def test_what_the_scheduler_says(condition, message, scheduled):
    view = pod({"conditions": [{"type": "PodScheduled", **condition}]})
    assert (view.unscheduled_message, view.scheduled_at) == (message, scheduled)


def test_preemption_is_a_reason():
    view = pod(
        {"phase": "Failed", "conditions": [{"type": "DisruptionTarget", "reason": "PreemptionByScheduler", "message": "for a better one"}]}
    )
    assert (view.disruption, view.message) == ("PreemptionByScheduler", "for a better one")


@pytest.mark.parametrize(("conditions", "unready"), [([], False), (["True"], False), (["False"], True)])
def test_a_node_that_does_not_answer_makes_its_pods_unready(conditions, unready):
    assert pod({"phase": "Running", "conditions": [{"type": "Ready", "status": status} for status in conditions]}).unready is unready


def test_running_needs_an_address():
    running = [{"name": "session", "state": {"running": {"startedAt": stamp(NOW)}}}]
    assert not pod({"phase": "Running", "containerStatuses": running}).running
    assert pod({"phase": "Running", "podIP": "10.0.0.1", "containerStatuses": running}).running


def test_files_of_a_config_map():
    body = {"data": {"a": "text"}, "binaryData": {"b": "/w==", "c": "A"}}
    assert objects.files(body) == {"a": b"text", "b": b"\xff", "c": b""}
    assert objects.files({}) == {}
