"""Delivery of the environment to the agent, following the install, and its result."""

from dataclasses import replace

import pytest

from flowsession.model.agent_views import InstallView
from flowsession.model.plan import Deliver, Follow
from flowsession.reconcile.session.draft import PROGRESS_SECONDS
from flowsession.reconcile.session.install import FOLLOW_PAUSE, LONGEST_QUIET_PAUSE
from unit.builders import (
    DAG,
    NOW,
    POD,
    agent,
    applied,
    condition,
    container,
    decide,
    installing,
    pod,
    ready_status,
    resolved,
    session_snapshot,
    session_spec,
    settled_snapshot,
    silent_agent,
    stamp,
    state,
    status_after,
    verdict,
    waiting,
)
from unit.world import World

PANDAS, NUMPY = resolved(), resolved(requirements="numpy\n")
YOUNG = {"created_at": NOW - 0.5}


def starting(view=None, environment=PANDAS, **fields):
    """A session whose pod has just started to run."""
    made = pod(container=container(running_since=NOW - 0.2), **{**YOUNG, **fields})
    return session_snapshot(made, agent=view, environment=environment, status={"phase": "Starting"})


# -- delivery


def test_the_first_call_is_already_the_environment():
    plan = decide(starting())
    assert plan.call == Deliver(PANDAS.wire)
    assert not plan.writes


def test_no_second_call_while_one_is_under_way():
    assert decide(starting(silent_agent(failures=0, calling=True, error=""))).call is None


def test_an_agent_that_was_told_is_not_told_again():
    assert not isinstance(decide(starting(agent(installing()))).call, Deliver)


def test_an_agent_in_a_restarted_container_is_another_agent():
    restarted = session_snapshot(pod(container=container(restarts=1)), agent=agent(restarts=0))
    assert decide(restarted).call == Deliver(PANDAS.wire)


@pytest.mark.parametrize(("failures", "pause"), [(1, 0.01), (2, 0.02), (5, 0.16), (9, 2.56), (10, 5.0), (100, 5.0)])
def test_a_silent_agent_is_asked_again_with_growing_pauses(failures, pause):
    early = decide(starting(silent_agent(failures=failures)), NOW + pause - 0.001)
    assert early.call is None
    assert early.look_again_at <= NOW + pause
    assert decide(starting(silent_agent(failures=failures)), NOW + pause).call == Deliver(PANDAS.wire)


@pytest.mark.parametrize(("silent", "pause"), [(20.0, 10.0), (60.0, 30.0), (119.0, 59.5), (120.0, 60.0), (86400.0, 60.0)])
def test_one_that_people_were_told_of_is_asked_as_seldom_as_it_has_been_silent_for_long(silent, pause):
    snapshot = starting(silent_agent(failures=9, since=silent))
    assert decide(snapshot, NOW + pause - 0.01).call is None
    assert decide(snapshot, NOW + pause).call == Deliver(PANDAS.wire)


def test_waiting_for_the_agent_is_progress():
    plan = decide(starting(silent_agent()))
    assert not plan.writes
    after = status_after(starting(silent_agent()), NOW + 3)
    assert (after["phase"], verdict(after, "Ready")) == ("Starting", ("False", "Starting"))
    assert condition(after, "Ready")["message"] == f"waiting for the agent in pod {POD}"


def test_an_unreachable_agent_is_told_of_after_twenty_seconds():
    snapshot = starting(silent_agent(failures=9, since=20.0), created_at=NOW - 30)
    status = status_after(snapshot)
    assert (status["phase"], verdict(status, "Ready")) == ("Failed", ("False", "AgentUnreachable"))
    message = condition(status, "Ready")["message"]
    for word in ("port 8765", "no connection to 10.0.0.5: refused", f"kubectl logs {POD}", "NetworkPolicy"):
        assert word in message
    assert [event.reason for event in decide(snapshot).events] == ["AgentUnreachable"]
    assert decide(replace(snapshot, status=status), NOW + 10).call == Deliver(PANDAS.wire)  # it keeps trying


def test_not_a_moment_earlier():
    snapshot = starting(silent_agent(failures=9, since=19.5), created_at=NOW - 30)
    assert verdict(status_after(snapshot), "Ready") == ("False", "Starting")
    assert decide(snapshot).look_again_at <= NOW + 0.5


def test_the_start_timeout_holds_for_the_agent_too():
    snapshot = replace(starting(silent_agent(failures=9, since=700.0), created_at=NOW - 700), spec=session_spec(startTimeoutSeconds=600))
    status = status_after(snapshot)
    assert verdict(status, "Ready") == ("False", "StartTimeout")
    assert "its agent answers: the agent in pod" in condition(status, "Ready")["message"]


def test_a_refused_environment_is_said_in_the_agents_words():
    told = (resolved().packages_revision, resolved().flow_revision)
    snapshot = starting(silent_agent(failures=1, refused="files: 'a//b' is not a relative path", delivered=told))
    status = status_after(snapshot)
    assert decide(snapshot).call is None
    assert (status["phase"], verdict(status, "Ready")) == ("Failed", ("False", "AgentRefused"))
    assert "'a//b' is not a relative path" in condition(status, "Ready")["message"]


# -- following


def test_a_running_install_is_followed_by_a_long_poll():
    plan = decide(starting(agent(installing(), asked_at=NOW - 0.05)))
    assert plan.call == Follow(since=3)
    assert decide(starting(agent(installing(), calling=True))).call is None


@pytest.mark.parametrize(
    ("polls", "pause"), [(0, FOLLOW_PAUSE), (1, 1.0), (2, 2.0), (3, 4.0), (5, 16.0), (6, LONGEST_QUIET_PAUSE), (999, LONGEST_QUIET_PAUSE)]
)
def test_an_agent_that_answers_at_once_without_news_is_asked_less_and_less_often(polls, pause):
    snapshot = starting(agent(installing(), empty_polls=polls))
    assert decide(snapshot, NOW + pause - 0.01).call is None
    assert decide(snapshot, NOW + pause - 0.01).look_again_at <= NOW + pause
    assert decide(snapshot, NOW + pause).call == Follow(since=3)


def test_a_running_install_is_shown_after_a_while():
    files = {"flow.dag.yaml": b"nodes: []", "requirements.txt": b"pandas\nnumpy\n"}
    folder = resolved(files=files, requirements=None)
    snapshot = starting(agent(installing(folder), folder), folder)
    assert not decide(snapshot).writes
    status = status_after(snapshot, NOW + PROGRESS_SECONDS)
    assert (status["phase"], verdict(status, "Ready")) == ("Installing", ("False", "Starting"))
    assert verdict(status, "PackagesInstalled") == ("False", "Installing")
    assert condition(status, "Ready")["message"] == "installing 2 requirements of requirements.txt"
    assert decide(snapshot, NOW + PROGRESS_SECONDS).events == ()


@pytest.mark.parametrize(
    ("environment", "install", "reason", "message"),
    [
        (PANDAS, {}, "Installed", "12 packages installed by uv in 3.2 s"),
        (PANDAS, {"changed": 0}, "Installed", "the image had everything that the requirements ask for"),
        (
            PANDAS,
            {"warnings": ("b is yanked", "c")},
            "InstalledWithWarnings",
            "12 packages installed by uv in 3.2 s; uv warned: b is yanked",
        ),
        (resolved(requirements=""), {}, "NoRequirements", "the image's own packages; the environment asks for no others"),
    ],
)
def test_an_install_that_went_well(environment, install, reason, message):
    good = state(environment)
    good = replace(good, install=replace(good.install, **install))
    status = status_after(starting(agent(good, environment), environment))
    assert verdict(status, "PackagesInstalled") == ("True", reason)
    assert condition(status, "PackagesInstalled")["message"] == message
    assert verdict(status, "InSync") == ("True", "InSync")
    assert verdict(status, "Ready") == ("True", "Running")


@pytest.mark.parametrize(("outcome", "reason"), [("Failed", "InstallFailed"), ("TimedOut", "InstallTimeout")])
def test_a_first_install_that_failed_keeps_the_session_from_being_ready(outcome, reason):
    words = "there is no pandas 99 on https://pypi.org/simple; correct the version"
    failed = installing(state=outcome, exit_code=1, message=words, stderr_tail="ERROR: no matching", seconds=2.0)
    snapshot = starting(agent(failed))
    plan, status = decide(snapshot), status_after(snapshot)
    assert status["phase"] == "Failed"
    assert verdict(status, "PackagesInstalled") == ("False", reason)
    assert verdict(status, "Ready") == ("False", "InstallFailed")
    assert condition(status, "Ready")["message"] == words
    assert (status["install"]["exitCode"], status["install"]["stderrTail"]) == (1, "ERROR: no matching")
    assert [event.message for event in plan.events] == [words]
    assert not decide(replace(snapshot, status=status)).writes
    assert plan.call is None


def test_corrected_requirements_are_told_to_the_agent_that_failed():
    snapshot = starting(agent(installing(state="Failed", message="x")))
    status = status_after(snapshot)
    assert decide(replace(snapshot, status=status, environment=NUMPY)).call == Deliver(NUMPY.wire)


# -- a session that is Ready


def test_a_settled_session_is_not_asked_anything():
    assert decide(settled_snapshot(PANDAS)).call is None


def changed(view, environment=NUMPY):
    """A Ready session whose environment asks for something else now."""
    return replace(settled_snapshot(PANDAS), environment=environment, agent=view)


@pytest.mark.parametrize(
    "view",
    [
        agent(state(PANDAS), PANDAS),
        agent(state(PANDAS, install=InstallView(state="Running", tool="uv", packages_revision=NUMPY.packages_revision)), NUMPY),
        agent(
            state(PANDAS, install=InstallView(state="Failed", tool="uv", message="no", packages_revision=NUMPY.packages_revision)), NUMPY
        ),
        agent(state(NUMPY), NUMPY),
    ],
    ids=["to be told", "installing", "failed", "installed"],
)
def test_it_stays_ready_while_its_packages_change(view):
    status = status_after(changed(view))
    assert verdict(status, "Ready") == ("True", "Running")
    assert status["phase"] == "Running"
    assert condition(status, "Ready")["lastTransitionTime"] == stamp(NOW - 90)


def test_it_is_told_what_changed():
    assert decide(changed(agent(state(PANDAS), PANDAS))).call == Deliver(NUMPY.wire)


def test_how_far_the_change_is():
    running = agent(state(PANDAS, install=InstallView(state="Running", tool="uv")), NUMPY)
    status = status_after(changed(running))
    assert verdict(status, "PackagesInstalled") == ("False", "Installing")
    assert verdict(status, "InSync") == ("False", "RequirementsChanged")
    failed = agent(state(PANDAS, install=InstallView(state="Failed", tool="uv", message="no such package")), NUMPY)
    status = status_after(replace(changed(failed), status=status))
    assert verdict(status, "PackagesInstalled") == ("False", "InstallFailed")
    assert status["packagesRevision"] == PANDAS.packages_revision
    done = status_after(replace(changed(agent(state(NUMPY), NUMPY)), status=status))
    assert (verdict(done, "InSync"), done["packagesRevision"]) == (("True", "InSync"), NUMPY.packages_revision)


def test_a_change_that_went_well_is_told_in_an_event_and_that_of_a_start_by_the_start_alone():
    done = agent(state(NUMPY), NUMPY)
    plan = decide(changed(done))
    (event,) = plan.events
    assert (event.reason, event.warning) == ("Installed", False)
    assert event.message == "in the running session: 12 packages installed by uv in 3.2 s"
    again = replace(changed(done), status=applied(changed(done).status, plan.status.status))
    assert decide(again).events == ()
    assert [event.reason for event in decide(starting(agent())).events] == ["Running"]


def test_a_failed_change_is_told_once():
    failed = agent(state(PANDAS, install=InstallView(state="Failed", tool="uv", message="no such package")), NUMPY)
    snapshot = changed(failed)
    assert [event.reason for event in decide(snapshot).events] == ["InstallFailed"]
    assert not decide(replace(snapshot, status=status_after(snapshot))).events


def test_another_image_needs_a_reset():
    snapshot = changed(None, resolved(baseImage="python:3.13"))
    plan, status = decide(snapshot), status_after(snapshot)
    assert verdict(status, "Ready") == ("True", "Running")
    assert verdict(status, "InSync") == ("False", "ImageChanged")
    assert "python:3.13; take it up by the annotation flowsession.dev/reset-requested-at" in condition(status, "InSync")["message"]
    assert (plan.call, plan.deletes) == (None, ())
    assert not decide(replace(snapshot, status=status)).writes


# -- killed for memory


def killed(**fields):
    return pod(container=container(running_since=NOW - 1, restarts=1, ended_reason="OOMKilled", ended_code=137, **fields))


def held(environment=PANDAS, status=None):
    return session_snapshot(killed(), environment=environment, status=status or {})


def test_killed_for_memory_in_the_first_install_holds_the_session():
    plan, status = decide(held()), status_after(held())
    assert plan.call is None
    assert (status["phase"], verdict(status, "Ready")) == ("Failed", ("False", "OutOfMemory"))
    assert verdict(status, "PackagesInstalled") == ("False", "InstallFailed")
    message = condition(status, "Ready")["message"]
    for word in ("killed for memory (limit 2Gi)", "raise the limit", "change the requirements"):
        assert word in message
    assert len(plan.events) == 1
    again = decide(held(status=status))
    assert (again.call, again.writes) == (None, False)


def test_it_is_held_until_the_requirements_change():
    status = status_after(held())
    assert decide(held(NUMPY, status)).call == Deliver(NUMPY.wire)


def test_killed_for_memory_after_it_was_ready_starts_again_by_itself():
    snapshot = settled_snapshot(PANDAS, pods=(killed(),))
    plan, status = decide(snapshot), status_after(snapshot)
    assert plan.call == Deliver(PANDAS.wire)
    assert verdict(status, "Ready") == ("False", "Starting")


def test_a_restarted_container_is_ready_anew():
    snapshot = settled_snapshot(PANDAS, pods=(killed(),), agent=agent(restarts=1))
    status = status_after(snapshot)
    assert verdict(status, "Ready") == ("True", "Running")
    assert status["readyAt"] == stamp(NOW)
    assert [event.reason for event in decide(snapshot).events] == ["OutOfMemory", "Running"]


def test_why_a_container_has_ended_is_told_once():
    dead = pod(container=waiting("", ended_reason="OOMKilled", ended_code=137))
    snapshot = settled_snapshot(PANDAS, pods=(dead,))
    assert [event.reason for event in decide(snapshot).events] == ["OutOfMemory"]
    again = settled_snapshot(PANDAS, pods=(killed(),), agent=agent(restarts=1), status=status_after(snapshot))
    assert [event.reason for event in decide(again).events] == ["Running"]
    first = session_snapshot(killed(), agent=agent(restarts=1))
    assert [event.reason for event in decide(first).events] == ["Running"], "it was not ready before: the install says so"


def test_what_was_killed_otherwise_is_simply_told_again():
    broken = pod(container=container(restarts=1, ended_reason="Error", ended_code=1, running_since=NOW - 1))
    assert decide(session_snapshot(broken)).call == Deliver(PANDAS.wire)


def test_a_restarted_container_is_told_by_its_restart_count_since_clocks_differ():
    """A node's clock that is ahead causes neither another delivery nor a write at every reconcile."""
    ahead = pod(container=container(running_since=NOW + 500))
    snapshot = settled_snapshot(PANDAS, pods=(ahead,))
    assert (decide(snapshot).call, decide(snapshot).writes) == (None, False)
    answered = replace(snapshot, agent=agent())
    assert not decide(replace(answered, status=status_after(answered)), NOW + 3).writes


# -- the summary


def test_the_result_of_the_install_is_kept():
    status = ready_status(PANDAS)
    assert status["install"] == {
        "tool": "uv",
        "revision": PANDAS.packages_revision,
        "exitCode": 0,
        "seconds": 3.25,
        "changed": 12,
        "stdoutTail": "",
        "stderrTail": "",
    }
    assert "install" not in ready_status(resolved(requirements=""))


def test_warnings_go_when_the_next_install_has_none():
    warned = state(PANDAS)
    warned = replace(warned, install=replace(warned.install, warnings=("old",)))
    before = status_after(starting(agent(warned)))
    snapshot = replace(starting(agent(state(NUMPY), NUMPY), NUMPY), status=before)
    plan = decide(snapshot)
    assert "warnings" not in applied(before, plan.status.status)["install"]


# -- onChange: Wait


WAIT = session_spec(onChange="Wait")
AT, LATER = "2026-11-22T20:00:00Z", "2026-11-22T21:00:00Z"
FLOW = resolved(files={"flow.dag.yaml": DAG})
FLOW_CHANGED = resolved(files={"flow.dag.yaml": DAG, "main.py": b"1"})
FLOW_AND_NUMPY = resolved(requirements="numpy\n", files={"flow.dag.yaml": DAG, "main.py": b"1"})


def waits(view=None, before=PANDAS, environment=NUMPY, **fields):
    """A Ready session with `onChange: Wait` whose environment asks for something else now."""
    return replace(settled_snapshot(before, spec=WAIT), environment=environment, agent=view, **fields)


def told(environment, said, request="", **fields):
    return agent(said, environment, delivered_request=request, **fields)


def failed_for(environment, has):
    return state(
        has, install=InstallView(state="Failed", tool="uv", message="no such package", packages_revision=environment.packages_revision)
    )


def test_changed_requirements_wait_until_asked_for():
    for view in (None, agent(state(PANDAS), PANDAS)):
        plan, status = decide(waits(view)), status_after(waits(view))
        assert plan.call is None
        assert verdict(status, "InSync") == ("False", "RequirementsChanged")
        assert "install-requested-at" in condition(status, "InSync")["message"]
        assert (verdict(status, "Ready"), status["packagesRevision"]) == (("True", "Running"), PANDAS.packages_revision)
        assert not decide(waits(view, status=status)).writes
        assert not decide(waits(None, status=status)).writes  # a restarted operator has nothing to write either


def test_changed_back_it_is_in_sync_again():
    view = agent(state(PANDAS), PANDAS)
    changed = waits(view)
    back = replace(changed, status=status_after(changed), environment=PANDAS)
    assert decide(back).call is None
    assert verdict(status_after(back), "InSync") == ("True", "InSync")


def test_changed_flow_files_alone_are_pushed_without_an_install():
    """The delivery has the revision of the installed packages, so the agent has nothing to install."""
    call = decide(waits(None, FLOW, FLOW_CHANGED)).call
    assert (call.body["packagesRevision"], call.body["flowRevision"]) == (FLOW.packages_revision, FLOW_CHANGED.flow_revision)
    both = decide(waits(None, FLOW, FLOW_AND_NUMPY)).call
    assert (both.body["packagesRevision"], both.body["flowRevision"]) == (FLOW.packages_revision, FLOW_AND_NUMPY.flow_revision)
    assert both.body["files"] == FLOW_AND_NUMPY.wire["files"]


def test_flow_files_that_were_pushed_leave_the_packages_out_of_sync():
    pushed = replace(state(FLOW), flow_revision=FLOW_AND_NUMPY.flow_revision)
    view = agent(pushed, FLOW, delivered=(FLOW.packages_revision, FLOW_AND_NUMPY.flow_revision))
    snapshot = waits(view, FLOW, FLOW_AND_NUMPY)
    status = status_after(snapshot)
    assert decide(snapshot).call is None
    assert (status["packagesRevision"], status["flowRevision"]) == (FLOW.packages_revision, FLOW_AND_NUMPY.flow_revision)
    assert verdict(status, "InSync") == ("False", "RequirementsChanged")
    assert not decide(replace(snapshot, status=status, agent=None)).writes


@pytest.mark.parametrize("view", [None, agent(state(PANDAS), PANDAS)], ids=["a new operator", "the same"])
def test_asked_for_they_are_installed(view):
    asked = waits(view, requests={"install": AT})
    assert decide(asked).call == Deliver(NUMPY.wire, AT)
    assert "handledRequests" not in status_after(asked)


def test_the_request_is_echoed_only_when_the_install_has_ended():
    under_way = told(NUMPY, state(PANDAS, install=InstallView(state="Running", tool="uv", packages_revision=NUMPY.packages_revision)), AT)
    running = waits(under_way, requests={"install": AT})
    status = status_after(running)
    assert verdict(status, "PackagesInstalled") == ("False", "Installing")
    assert "handledRequests" not in status
    for view in (told(NUMPY, state(NUMPY), AT), told(NUMPY, failed_for(NUMPY, PANDAS), AT)):
        ended = replace(running, status=status, agent=view)
        after = status_after(ended)
        assert after["handledRequests"] == {"install": AT}
        assert verdict(after, "Ready") == ("True", "Running")
        again = decide(replace(ended, status=after))
        assert (again.writes, again.events, again.call is None or not isinstance(again.call, Deliver)) == (False, (), True)


def test_an_operator_started_during_a_requested_install_asks_for_the_same_again():
    assert decide(waits(None, requests={"install": AT})).call == Deliver(NUMPY.wire, AT)


@pytest.mark.parametrize("spec", [WAIT, session_spec()], ids=["Wait", "Install"])
def test_a_failed_install_is_tried_again_on_a_new_request_only(spec):
    view = told(NUMPY, failed_for(NUMPY, PANDAS), AT)
    snapshot = replace(waits(view, requests={"install": AT}), spec=spec)
    snapshot = replace(snapshot, status=status_after(snapshot))
    assert not isinstance(decide(snapshot, NOW + 1000).call, Deliver)
    assert decide(replace(snapshot, requests={"install": LATER})).call == Deliver(NUMPY.wire, LATER)


def test_changed_again_during_a_requested_install_the_last_one_is_told():
    third = resolved(requirements="scipy\n")
    view = told(NUMPY, state(PANDAS, install=InstallView(state="Running", tool="uv", packages_revision=NUMPY.packages_revision)), AT)
    assert decide(waits(view, environment=third, requests={"install": AT})).call == Deliver(third.wire, AT)


def test_a_request_cuts_a_long_poll_short():
    view = told(NUMPY, state(PANDAS, install=InstallView(state="Running", packages_revision=NUMPY.packages_revision)))
    polled = waits(replace(view, calling=True, following=True), requests={"install": AT})
    assert decide(polled).call == Deliver(NUMPY.wire, AT)
    assert decide(replace(polled, agent=replace(view, calling=True))).call is None


def test_set_to_install_what_waited_is_installed_at_once():
    assert decide(replace(waits(), spec=session_spec())).call == Deliver(NUMPY.wire)


def test_set_to_wait_during_an_install_it_goes_on():
    running = state(PANDAS, install=InstallView(state="Running", tool="uv", packages_revision=NUMPY.packages_revision))
    snapshot = waits(told(NUMPY, running, asked_at=NOW - 10))
    assert decide(snapshot).call == Follow(since=3)
    assert status_after(waits(told(NUMPY, state(NUMPY))))["packagesRevision"] == NUMPY.packages_revision


def test_a_start_always_installs():
    assert decide(replace(starting(), spec=WAIT)).call == Deliver(PANDAS.wire)
    lost = status_after(settled_snapshot(PANDAS, spec=WAIT, pods=()))
    second = pod(name=f"{POD[:-1]}2", uid="pod-2", container=container(running_since=NOW - 0.2), **YOUNG)
    assert decide(session_snapshot(second, environment=NUMPY, status=lost, spec=WAIT)).call == Deliver(NUMPY.wire)


def test_wait_in_a_cluster():
    """A change is not installed by itself. The first requested install fails, the second succeeds, and a reset installs too."""
    world = World(environment={"requirementsText": "pandas\n"}, idle={"timeoutSeconds": 3600}, onChange="Wait")
    world.settle(until_ready=True)
    world.live(2)
    world.change_environment(requirementsText="numpy\n")
    tells = sum(isinstance(call, Deliver) for call in world.calls.log)
    world.live(20)
    assert sum(isinstance(call, Deliver) for call in world.calls.log) == tells
    first = world.ask("install")
    world.live(3)
    assert world.agent().install["state"] == "Running"
    assert "handledRequests" not in world.status()
    world.agent().finish_install("NoMatchingDistribution")
    world.live(3)
    assert world.status()["handledRequests"] == {"install": first}
    assert verdict(world.status(), "PackagesInstalled") == ("False", "InstallFailed")
    assert world.told_of("InstallFailed") == 1
    second = world.ask("install")
    world.live(3)
    world.restart_operator()
    world.live(3)
    world.agent().finish_install()
    world.live(3)
    assert world.status()["handledRequests"] == {"install": second}
    assert verdict(world.status(), "InSync") == ("True", "InSync")
    assert (world.is_ready(), world.writes().count("POST Pod")) == (True, 1)
    world.change_environment(requirementsText="scipy\n")
    world.live(3)
    world.ask("reset")
    world.settle()
    assert verdict(world.status(), "InSync") == ("True", "InSync")
