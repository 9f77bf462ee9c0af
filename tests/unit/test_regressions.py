"""Each of these was once a defect, found by looking for one."""

import asyncio
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flowsession.cluster.agent import answers
from flowsession.engine.store.cache import Cache
from flowsession.flow import folder
from flowsession.model.agent_views import InstallView
from flowsession.model.plan import Deliver, Follow, ListPackages
from flowsession.model.resolved import Resolved, Unresolved
from flowsession.reconcile.environment import chain as environments
from flowsession.requirements import review
from unit.builders import (
    DAG,
    NOW,
    agent,
    condition,
    config_map,
    container,
    decide,
    environment_snapshot,
    from_folder,
    from_text,
    installing,
    pending_pod,
    pod,
    resolved,
    session_snapshot,
    settled_snapshot,
    silent_agent,
    spec,
    state,
    status_after,
    verdict,
    waiting,
)
from unit.engine.store.test_cache import Lists, environment, relisted, session, source
from unit.reconcile.session.test_idle import ready, says, warned
from unit.world import World

PANDAS, NUMPY = resolved(), resolved(requirements="numpy\n")


# 1 ---------------------------------------------------------------- one user can take the operator down for everybody


@pytest.mark.parametrize("text", ["'a: ' + '[' * 300_000", "'a: ' + '{a: ' * 200_000", "'- ' * 300_000"])
def test_deep_yaml_does_not_kill_the_operator(text):
    """libyaml's composer recurses in C and crashed with SIGSEGV. That is why it runs in a subprocess here."""
    code = f"from flowsession.flow import folder as f\ntry: f.read({{'flow.dag.yaml': ({text}).encode()}})\nexcept f.FolderError: pass"
    ended = subprocess.run([sys.executable, "-c", code], cwd=Path(folder.__file__).parents[2], timeout=20, check=False)
    assert ended.returncode == 0


def test_a_long_run_of_spaces_does_not_hold_up_everybody():
    """A pattern that begins with \\s+ is quadratic: 20,000 spaces took 1.7 s, 256 KiB minutes, 1 MiB more than an hour."""
    began = time.process_time()
    review.review("a" + " " * 10_000 + "b")
    assert time.process_time() - began < 0.1


@pytest.mark.parametrize(
    "text",
    [
        "x: !!float 1:" + "1:" * 250 + "1.5",
        "x: " + "1:" * 600 + "1",
        "x: !!bool maybe",
        "x: !!int ''",
        "x: !!float ''",
        "x: !!timestamp foo",
    ],
)
def test_every_yaml_that_cannot_be_read_is_a_folder_error(text):
    """PyYAML's constructors raised KeyError, IndexError and AttributeError: retried forever, without a condition."""
    with pytest.raises(folder.FolderError):
        folder.read({"flow.dag.yaml": text.encode()})


def test_a_marker_of_many_parentheses_is_an_error_not_a_crash():
    """packaging's parser recurses. Its RecursionError left review and was retried forever, without a condition."""
    assert [finding.code for finding in review.review("a; " + "(" * 5000).errors] == ["InvalidRequirement"]


# 2 ---------------------------------------------------------------- sessions that can't recover


def test_a_corrected_environment_is_told_to_an_agent_that_refused_the_former_one():
    world = World(environment={"requirementsText": ""}, idle={"action": "None"})
    refused = world.cache.config_maps  # the environment's files come from a ConfigMap
    items = [{"key": "a", "path": "flow.dag.yaml"}]
    world.change_environment(
        requirementsText="", source={"configMap": {"name": "flow", "items": [*items, {"key": "a", "path": "x" * 300}]}}
    )
    world.api.put(
        {
            "kind": "ConfigMap",
            "metadata": {"name": "flow", "namespace": "team", "labels": {"flowsession.dev/source": "true"}},
            "data": {"a": DAG.decode()},
        }
    )
    world.settle()
    assert condition(world.status(), "Ready")["reason"] == "AgentRefused", refused
    world.change_environment(requirementsText="", source={"configMap": {"name": "flow", "items": items}})
    world.settle()
    assert world.is_ready()


def oom(environment: Resolved, status: Any, restarts: int = 1) -> Any:
    killed = container(running_since=NOW - 1, restarts=restarts, ended_reason="OOMKilled", ended_code=137)
    return session_snapshot(pod(container=killed), environment=environment, status=status)


def test_killed_for_memory_in_a_later_install_holds_it_too():
    """status.install was that of the earlier, successful install: its other revision was taken for a change since the failure."""
    running = agent(state(PANDAS, install=InstallView(state="Running", tool="uv")), NUMPY)
    status = status_after(replace(settled_snapshot(PANDAS), environment=NUMPY, agent=running))
    assert verdict(status_after(oom(NUMPY, status)), "Ready") == ("False", "OutOfMemory")


def test_killed_for_memory_a_second_time_holds_it_again():
    """First PANDAS ran out of memory and was held, then NUMPY was tried and did too: it was delivered again and again."""
    held = status_after(oom(PANDAS, {}))
    running = agent(installing(NUMPY), NUMPY, restarts=1)
    trying = status_after(replace(oom(NUMPY, held), agent=running))
    assert decide(oom(NUMPY, trying, restarts=2)).call is None


def test_killed_for_memory_after_an_install_that_failed_otherwise_starts_again():
    """Ready with the old packages after a failed change (no such package), later the user's own work is killed: not the install's fault."""
    failed = agent(
        state(PANDAS, install=InstallView(state="Failed", tool="uv", message="no", packages_revision=NUMPY.packages_revision)), NUMPY
    )
    status = status_after(replace(settled_snapshot(PANDAS), environment=NUMPY, agent=failed))
    assert verdict(status, "Ready") == ("True", "Running")
    assert isinstance(decide(oom(NUMPY, status)).call, Deliver)


def test_a_corrected_image_replaces_a_pod_that_could_not_pull_the_wrong_one():
    broken = session_snapshot(
        pending_pod(image="tpyo:1", container=waiting("ErrImagePull", "not found")), environment=resolved(baseImage="tpyo:1")
    )
    status = status_after(broken)
    plan = decide(replace(broken, status=status, environment=resolved(baseImage="typo:1")))
    assert [deletion.kind for deletion in plan.deletes] == ["Pod"]


# 3 ---------------------------------------------------------------- broken promises


def test_an_unwatched_config_map_is_read_again_and_again():
    """The plan that fetched set no next time, and an unchanged answer wakes nobody: there was one re-read and no other."""
    view = config_map({"flow.dag.yaml": DAG}, read_at=NOW - 300, watched=False)
    snapshot = environment_snapshot(spec=spec(source={"configMap": {"name": "flow"}}), config_maps={"flow": view})
    plan = environments.decide(snapshot, from_folder({"flow.dag.yaml": DAG}), NOW)
    assert plan.fetches
    assert plan.look_again_at == NOW + 300


def test_a_change_in_place_keeps_ready_after_a_restart_of_the_operator():
    """Without an agent view `serving` is false: Ready turned False for the time of a call (or for good, if the agent did not answer)."""
    changed = replace(settled_snapshot(PANDAS), environment=NUMPY)
    assert isinstance(decide(changed).call, Deliver)
    assert verdict(status_after(changed), "Ready") == ("True", "Running")
    assert verdict(status_after(replace(changed, agent=silent_agent())), "Ready") == ("True", "Running")


def test_a_follow_that_failed_is_not_repeated_at_once():
    """A hot loop: the operator asked again as fast as the agent refused (HTTP 500)."""
    failing = agent(installing(), failures=3, failing_since=NOW - 1, error="HTTP 500", asked_at=NOW)
    plan = decide(session_snapshot(pod(), agent=failing))
    assert plan.call is None
    assert plan.look_again_at is not None


def test_an_agent_that_answers_a_long_poll_at_once_is_not_asked_at_once():
    """Same state, same version, no time elapsed: a hostile or broken agent was asked again as fast as it answered."""
    snapshot = session_snapshot(pod(), agent=agent(installing(), asked_at=NOW - 0.001, state_at=NOW - 0.001))
    asked = sum(isinstance(decide(snapshot, NOW + n / 1000).call, Follow) for n in range(100))
    assert asked < 100


def test_an_agent_that_is_lost_during_the_install_is_told_of():
    failing = agent(installing(), failures=9, failing_since=NOW - 60, error="no route to host", asked_at=NOW)
    assert verdict(status_after(session_snapshot(pod(), agent=failing)), "Ready") == ("False", "AgentUnreachable")


def test_a_quota_on_config_maps_does_not_keep_the_session_from_ending():
    """The refused list of packages stopped the plan before its status and its delete, forever."""
    world = World(environment={"requirementsText": ""}, idle={"timeoutSeconds": 60})
    world.api.refused = {"ConfigMap"}
    for _ in range(400):
        world.hear(), world.work(), world.kubelet(), world.answer_calls()
        world.clock.now += 0.5
    assert world.api.session is None


def test_a_quota_on_config_maps_is_said_where_the_agent_comes_from_one():
    """The refusal of the agent's ConfigMap stopped the plan before the status: the session had no status at all."""
    world = World(environment={"requirementsText": "", "baseImage": "python:3.12"})
    world.api.refused = {"ConfigMap"}
    for _ in range(50):
        world.hear(), world.work()
        world.clock.now += 0.5
    assert condition(world.status(), "Ready").get("status") == "False"


def test_the_back_off_after_a_refused_pod_grows_for_other_images_too():
    """A created or found ConfigMap cleared the refusal of the pod, and it is looked up anew every minute."""
    world = World(environment={"requirementsText": "", "baseImage": "python:3.12"})
    world.api.refused = {"Pod"}
    end = world.clock() + 3600
    while world.clock() < end:
        world.hear(), world.work()
        world.clock.now = max(world.clock() + 0.01, min(world.todo.due, end))
    assert world.writes().count("POST Pod") <= 22  # after 1 + 2 + 4 ... + 256 s, then every 300 s


def test_the_end_takes_one_delete():
    """The answer that ends it also turns Active from InUse to Idle: patching that would make the delete's resourceVersion stale."""
    used = ready(120.0, says(0.0, age=60.0, busy=True, what="exec python"))
    snapshot = replace(used, status=warned(status_after(used, NOW - 60)), agent=says(60.0, retired=True))
    plan = decide(snapshot)
    assert plan.deletes
    assert plan.status is None


def test_in_sync_is_not_said_of_another_image():
    """The agent had its environment before Ready: the revisions agreed, and the later verdict (InSync) replaced ImageChanged."""
    other = resolved(baseImage="python:3.13")
    status = status_after(session_snapshot(pod(), environment=other, agent=agent(state(other), other)))
    assert verdict(status, "InSync") == ("False", "ImageChanged")


def test_a_re_list_that_is_empty_drops_what_is_gone():
    """The list's version came only with items, so an empty list made everything cached count as newer."""
    engine = asyncio.run(relisted([session(5)], Lists(20)))
    assert engine.cache.sessions == {}


def test_a_probe_that_failed_is_said_by_an_operator_that_never_had_an_answer():
    status = status_after(ready(5000.0, silent_agent(failures=5)))
    assert verdict(status, "Active") == ("Unknown", "ProbeFailed")


def test_a_config_map_that_nobody_looks_at_any_more_is_dropped():
    """An unlabeled one would count as fresh when it is named again, although it may be 5 minutes old."""
    cache = Cache(clock=lambda: NOW)
    cache.observe("FlowEnvironment", environment())
    cache.observe("ConfigMap", source("a: 1", labelled=False))
    cache.forget("FlowEnvironment", "team", "flow-env")
    assert cache.config_maps == {}


def test_creating_the_pod_writes_no_status():
    """A session that is Ready within PROGRESS_SECONDS costs two writes. EnvironmentResolved alone, without a phase, was a third."""
    plan = decide(session_snapshot())
    assert plan.creates
    assert plan.status is None


def test_a_lone_file_name_as_requirements_text_is_refused():
    """api.md: a lone "x.txt" is a package name to pip."""
    found = from_text("requirements.txt")
    assert isinstance(found, Unresolved)
    assert found.reason == "RequirementsRejected"


def test_a_number_too_large_for_a_float_is_capped():
    assert answers.number(10**400) == 1e12


def test_the_table_of_packages_fits_in_bytes():
    items = [{"name": "数" * 200, "version": "数" * 100, "layer": "image"} for _ in range(20_000)]
    found = answers.packages({"packages": items})
    assert len(found.table.encode()) + len(found.document.encode()) <= 1024 * 1024


def test_a_flow_path_that_begins_with_a_dot():
    items = [{"key": "dag", "path": ".flows/flow.dag.yaml"}]
    assert isinstance(from_folder({"dag": DAG}, configMap={"items": items}, flowPath=".flows"), Resolved)


def test_the_cause_of_a_failed_pull_is_still_named_after_the_start_timeout():
    """StartTimeout hid the ImagePullFailed that would keep the cause: the message flipped at every attempt of the kubelet."""
    first = session_snapshot(pending_pod(created_at=NOW - 700, container=waiting("ErrImagePull", "manifest unknown")))
    status = status_after(first)
    assert "manifest unknown" in condition(status, "Ready")["message"]
    later = replace(
        first, status=status, pods=(pending_pod(created_at=NOW - 700, container=waiting("ImagePullBackOff", "Back-off pulling image")),)
    )
    assert "manifest unknown" in condition(status_after(later), "Ready")["message"]


def test_a_list_of_packages_that_failed_is_not_asked_for_at_once():
    """It was asked for four times within milliseconds, then never again."""
    failing = agent(failures=1, failing_since=NOW, error="HTTP 500", asked_at=NOW)
    assert decide(session_snapshot(pod(), agent=failing)).call != ListPackages()


# ---------------------------------------------------------------- a session whose environment was deleted


@pytest.mark.parametrize("action", ["Delete", "Suspend", "None"])
def test_without_its_environment_a_session_is_ready_again_when_its_agent_answers(action):
    world = World(environment={"requirementsText": ""}, idle={"timeoutSeconds": 60, "action": action})
    world.settle(until_ready=True)
    world.remove_environment()
    world.agent().busy = True
    world.agent().dead = True
    world.live(1800, step=30)
    assert condition(world.status(), "Ready")["reason"] == "AgentUnreachable"
    world.agent().dead = False
    world.live(120)
    assert world.is_ready()
    assert "its agent answers again" in [event.message for event in world.told.events]


@pytest.mark.parametrize("action", ["Delete", "Suspend", "None"])
def test_without_its_environment_an_unreachable_session_ends_as_it_says_unless_it_never_ends(action):
    world = World(environment={"requirementsText": ""}, idle={"timeoutSeconds": 60, "action": action})
    world.settle(until_ready=True)
    world.remove_environment()
    world.agent().dead = True
    world.live(72_000, step=1200)
    assert [event.reason for event in world.told.events].count("ProbeFailed") == (action != "None")
    if action == "Delete":
        assert world.api.session is None
    else:
        assert len(world.live_pods()) == (action == "None")
