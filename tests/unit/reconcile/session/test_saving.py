"""Edits are saved as they are made, and once more when the pod ends. A session without edits costs nothing."""

from dataclasses import replace

import pytest

from flowsession.model.agent_views import EditsView
from flowsession.model.plan import Settle, TakeEdits
from flowsession.reconcile.session.saving import SAVE_SECONDS
from flowsession.settings import AgentVia, Settings
from unit.builders import DAG, agent, condition, decide, resolved, settled_snapshot, stamp, state
from unit.reconcile.session.test_edits import calls, resumed, suspended, until, world_with
from unit.world import NAMESPACE, World

FOR_GOOD = {"action": "None", "timeoutSeconds": 3600}


def editing(content="one"):
    return world_with(content, **FOR_GOOD)


def saved_by_hint(world):
    before = world.saved_edits
    world.hint()
    until(world, lambda: world.saved_edits != before and not world.agent().waiting, 60)
    return world


def messages(world, reason):
    return [event.message for event in world.told.events if event.reason == reason]


def test_a_hint_has_the_edits_saved_while_the_session_goes_on():
    world = saved_by_hint(editing())
    assert world.saved_edits == {"one"}
    assert world.is_ready()
    told = world.status()["edits"]
    assert (told["count"], told["revision"]) == (1, "one")
    assert told["savedTo"].startswith("flow-env-edits-")
    assert told["savedAt"] <= world.status()["lastActivity"]["at"] or told["savedAt"]
    assert calls(world, TakeEdits) == calls(world, Settle) == 1
    assert world.told_of("EditsSaved") == 0, "an Event for each save would be a storm"


def test_the_agent_is_told_that_its_edits_are_safe_during_its_long_poll_too():
    flow = resolved(files={"flow.dag.yaml": DAG})
    waiting = state(flow, edits=EditsView(revision="one", count=1, waiting=True))
    snapshot = settled_snapshot(flow, agent=agent(waiting, flow, saved="one", calling=True, following=True))
    snapshot = replace(snapshot, status={**snapshot.status, "edits": {"revision": "one"}})
    assert decide(snapshot).call == Settle("one", saved=True)
    assert decide(replace(snapshot, agent=replace(snapshot.agent, following=False))).call is None, "another call comes first"


def test_edits_that_were_let_go_are_told_as_such():
    flow = resolved(files={"flow.dag.yaml": DAG})
    let_go = state(flow, edits=EditsView(revision="", count=1, files=("a.py",)))
    plan = decide(settled_snapshot(flow, agent=agent(let_go, flow, calling=True)))
    assert plan.status.status["edits"] == {"count": 1, "files": ["a.py"], "discarded": True}


def test_a_session_that_is_suspended_after_its_edits_were_let_go_says_so():
    world = saved_by_hint(editing())
    world.agent().let_go = True
    world.agent().changed()
    world.live(6.0)  # longer than an answer stays fresh: the suspension asks again
    assert suspended(world).status()["edits"] == {"count": 1, "files": ["a.py"], "discarded": True}
    assert world.saved_edits == set()


def test_a_settled_session_costs_nothing_whatever_was_saved_before():
    world = saved_by_hint(editing())
    world.settle()
    requests, asked = len(world.api.requests), len(world.calls.log)
    world.live(3000)
    assert (len(world.api.requests), len(world.calls.log)) == (requests, asked)


def test_later_edits_replace_earlier_ones_of_the_same_session():
    world = saved_by_hint(editing())
    for content in ("two", "one", "three"):
        world.live(SAVE_SECONDS)
        world.agent().edit(content)
        saved_by_hint(world)
        assert world.saved_edits == {content}
    assert len([name for kind, _, name in world.api.objects if "edits" in name]) == 1


def test_hints_have_it_asked_twice_a_minute_at_most_and_written_about_when_something_changed():
    world = saved_by_hint(editing())
    world.settle()
    writes = len(world.writes())
    for _ in range(300):
        world.hint()
        world.live(1.0)
    assert calls(world, TakeEdits) <= 1 + 300 / SAVE_SECONDS + 1
    assert len(world.writes()) - writes <= 2, "of the last activity"


def test_what_is_changed_back_is_not_kept_as_an_edit():
    world = saved_by_hint(editing())
    world.agent().edit("")
    world.live(SAVE_SECONDS)
    world.hint()
    until(world, lambda: not world.saved_edits, 60)
    assert "edits" not in world.status()


def test_what_can_not_be_saved_is_told_once_and_again_saved_when_it_can():
    world = saved_by_hint(editing())
    world.agent().edit("huge")
    world.agent().too_large = True
    for _ in range(4):
        world.live(SAVE_SECONDS)
        world.hint()
    assert messages(world, "EditsNotSaved") == [
        "what is being edited in the flow folder can't be saved, and is lost if the session's pod is: 2 MB are too much; see flow edits"
    ]
    assert world.status()["edits"]["notSaved"] == "2 MB are too much; see flow edits"
    assert world.saved_edits == {"one"}
    world.agent().too_large = False
    world.live(SAVE_SECONDS)
    world.hint()
    until(world, lambda: world.saved_edits == {"huge"}, 60)
    assert "notSaved" not in world.status()["edits"]


@pytest.mark.parametrize("saved_before", [False, True])
def test_a_deleted_session_has_its_edits_saved_before_its_pod_goes(saved_before):
    world = saved_by_hint(editing()) if saved_before else editing()
    world.agent().edit("last")
    world.delete_session()
    until(world, lambda: world.api.pods == [], 60)
    assert world.saved_edits == {"last"}
    (on_session, on_environment) = [event for event in world.told.events if event.reason == "EditsSaved"]
    assert (on_session.about.kind, on_environment.about.kind) == ("ComputeSession", "FlowEnvironment")
    said = "1 edited file of the flow folder was saved when the pod ended; the next session of alice@example.com gets them"
    assert on_session.message == on_environment.message == f"session alice-flow: {said}"


def asked_for_edits(world):
    """Live until the agent is being asked for its edits, and has not answered."""
    end = world.clock() + 60
    while TakeEdits() not in [call for _, call in world.calls.waiting.values()]:
        assert world.clock() < end
        world.answer_calls()
        world.clock.now += 1.0
        world.work()


def test_a_session_that_is_deleted_while_its_edits_are_being_taken_has_them_saved():
    world = saved_by_hint(editing())
    world.agent().edit("last")
    world.hint(ending=True)
    asked_for_edits(world)
    world.delete_session()
    world.hear()
    world.work()
    world.answer_calls()
    world.work()
    assert world.saved_edits == {"last"}


def test_edits_that_are_announced_during_a_call_for_edits_are_asked_for_once_more():
    world = saved_by_hint(editing())
    world.hint(ending=True)
    asked_for_edits(world)
    world.clock.now += 0.5
    world.hint(ending=True)
    world.answer_calls()
    asked_for_edits(world)
    world.answer_calls()
    asked = calls(world, TakeEdits)
    world.live(60)
    assert calls(world, TakeEdits) == asked


def test_a_deleted_session_whose_edits_are_saved_ends_without_a_write_more():
    world = saved_by_hint(editing())
    world.settle()
    writes = len(world.writes())
    world.delete_session()
    until(world, lambda: world.api.pods == [], 5)
    assert len(world.writes()) == writes
    assert world.saved_edits == {"one"}


def test_the_next_session_waits_for_what_its_predecessor_had():
    world = saved_by_hint(editing())
    world.agent().edit("last")
    body = world.api.session
    world.delete_session()
    world.hear()
    world.work()
    world.api.put({**body, "metadata": {"name": body["metadata"]["name"], "namespace": NAMESPACE, "generation": 1}, "status": {}})
    until(world, world.is_ready, 60)
    assert world.agent().volume["edits"] == "last"
    assert world.saved_edits == {"last"}


def test_what_a_deleted_session_could_not_save_is_told_there_at_its_environment_and_to_who_gets_older_edits():
    world = saved_by_hint(editing())
    world.agent().edit("huge")
    world.agent().too_large = True
    body = world.api.session
    world.delete_session()
    until(world, lambda: world.api.pods == [], 15)
    assert world.saved_edits == {"one"}
    told = messages(world, "EditsNotSaved")
    assert len(told) == 2
    assert "could not be saved: 2 MB are too much" in told[0]
    assert "edited in the session's flow folder after 2027" in told[0]
    world.api.put({**body, "metadata": {"name": body["metadata"]["name"], "namespace": NAMESPACE, "generation": 1}, "status": {}})
    until(world, world.is_ready, 60)
    assert world.agent().volume["edits"] == "one"
    assert any("what session alice-flow edited after that is lost: 2 MB are too much" in said for said in messages(world, "EditsRestored"))


def test_a_refused_config_map_keeps_no_deleted_session():
    world = editing()
    world.api.refused = {"ConfigMap"}
    world.delete_session()
    until(world, lambda: world.api.pods == [], 15)
    assert "exceeded quota" in messages(world, "EditsNotSaved")[0]


def test_a_dead_operator_keeps_a_deleted_session_for_a_bounded_time():
    world = editing()
    world.delete_session()
    began = world.clock()
    while world.api.pods:
        world.kubelet()
        world.clock.now += 0.5
    assert world.clock() - began <= 21


def test_when_the_environment_goes_too_that_is_told():
    world = editing()
    world.delete_session()
    world.remove_environment()
    until(world, lambda: world.api.pods == [], 15)
    assert "its FlowEnvironment is gone too" in messages(world, "EditsNotSaved")[0]
    assert world.saved_edits == set()


@pytest.mark.parametrize("how", ["evicted", "ended by its node"])
def test_a_pod_that_somebody_else_ends_takes_its_edits_along(how):
    world = saved_by_hint(editing())
    world.agent().edit("last")
    first = world.status()["podName"]
    pod = world.api.pods[0]
    if how == "evicted":
        world.delete_pod(pod)
    else:
        world.hint(ending=True)
        world.live(5)
        world.pod_fails(pod)
    until(world, lambda: world.is_ready() and world.status()["podName"] != first, 60)
    assert world.agent().volume["edits"] == "last"
    assert world.told_of("EditsSaved") == (how == "evicted")
    assert world.saved_edits == {"last"}


@pytest.mark.parametrize("seen_deleting", [False, True])
def test_a_pod_that_is_lost_says_from_when_its_edits_are(seen_deleting):
    world = saved_by_hint(editing())
    saved_at = world.status()["edits"]["savedAt"]
    world.agent().edit("lost")
    pod = world.api.pods[0]
    if seen_deleting:  # a forced deletion, seen before the pod is gone
        pod["metadata"]["deletionTimestamp"] = stamp(world.clock())
        world.api.changed(pod)
        world.hear()
        world.work()
    world.api.remove(pod)
    until(world, lambda: world.is_ready() and world.status()["podName"] != pod["metadata"]["name"], 60)
    assert world.agent().volume["edits"] == "one"
    assert any(f"comes back as it was saved at {saved_at}, what was edited later is lost" in event.message for event in world.told.events)


def test_a_pod_of_a_deleted_session_on_a_lost_node_is_told_of():
    world = saved_by_hint(editing())
    world.agent().edit("lost")
    world.agent().dead = True
    world.kubelet = lambda: None
    world.delete_session()
    world.live(120)
    told = messages(world, "EditsNotSaved")
    assert len(told) == 2
    assert f"after {world.snapshots.departed((NAMESPACE, world.api.pods[0]['metadata']['name']), 0).status['edits']['savedAt']}" in told[0]


@pytest.mark.parametrize("via", [AgentVia.PROXY, AgentVia.DIRECT])
def test_where_no_hint_arrives_sessions_in_use_are_asked(via):
    folder = {"requirementsText": "", "source": {"configMap": {"name": "flow"}}}
    world = World(environment=folder, idle=FOR_GOOD, settings=Settings(agent_via=via))
    world.settle(until_ready=True)
    world.agent().unheard = via is AgentVia.DIRECT
    world.agent().edit("one")
    if via is AgentVia.DIRECT:
        world.hint()  # the only one that arrives
    until(world, lambda: world.saved_edits == {"one"}, 40)
    world.agent().edit("two")
    until(world, lambda: world.saved_edits == {"two"}, 40)
    asked = calls(world, TakeEdits)
    world.live(3600)
    assert calls(world, TakeEdits) - asked < 3600 / SAVE_SECONDS / 2, "less and less"


@pytest.mark.parametrize("fatal", range(1, 6))
def test_edits_survive_an_operator_that_is_killed_at_any_request_of_a_save(fatal):
    world = saved_by_hint(editing())
    world.live(SAVE_SECONDS)
    world.agent().edit("two")
    requests = len(world.api.requests)
    world.hint()
    end = world.clock() + 5
    while len(world.api.requests) < requests + fatal and world.clock() < end:
        world.hear()
        if world.todo.take() and (plan := world.plan()) is not None:
            killed_after(world, plan, requests + fatal)
        world.answer_calls()
        world.clock.now += 0.1
    assert world.saved_edits
    world.restart_operator()
    world.hint()
    until(world, lambda: not world.agent().waiting, 60)
    world.live(5)
    assert world.saved_edits >= {"two"}, "a former save that nobody came to remove is older, and never given back"
    resumed(suspended(world))
    assert world.agent().volume["edits"] == "two"


class Killed(BaseException):
    """Stops the operator: none of its handlers catches this."""


def killed_after(world, plan, most):
    """Carry out a plan until the API server has got `most` requests, then kill the operator."""
    from unit.world import SESSION, _run

    real = world.api.request

    async def count(verb, kind, namespace, name):
        if len(world.api.requests) >= most:
            raise Killed
        await real(verb, kind, namespace, name)

    world.api.request = count
    try:
        _run(world.executor.carry_out(SESSION, world.cache.sessions[NAMESPACE, "alice-flow"].meta.uid, plan))
    except Killed:
        return
    finally:
        world.api.request = real


def test_what_is_left_out_is_told_once():
    world = saved_by_hint(editing())
    world.agent().left_out = 2
    for _ in range(3):
        world.live(SAVE_SECONDS)
        world.hint()
    assert world.status()["edits"]["leftOut"] == 2
    assert messages(world, "EditsLeftOut") == [
        "2 files or folders are not saved with the edits, by a name that secrets have, by the folder's ignore file, or since the home holds"
        " too much; `flow edits` in the session tells which"
    ]


def test_an_edit_that_a_push_moved_aside_is_told_until_it_is_dealt_with():
    world = saved_by_hint(editing())
    world.agent().kept = ("a.py.kept",)
    world.live(SAVE_SECONDS)
    world.hint()
    world.live(5)
    found = condition(world.status(), "EditsInPlace")
    assert (found["status"], found["reason"]) == ("False", "KeptAside")
    assert "the edits are in a.py.kept now; compare by `flow edits --diff`" in found["message"]
    assert world.told_of("KeptAside") == 1
    world.agent().kept = ()
    world.live(SAVE_SECONDS)
    world.hint()
    world.live(5)
    assert condition(world.status(), "EditsInPlace")["reason"] == "InPlace"


def test_edits_of_another_version_of_the_flow_are_told_of():
    world = suspended(saved_by_hint(editing()))
    changed = world.api.objects["ConfigMap", "team", "flow"]
    changed["data"] = {"flow.dag.yaml": "nodes: []\ninputs: {}\n"}
    world.api.changed(changed)
    resumed(world)
    found = condition(world.status(), "EditsInPlace")
    assert (found["status"], found["reason"]) == ("False", "NotRestored")
    assert "edits that session alice-flow saved at 2027" in found["message"]
    assert "run `flow restore`" in found["message"]
    assert world.told_of("NotRestored") == 1
    world.restart_operator()
    world.hint()
    world.live(60)
    assert condition(world.status(), "EditsInPlace")["message"] == found["message"]
    assert world.told_of("NotRestored") == 1


def test_a_config_map_that_the_operator_did_not_write_is_told_of_at_the_next_start():
    world = suspended(saved_by_hint(editing()))
    real = next(body for (kind, _, name), body in world.api.objects.items() if kind == "ConfigMap" and "edits" in name)
    fake = {**real, "metadata": {**real["metadata"], "name": "flow-env-edits-fake", "uid": "fake"}}
    fake["metadata"]["annotations"] = {**real["metadata"]["annotations"], "flowsession.dev/sequence": "9" * 15}
    world.api.put(fake)
    resumed(world)
    assert world.agent().volume["edits"] == "one"
    (message,) = messages(world, "EditsIgnored")
    assert message.startswith("ConfigMap flow-env-edits-fake claims to hold saved edits, but this operator did not write it")


def test_nothing_is_said_to_be_lost_where_there_was_no_flow_folder():
    world = World(environment={"requirementsText": ""}, idle=FOR_GOOD)
    world.settle(until_ready=True)
    world.agent().dead = True
    world.kubelet = lambda: None
    world.delete_session()
    world.live(120)
    assert world.told_of("EditsNotSaved") == 0
