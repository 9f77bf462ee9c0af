"""Edits outlive their session: they are saved before the pod ends, and given to the next session of the same user."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowsession.model.plan import Probe, Retire, TakeEdits
from unit.builders import condition
from unit.world import World

FOLDER = {"requirementsText": "", "source": {"configMap": {"name": "flow"}}}


def world_with(edited="one", **idle):
    world = World(environment=FOLDER, idle={"timeoutSeconds": 60, **idle})
    world.settle(until_ready=True)
    if edited:
        world.agent().edit(edited)
    return world


def until(world, check, seconds=400):
    end = world.clock() + seconds
    while not check():
        assert world.clock() < end, world.status()
        world.live(1.0)


def suspended(world):
    world.change_session(suspend=True)
    until(world, lambda: world.status()["phase"] == "Suspended")
    return world


def resumed(world):
    world.change_session(suspend=False)
    until(world, world.is_ready)
    return world


def calls(world, *kinds):
    return sum(isinstance(call, kinds) for call in world.calls.log)


def test_edits_are_saved_before_the_idle_end():
    world = world_with("one")
    until(world, lambda: world.api.session is None)
    assert world.saved_edits == {"one"}
    writes = world.writes()
    assert writes.index("DELETE ComputeSession") > len(writes) - 1 - writes[::-1].index("POST ConfigMap")
    assert calls(world, TakeEdits) == 1


def test_edits_that_are_let_go_a_moment_before_a_suspension_do_not_come_back():
    world = world_with("one", action="None")
    world.hint()
    until(world, lambda: calls(world, TakeEdits))
    world.agent().edit("")
    world.hint()
    resumed(suspended(world))
    assert world.saved_edits == set()


def test_a_session_without_edits_ends_with_the_calls_of_one_without_a_folder():
    world = world_with("")
    until(world, lambda: world.api.session is None)
    assert (calls(world, TakeEdits), calls(world, Probe, Retire)) == (0, 2)
    assert world.saved_edits == set()


def test_the_warning_names_the_edited_files():
    world = world_with("one")
    until(world, lambda: condition(world.status(), "Active").get("reason") == "IdleSoon")
    assert "the edited files are saved first: a.py" in condition(world.status(), "Active")["message"]
    assert world.status()["edits"] == {"count": 1, "files": ["a.py"]}


@pytest.mark.parametrize("to", [{"vmSize": "Standard_D2s_v5"}, {"type": "Instance", "instanceRef": {"name": "box"}}], ids=["size", "box"])
def test_a_move_to_other_compute_takes_them_along(to):
    world = world_with("one")
    first = world.agent()
    world.add_size("Standard_D2s_v5")
    world.set_instance()
    world.change_session(compute=to)
    until(world, lambda: world.is_ready() and world.agent() is not first)
    assert world.agent().volume["edits"] == "one"
    assert world.told_of("ComputeChanged") == 1
    writes = world.writes()
    assert writes.index("POST ConfigMap") < writes.index("DELETE Pod")


@pytest.mark.parametrize("how", [{"stopped": "User"}, {"stopped": "Idle"}, None], ids=["stopped", "idle", "deleted"])
def test_a_session_that_loses_its_instance_takes_them_along(how):
    world = world_with("")
    world.add_size("Standard_D2s_v5")
    world.set_instance()
    world.change_session(compute={"type": "Instance", "instanceRef": {"name": "box"}})
    until(world, lambda: world.is_ready() and world.status()["vmSize"] == "Standard_D2s_v5")
    world.agent().edit("one")
    world.set_instance(**how) if how else world.remove_instance()
    until(world, lambda: world.status()["phase"] == "Pending" and world.api.pods == [])
    assert condition(world.status(), "ComputeAllocated")["reason"] == ("InstanceStopped" if how else "InstanceNotFound")
    assert world.saved_edits == {"one"}
    world.set_instance(node="worker-2")
    until(world, world.is_ready)
    assert world.agent().volume["edits"] == "one"


@pytest.mark.parametrize("how", ["suspend", "idle", "reset"])
def test_the_next_start_has_them_again(how):
    world = world_with("one", action="Suspend")
    first = world.agent()
    if how == "reset":
        world.ask("reset")
        until(world, lambda: world.is_ready() and world.agent() is not first)
    else:
        if how == "suspend":
            suspended(world)
        until(world, lambda: world.status()["phase"] == "Suspended")
        world.change_session(suspend=False) if how == "suspend" else world.ask("resume")
        until(world, world.is_ready)
    assert world.agent().volume["edits"] == "one"
    until(world, lambda: "edits" in world.status())
    assert world.status()["edits"]["savedTo"].startswith("flow-env-edits-")


def test_what_was_changed_back_is_not_brought_back():
    world = resumed(suspended(world_with("one")))
    world.agent().edit("")
    resumed(suspended(world))
    assert world.saved_edits == set()
    assert "edits" not in world.agent().volume


def test_later_edits_take_the_place_of_those_that_they_went_on_from():
    world = resumed(suspended(world_with("one")))
    world.agent().edit("two")
    resumed(suspended(world))
    assert world.saved_edits == {"two"}
    assert world.agent().volume["edits"] == "two"


def test_edits_of_another_revision_are_offered_and_kept():
    world = suspended(world_with("one"))
    changed = world.api.objects["ConfigMap", "team", "flow"]
    changed["data"] = {"flow.dag.yaml": "nodes: []\ninputs: {}\n"}
    world.api.changed(changed)
    resumed(world)
    assert "edits" not in world.agent().volume
    assert world.agent().volume["offered"]
    world.agent().edit("two")
    suspended(world)
    assert world.saved_edits == {"one", "two"}


def test_too_large_edits_put_the_end_off_and_say_so_once():
    world = world_with("one")
    world.agent().too_large = True
    world.live(600)
    active = condition(world.status(), "Active")
    assert (active["status"], active["reason"]) == ("False", "EditsNotSaved")
    assert "2 MB are too much" in active["message"]
    assert world.told_of("EditsNotSaved") == 1
    assert world.is_ready() and not world.agent().retired
    assert calls(world, Retire) <= 12, "once a minute"
    world.agent().edit("")
    until(world, lambda: world.api.session is None)


@pytest.mark.parametrize("what", ["suspend", "reset", "lifetime"])
def test_too_large_edits_put_off_what_the_user_asks_for_too(what):
    world = world_with("one", action="None")
    pod = world.status()["podName"]
    world.agent().too_large = True
    match what:
        case "suspend":
            world.change_session(suspend=True)
        case "reset":
            world.ask("reset")
        case "lifetime":
            world.change_session(maxLifetimeSeconds=30)
    world.live(300)
    assert world.status()["podName"] == pod
    assert condition(world.status(), "Active")["reason"] == "EditsNotSaved"
    assert world.told_of("EditsNotSaved") == 1
    world.agent().edit("")
    until(world, lambda: world.status().get("podName") != pod)


def test_an_agent_that_does_not_answer_does_not_keep_a_reset_from_happening():
    world = world_with("one", action="None")
    pod = world.status()["podName"]
    world.agent().dead = True
    world.ask("reset")
    until(world, lambda: world.status().get("podName") != pod, 60)
    assert world.told_of("EditsNotSaved") == 1
    assert any("could not be saved" in event.message for event in world.told.events)


def test_a_refused_config_map_puts_the_end_off_with_the_servers_words():
    world = world_with("one")
    world.api.refused = {"ConfigMap"}
    world.live(300)
    assert "exceeded quota" in condition(world.status(), "Active")["message"]
    world.api.refused = set()
    until(world, lambda: world.api.session is None)
    assert world.saved_edits == {"one"}


def test_an_operator_that_is_killed_between_saving_and_ending_saves_once():
    world = world_with("one")
    until(world, lambda: condition(world.status(), "Active").get("reason") == "IdleSoon")
    while not world.saved_edits:
        world.clock.now += 0.5
        world.hear()
        world.api.rivals = 1 if world.agent().retired else 0  # the delete meets a conflict
        world.work(1)
        world.answer_calls()
    assert world.api.session is not None
    world.restart_operator()
    until(world, lambda: world.api.session is None)
    assert [body["metadata"]["name"] for body in world.api.objects.values() if "binaryData" in body].__len__() == 1


STEPS = ("edit", "edit", "suspend", "resume", "reset", "time", "operator", "silence", "voice", "rival", "changed flow", "a moment")


@given(st.lists(st.sampled_from(STEPS), max_size=14), st.sampled_from(["Suspend", "None"]))
def test_whatever_happens_the_last_edit_is_somewhere(steps, action):  # noqa: C901 - one branch for each kind of step
    world, last = world_with("first", action=action), "first"
    for number, step in enumerate(steps):
        agent = world.agent()
        if agent and step in ("time", "voice"):
            agent.dead = False
        match step:
            case "edit" if agent and not agent.dead and agent.volume.get("flow"):
                last = f"edit {number}"
                agent.edit(last)
            case "suspend" | "resume":
                world.change_session(suspend=step == "suspend")
            case "reset":
                world.ask("reset")
            case "time":
                world.live(90)
            case "operator":
                world.restart_operator()
            case "silence" if agent:
                agent.dead = True
                world.live(5)  # less than SILENT_SECONDS, after which a suspension or reset proceeds without saving
            case "rival":
                world.api.rivals = 1
            case "changed flow":
                body = world.api.objects["ConfigMap", "team", "flow"]
                body["data"] = {"flow.dag.yaml": f"nodes: []\n# {number}\n"}
                world.api.changed(body)
            case "a moment":
                world.live(2)
        agent = world.agent()
        if agent and agent.dead and step != "silence":
            agent.dead = False
        pods = {pod["metadata"]["uid"] for pod in world.api.pods}
        living = {agent.volume.get("edits") for (uid, _), agent in world.agents.items() if uid in pods}
        assert last in living | world.saved_edits, (step, world.told.events)


@pytest.mark.parametrize("end", ["suspend", "idle"])
def test_the_status_names_what_was_saved_at_the_end(end):
    world = world_with("one", action="Suspend")
    suspended(world) if end == "suspend" else until(world, lambda: world.status()["phase"] == "Suspended")
    (name,) = [name for kind, _, name in world.api.objects if "-edits-" in name]
    told = world.status()["edits"]
    assert (told["savedTo"], told["revision"], told["files"]) == (name, "one", ["a.py"])
    assert told["savedAt"]
