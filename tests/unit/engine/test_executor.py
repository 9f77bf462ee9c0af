"""The executor: the order in which a plan is carried out, and what happens if something interferes."""

from dataclasses import replace

import pytest

from flowsession.cluster import errors
from flowsession.engine.executor import BUSY, LISTS_AT_ONCE, SECONDS_PER_STATUS, STATUSES_AT_ONCE
from flowsession.model.plan import AnnotatePod, Create, Delete, Event, PatchStatus, Plan
from unit.builders import NAME, NAMESPACE, NOW
from unit.world import BOX, SESSION, World, _run

IDLE = Event(False, "Idle", "the session is being deleted")


@pytest.fixture
def world() -> World:
    world = World(environment={"requirementsText": ""})
    world.settle(until_ready=True)
    world.told.events.clear()
    world.api.requests.clear()
    return world


def end_of(world: World, *, valid_until: float | None) -> Plan:
    meta = world.cache.sessions[NAMESPACE, NAME].meta
    delete = Delete("ComputeSession", NAMESPACE, NAME, meta.uid, meta.resource_version, valid_until=valid_until)
    return Plan(deletes=(delete,), events=(IDLE,))


def a_config_map(name: str) -> dict[str, object]:
    labels = {"app.kubernetes.io/managed-by": "flowsession"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels}}


def carry_out(world: World, plan: Plan) -> None:
    world.todo.take()
    _run(world.executor.carry_out(SESSION, world.cache.sessions[NAMESPACE, NAME].meta.uid, plan))


def slow(world: World, seconds: float) -> None:
    """Make every Event take that many seconds from now on."""
    record = world.told.record

    async def later(*arguments, **how) -> bool:
        world.clock.now += seconds
        return await record(*arguments, **how)

    world.told.record = later  # type: ignore[method-assign]


def test_an_end_in_time_is_told_of_and_brought_about(world):
    carry_out(world, end_of(world, valid_until=world.clock() + 5))
    assert (world.api.session, world.told.events) == (None, [IDLE])


def test_an_end_that_comes_too_late_is_not_sent_but_decided_again(world):
    slow(world, 6.0)
    carry_out(world, end_of(world, valid_until=world.clock() + 5))
    assert "DELETE ComputeSession" not in world.api.requests
    assert world.api.session is not None
    assert world.todo.now, "decided again at once"


def test_the_next_try_is_not_told_anew_and_so_not_late_again(world):
    slow(world, 6.0)
    for _ in range(2):
        carry_out(world, end_of(world, valid_until=world.clock() + 5))
    assert (world.api.session, world.told.events) == (None, [IDLE])


@pytest.mark.parametrize("meanwhile", ["told otherwise", "a minute later"])
def test_another_end_is_told_of_again(world, meanwhile):
    slow(world, 6.0)
    carry_out(world, end_of(world, valid_until=world.clock() + 5))
    if meanwhile == "told otherwise":
        carry_out(world, Plan(events=(Event(False, "EndCalledOff", "it stays"),)))
    else:
        world.clock.now += 60
    carry_out(world, end_of(world, valid_until=world.clock() + 5))
    assert [event.reason for event in world.told.events].count("Idle") == 2


def test_what_the_end_builds_on_comes_first_and_its_refusal_keeps_it(world):
    plan = replace(end_of(world, valid_until=None), creates=(Create(a_config_map("x")),))
    world.api.refused = {"ConfigMap"}
    carry_out(world, plan)
    assert (world.api.requests, world.told.events) == (["POST ConfigMap"], [])
    world.api.refused = set()
    carry_out(world, plan)
    assert world.api.requests[1:] == ["POST ConfigMap", "DELETE ComputeSession"]


def test_a_list_of_packages_that_stands_in_a_config_map_is_not_kept_in_memory():
    world = World(environment={"requirementsText": "pandas\n"})
    world.settle()
    assert "POST ConfigMap" in world.api.requests
    assert [view.packages for view in world.cache.agents.values()] == [None]


def test_a_suspension_that_comes_too_late_costs_nobody_a_pod(world):
    meta = world.cache.sessions[NAMESPACE, NAME].meta
    (pod,) = world.live_pods()
    patch = PatchStatus("ComputeSession", NAMESPACE, NAME, meta.resource_version, {"phase": "Suspending"}, valid_until=NOW)
    delete = Delete("Pod", NAMESPACE, pod["metadata"]["name"], pod["metadata"]["uid"])
    carry_out(world, Plan(status=patch, deletes=(delete,), events=(Event(False, "Suspended", "x"),)))
    assert (world.api.requests, world.told.events) == ([], [])
    assert world.todo.now


def test_statuses_about_one_session_are_written_so_often_and_no_more(world):
    for turn in range(200):
        meta = world.cache.sessions[NAMESPACE, NAME].meta
        patch = PatchStatus("ComputeSession", NAMESPACE, NAME, meta.resource_version, {"phase": f"turn {turn}"})
        carry_out(world, Plan(status=patch))
    assert 20 <= world.api.requests.count("PATCH ComputeSession") <= STATUSES_AT_ONCE
    assert world.todo.due <= world.clock() + SECONDS_PER_STATUS, "what was not written is decided again"
    world.clock.now += SECONDS_PER_STATUS
    before = len(world.api.requests)
    carry_out(world, Plan(status=replace(patch, resource_version=world.cache.sessions[NAMESPACE, NAME].meta.resource_version)))
    assert len(world.api.requests) == before + 1


def test_so_are_config_maps(world):
    for turn in range(50):
        carry_out(world, Plan(creates=(Create(a_config_map(f"list-{turn}")),)))
    assert world.api.requests.count("POST ConfigMap") <= LISTS_AT_ONCE


WARNING = Event(False, "IdleSoon", "the session will be deleted in a minute")


def warn(world: World, **more) -> Plan:
    """Return a plan with a status that says people were warned, and the Event that warns them."""
    version = world.cache.sessions[NAMESPACE, NAME].meta.resource_version
    status = {"conditions": [{"type": "Active", "status": "False", "reason": "IdleSoon", "message": WARNING.message}]}
    return Plan(status=PatchStatus("ComputeSession", NAMESPACE, NAME, version, status), events=(WARNING,), **more)


def carried_out(world: World, plan: Plan) -> bool:
    try:
        carry_out(world, plan)
    except errors.ClusterError:
        return False
    return True


@pytest.mark.parametrize("failing", ["PATCH ComputeSession", "PATCH Pod"])
def test_what_the_status_says_was_told_was_told(world, failing):
    """This holds whichever request of the plan fails. A failed write of the pod's annotations once dropped the Event too."""
    (pod,) = world.live_pods()
    marks = AnnotatePod(NAMESPACE, pod["metadata"]["name"], pod["metadata"]["uid"], {"a": "b"})
    request = world.api.request

    async def requested(verb, kind, namespace, name) -> None:
        if f"{verb} {kind}" == failing:
            raise errors.Unavailable("no answer")
        await request(verb, kind, namespace, name)

    world.api.request = requested  # type: ignore[method-assign]
    assert not carried_out(world, warn(world, annotate=marks))
    assert world.told.events == [WARNING]


def test_an_event_comes_before_the_status_that_says_so(world):
    order: list[str] = []
    record = world.told.record

    async def recorded(*arguments, **how) -> bool:
        order.extend([*world.api.requests, "Event"])
        return await record(*arguments, **how)

    world.told.record = recorded  # type: ignore[method-assign]
    carry_out(world, warn(world))
    assert order == ["Event"]


def test_a_status_waits_for_the_event_that_it_builds_on(world):
    async def refused(*_, late: bool = True) -> bool:
        return late

    record, world.told.record = world.told.record, refused  # type: ignore[method-assign]
    before = world.status()
    assert not carried_out(world, warn(world))
    assert world.status() == before
    world.told.record = record  # type: ignore[method-assign]
    assert carried_out(world, warn(world))
    assert world.told.events == [WARNING]


def test_a_status_that_failed_is_written_without_telling_anew(world):
    world.api.down = 1
    assert not carried_out(world, warn(world))
    world.api.rivals = 1
    assert carried_out(world, warn(world)), "somebody else was first"
    assert carried_out(world, warn(world))
    assert (world.told.events, world.status()["conditions"][0]["reason"]) == ([WARNING], "IdleSoon")
    assert carried_out(world, warn(world))
    assert world.told.events == [WARNING] * 2, "what got through is forgotten"


def test_an_end_that_was_refused_takes_nothing_else_along(world):
    (pod,) = world.live_pods()
    also = Delete("Pod", NAMESPACE, pod["metadata"]["name"], pod["metadata"]["uid"])
    plan = end_of(world, valid_until=None)
    world.api.rivals = 1
    carry_out(world, replace(plan, deletes=(*plan.deletes, also)))
    assert world.api.session is not None
    assert "DELETE Pod" not in world.api.requests
    assert world.live_pods() == [pod]


def test_when_an_instance_was_written_is_remembered(world):
    """A write of counts alone waits until ten seconds after it."""
    world.set_instance()
    world.hear()
    entry = world.cache.sizing.instances.entries[NAMESPACE, BOX]
    write = PatchStatus("ComputeInstance", NAMESPACE, BOX, entry.meta.resource_version, {"sessions": 3})
    carry_out(world, Plan(status=write))
    assert world.cache.sizing.instances.written_at[NAMESPACE, BOX] == world.clock()
    assert world.snapshots.instance((NAMESPACE, BOX), world.clock()).written_at == world.clock()


@pytest.mark.parametrize("others", [BUSY - 1, BUSY])
def test_where_many_wait_what_went_well_is_told_later_and_what_did_not_or_ends_at_once(world, others):
    world.todo.others = others
    ready, refused = Event(False, "Ready", "it runs"), Event(True, "InstallFailed", "no such package")
    carry_out(world, replace(warn(world), events=(ready, refused, WARNING)))
    assert (ready in world.told.deferred, ready in world.told.events) == (others == BUSY, others < BUSY)
    assert {refused, WARNING} <= set(world.told.events)
    carry_out(world, end_of(world, valid_until=None))
    assert IDLE in world.told.events
