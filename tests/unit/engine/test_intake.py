"""What enters the cache: an unreadable object affects nothing but itself, at the start, in a watch and in a re-list."""

import asyncio
from typing import Any

import pytest

from flowsession.cluster import errors
from flowsession.engine.intake import SETTLE_SECONDS, STARTING_SECONDS
from flowsession.engine.loop import SELECTORS, SILENT_FAILURES, Engine
from flowsession.engine.nodes import gather
from flowsession.engine.store import objects
from flowsession.engine.store.keys import Key
from flowsession.model.resolved import Unresolved
from flowsession.model.views import PodIdentity
from flowsession.reconcile import identity
from unit.builders import NAMESPACE
from unit.engine.store.test_cache import body, environment, pod, session, source

Object = dict[str, Any]


async def decided(engine: Engine) -> None:
    """Decide on everything in the queue."""
    while engine.queue._ready:
        key = await engine.queue.get()
        await engine._reconcile(key)
        engine.queue.done(key)


SIZE = {"azureName": "Standard_D2s_v5", "capacity": {"cpu": "2", "memory": "8Gi"}}
RUN = {"user": "alice@example.com", "environmentRef": {"name": "env"}, "data": {"path": "data.jsonl"}}
READERS = {
    "ComputeSession": ("session", session()),
    "FlowEnvironment": ("environment", environment()),
    "Pod": ("pod", pod()),
    "VMSize": ("size", body("VMSize", "small", spec=SIZE)),
    "ComputeInstance": ("instance", body("ComputeInstance", "box", spec={"user": "alice@example.com", "vmSize": "Standard_D2s_v5"})),
    "FlowRun": ("run", body("FlowRun", "answers", spec=RUN)),
}
RAISED = [RecursionError("too deep"), ValueError("x"), TypeError("x"), KeyError("x"), MemoryError(), objects.Unreadable("x")]


@pytest.mark.parametrize("raised", RAISED, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("way", ["re-list", "watch"])
async def test_whatever_is_raised_costs_that_object_alone(engine, server, monkeypatch, kind, raised, way):
    reader, good = READERS[kind]
    bad = {**good, "metadata": {**good["metadata"], "name": "bad", "uid": "uid-bad"}}
    read = getattr(objects, reader)

    def reading(found: Object) -> Any:
        if found["metadata"]["name"] == "bad":
            raise raised
        return read(found)

    monkeypatch.setattr(engine.cache._kinds[kind], "_read", reading)
    if way == "watch":
        engine.observe(kind, bad)
        engine.observe(kind, good)
    else:
        server.lists[kind] = [bad, good]
        await engine.resync()
    assert [name for _, name in engine.cache.names(kind)] == [good["metadata"]["name"]]
    assert await engine._reconcile(Key(kind, NAMESPACE, "bad"))
    await engine._reconcile(Key(kind, NAMESPACE, "bad"))
    assert server.told == [(kind, "bad", "Unreadable")], "its owner is told, and once"
    assert server.events[0]["involvedObject"]["apiVersion"] == ("v1" if kind == "Pod" else "flowsession.dev/v1alpha1")


async def test_nothing_is_decided_by_what_an_object_was_before_it_could_not_be_read(engine):
    """A write of its status would be refused forever, since the object has another resourceVersion by now."""
    engine.observe("ComputeSession", session(1))
    key = Key("ComputeSession", NAMESPACE, "alice")
    assert engine.plan(key)[1] is not None
    engine.observe("ComputeSession", {**session(2), "spec": {"idle": "x"}})
    assert engine.plan(key)[1] is None
    engine.observe("ComputeSession", session(3))
    assert engine.plan(key)[1] is not None


async def test_an_object_that_could_not_be_read_and_is_gone_is_forgotten(engine, server):
    for number in range(3):  # each is another object of the same name
        meta = {**session()["metadata"], "uid": f"uid-{number}"}
        bad = {**session(), "metadata": meta, "spec": {"idle": "x"}}
        engine.observe("ComputeSession", bad)
        assert engine._intake.unread(Key("ComputeSession", NAMESPACE, "alice"))
        if number == 2:
            await engine.resync()
        else:
            engine.observe("ComputeSession", bad, deleted=True)
        assert not engine._intake.unread(Key("ComputeSession", NAMESPACE, "alice"))


NAMELESS = [None, "x", {}, {"metadata": None}, {"metadata": {"name": None, "namespace": 3}}, {"metadata": {"namespace": NAMESPACE}}]


@pytest.mark.parametrize("nameless", NAMELESS, ids=range(len(NAMELESS)))
async def test_what_has_no_name_drops_nothing_that_is_known(engine, server, nameless):
    """It may be any of the objects that are missing from this list."""
    engine.observe("Pod", pod())
    server.lists["Pod"] = [nameless]
    await engine.resync()
    assert len(engine.cache.pods) == 1
    server.lists["Pod"] = []
    await engine.resync()
    assert not engine.cache.pods


DEEP = "[" * 2000


@pytest.mark.parametrize(
    "noted", [DEEP, DEEP + "]" * 2000, "[" * 900 + "]" * 900, '{"account": ' + "9" * 5000 + "}", "[]", "7", "null", ""]
)
async def test_one_annotation_stops_nobody(engine, server, noted):
    """json raises RecursionError if the nesting is too deep. A pod with such an annotation once ended the operator."""
    hostile = pod()
    hostile["metadata"]["annotations"] = {identity.POD_ANNOTATION: noted}
    server.lists["Pod"] = [hostile]
    await engine.resync()
    assert engine.cache.pods[NAMESPACE, "alice-1"].view.identity == PodIdentity()


@pytest.mark.parametrize(
    "raised", [errors.Rejected("forbidden", status=403), ValueError("Expecting value: line 1"), RecursionError("too deep")]
)
async def test_a_kind_that_cannot_be_listed_costs_the_others_nothing(engine, server, raised):
    server.lists = {"ComputeSession": raised, "Pod": [pod()]}
    engine.observe("ComputeSession", session())
    with pytest.raises(type(raised)):
        await engine.resync()
    assert server.listed == list(SELECTORS)
    assert set(engine.cache.pods) == {(NAMESPACE, "alice-1")}
    assert set(engine.cache.sessions) == {(NAMESPACE, "alice")}, "what could not be listed is not gone"


async def test_an_api_server_that_does_not_answer_is_not_asked_for_every_kind(engine, server):
    server.lists = {"FlowEnvironment": errors.Unavailable("no answer")}
    with pytest.raises(errors.Unavailable):
        await engine.resync()
    assert server.listed == ["FlowEnvironment"]


async def test_content_that_breaks_a_parser_is_its_environments_problem(engine, monkeypatch):
    def broken(*_: Any) -> Any:
        raise RecursionError("too deep")

    monkeypatch.setattr("flowsession.reconcile.environment.resolve.resolve", broken)
    engine.observe("FlowEnvironment", environment())
    engine.observe("ConfigMap", source("a"))
    _, found = engine._snapshots.environment((NAMESPACE, "flow-env"))
    assert isinstance(found, Unresolved) and "RecursionError" in found.message
    _, plan = engine.plan(Key("FlowEnvironment", NAMESPACE, "flow-env"))
    ready = next(c for c in plan.status.status["conditions"] if c["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "Unreadable")


async def test_a_decision_that_keeps_failing_is_told_where_its_owner_looks(engine, server, monkeypatch):
    def broken(*_: Any, **__: Any) -> Any:
        raise TypeError("not that")

    engine.observe("ComputeSession", session())
    monkeypatch.setattr(engine._snapshots, "session", broken)
    key = Key("ComputeSession", NAMESPACE, "alice")
    for _ in range(2 * SILENT_FAILURES):
        engine.queue.retry(key)
        await engine._report_failure(key, TypeError("not that"))
    assert server.told == [("ComputeSession", "alice", "DecisionFailed")]


def test_a_node_that_cannot_be_read_costs_only_itself():
    grouped: Any = {}
    good = {"metadata": {"name": "a"}, "status": {"allocatable": {"cpu": "2"}}}
    gather([{"metadata": {"name": "x"}, "spec": {"taints": [{}]}}, {}, good], set(), {"cpu"}, grouped)
    assert [count for _, count in grouped.values()] == [1]


async def test_the_source_of_an_environment_is_taken_in_by_the_same_way(engine):
    engine.observe("FlowEnvironment", environment())
    engine.observe("ConfigMap", {**source("a"), "binaryData": {"x": 7}})
    assert engine._intake.unread(Key("ConfigMap", NAMESPACE, "flow"))
    engine.observe("ConfigMap", source("a", 2))
    assert not engine._intake.unread(Key("ConfigMap", NAMESPACE, "flow"))


async def test_the_echo_of_an_own_write_is_not_read_again(engine, monkeypatch):
    engine.observe("Pod", pod(2))
    monkeypatch.setattr(engine.cache.pods, "_read", lambda body: pytest.fail("read again"))
    engine.observe("Pod", pod(2))
    engine.observe("Pod", pod(1))


SESSION = Key("ComputeSession", NAMESPACE, "alice")


def ready(engine: Engine) -> set[Key]:
    """Remove and return the keys that would be decided on now."""
    found = {key for _, _, key in engine.queue._ready}
    engine.queue._ready.clear()
    engine.queue._waiting.clear()
    return found


async def test_a_decision_that_nobody_waits_for_is_put_off_and_goes_with_the_next_one(engine):
    engine.observe("ComputeSession", session())
    assert SESSION in ready(engine)
    engine._intake.take("ComputeSession", session(2), by=SESSION)
    engine.observe("Pod", pod(3))
    assert ready(engine) == set(), "the plan that wrote it had said all, and a pod that is Pending leaves nothing to do"
    assert SESSION in engine.queue._due
    engine.observe("Pod", pod(4, running=True))
    assert ready(engine) == {SESSION}


UNSCHEDULED = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2 nodes are available"}


def container(**state: Any) -> Object:
    return {"containerStatuses": [{"name": "session", "restartCount": 0, "state": state}]}


PENDING: dict[str, tuple[Object, float]] = {
    "the scheduler has not seen it": ({}, STARTING_SECONDS),
    "its container is being created": (container(waiting={"reason": "ContainerCreating"}), STARTING_SECONDS),
    "no node has room": ({"conditions": [UNSCHEDULED]}, SETTLE_SECONDS),
    "its image can't be pulled": (container(waiting={"reason": "ErrImagePull"}), SETTLE_SECONDS),
    "its container ended": (container(terminated={"exitCode": 1, "reason": "Error"}), SETTLE_SECONDS),
}


@pytest.mark.parametrize("what", PENDING)
async def test_trouble_of_a_pending_pod_is_decided_on_soon_and_mere_progress_later(engine, what):
    status, seconds = PENDING[what]
    engine.observe("ComputeSession", session())
    ready(engine)
    engine.observe("Pod", {**pod(3), "status": {"phase": "Pending", **status}})
    assert ready(engine) == set()
    assert engine.queue._due[SESSION] - asyncio.get_running_loop().time() == pytest.approx(seconds, abs=0.1)


async def test_a_session_that_waits_for_its_instance_is_decided_on_soon_once_the_anchor_has_a_node(engine):
    spec = {"environmentRef": {"name": "flow-env"}, "user": "alice@example.com", "compute": {"instanceRef": {"name": "box"}}}
    engine.observe("ComputeSession", body("ComputeSession", "alice", spec=spec))
    ready(engine)
    owner = [{"kind": "ComputeInstance", "uid": "uid-box", "controller": True}]
    meta = {"labels": {"flowsession.dev/instance": "box"}, "ownerReferences": owner}
    engine.observe("Pod", body("Pod", "box-anchor-1", 2, metadata=meta, spec={"nodeName": "node-a"}, status={"phase": "Pending"}))
    assert ready(engine) == set()
    assert engine.queue._due[SESSION] - asyncio.get_running_loop().time() == pytest.approx(SETTLE_SECONDS, abs=0.1)


async def test_a_pending_pod_that_is_being_deleted_is_decided_on_at_once(engine):
    engine.observe("ComputeSession", session())
    ready(engine)
    going = pod(3)
    engine.observe("Pod", {**going, "metadata": {**going["metadata"], "deletionTimestamp": "2026-11-20T10:00:00Z"}})
    assert ready(engine) == {SESSION}


async def test_what_others_write_is_decided_on_at_once(engine):
    engine.observe("ComputeSession", session())
    ready(engine)
    engine._intake.take("ComputeSession", session(2), by=Key("FlowEnvironment", NAMESPACE, "env"))
    assert ready(engine) == {SESSION}


async def test_a_decision_that_was_put_off_comes(engine, monkeypatch):
    monkeypatch.setattr("flowsession.engine.intake.SETTLE_SECONDS", 0.01)
    engine.observe("ComputeSession", session())
    ready(engine)
    engine._intake.take("ComputeSession", session(2), by=SESSION)
    async with asyncio.timeout(10):
        assert await engine.queue.get() == SESSION
