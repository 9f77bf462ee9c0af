"""A session with all that its environment asks for: Ready, the stages of its start, and its list of packages."""

from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowsession.manifests import config_maps
from flowsession.manifests.session_pod import settings_of
from flowsession.model.agent_views import PackageList
from flowsession.model.plan import ListPackages
from flowsession.model.views import REFUSED_SECONDS
from flowsession.reconcile.session.ready import LIST_SECONDS
from unit.builders import (
    NOW,
    POD,
    agent,
    applied,
    condition,
    container,
    decide,
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
)

PANDAS = resolved()
LIST = PackageList(171, "PACKAGE\npandas\n", '{"packages":[]}', promptflow="1.18.5")
packages_config_map_name = partial(config_maps.name_of, config_maps.PACKAGES)
NAME = packages_config_map_name("flow-env", "env-uid", PANDAS.packages_revision, "runtime@sha256:1")


def ready(**fields):
    return session_snapshot(pod(), **{"agent": agent(), **fields})


def unlisted(**fields):
    """A session whose packages are in no known ConfigMap."""
    return ready(known_config_maps={}, **fields)


def test_ready_says_where_and_how_to_get_in():
    status = status_after(ready())
    assert (status["phase"], verdict(status, "Ready")) == ("Running", ("True", "Running"))
    assert condition(status, "Ready")["message"] == f"running on worker-1; open a terminal with: kubectl exec -it {POD} -- bash"
    assert (status["readyAt"], status["packagesRevision"], status["flowRevision"]) == (stamp(NOW), PANDAS.packages_revision, "none")
    assert status["imageDigest"] == "runtime@sha256:1"


def test_everything_is_written_at_once():
    """A session that is Ready within its first second takes one write of the status."""
    snapshot = session_snapshot(pod(created_at=NOW - 0.6, container=container(running_since=NOW - 0.3)), agent=agent())
    plan = decide(snapshot)
    assert verdict(dict(plan.status.status), "Ready") == ("True", "Running")
    assert not decide(replace(snapshot, status=status_after(snapshot))).writes


def test_the_stages_by_what_was_seen():
    timestamps = {"Created": NOW - 9.0, "Scheduled": NOW - 8.5, "Running": NOW - 6.0, "AgentReady": NOW - 5.75, "Installed": NOW - 1.5}
    status = status_after(ready(pod_timestamps=timestamps))
    assert [(stage["name"], stage["seconds"]) for stage in status["stages"]] == [
        ("Scheduled", 0.5),
        ("ImagePulled", 2.5),
        ("AgentReady", 0.25),
        ("FlowDelivered", 1.0),
        ("PackagesInstalled", 3.25),
        ("PackagesListed", 1.5),
        ("Ready", 9.0),
    ]


def test_what_has_nothing_to_install_has_no_such_stage():
    nothing = resolved(requirements="")
    timestamps = {"Created": NOW - 9.0, "Running": NOW - 6.0, "AgentReady": NOW - 5.75, "Installed": NOW - 1.5}
    stages = status_after(ready(environment=nothing, agent=agent(state(nothing), nothing), pod_timestamps=timestamps))["stages"]
    assert [stage["name"] for stage in stages] == ["Scheduled", "ImagePulled", "AgentReady", "FlowDelivered", "PackagesListed", "Ready"]
    assert stages[3]["seconds"] == 4.25


MOMENTS = st.floats(NOW - 4000, NOW + 50)


@given(
    st.dictionaries(st.sampled_from(["Created", "Scheduled", "Running", "AgentReady", "Installed"]), MOMENTS),
    st.tuples(MOMENTS, MOMENTS, MOMENTS),
    st.one_of(st.none(), st.floats(0, 5000)),
)
def test_the_stages_come_to_the_whole_start(timestamps, moments, install_seconds):
    """The stages add up to the whole start, whatever the operator saw and whichever clock is ahead."""
    created, scheduled, runs = moments
    environment = resolved() if install_seconds is not None else resolved(requirements="")
    said = state(environment)
    if install_seconds is not None:
        said = replace(said, install=replace(said.install, seconds=install_seconds))
    seen = pod(created_at=created, scheduled_at=scheduled, container=container(running_since=runs))
    stages = status_after(session_snapshot(seen, environment=environment, agent=agent(said, environment), pod_timestamps=timestamps))[
        "stages"
    ]
    *steps, whole = stages
    assert whole["name"] == "Ready"
    assert all(stage["seconds"] >= 0 for stage in stages)
    assert sum(round(stage["seconds"] * 1000) for stage in steps) == round(whole["seconds"] * 1000)


def test_the_stages_by_what_kubernetes_says_where_nobody_watched():
    seen = pod(created_at=NOW - 20, scheduled_at=NOW - 19, container=container(running_since=NOW - 9))
    status = status_after(session_snapshot(seen, agent=agent()))
    assert [(stage["name"], stage["seconds"]) for stage in status["stages"]] == [
        ("Scheduled", 1.0),
        ("ImagePulled", 10.0),
        ("AgentReady", 5.75),
        ("FlowDelivered", 0.0),
        ("PackagesInstalled", 3.25),
        ("PackagesListed", 0.0),
        ("Ready", 20.0),
    ]


def test_clocks_that_disagree_make_no_negative_seconds():
    odd = pod(created_at=NOW + 5, scheduled_at=NOW - 50, container=container(running_since=NOW - 60))
    stages = status_after(session_snapshot(odd, agent=agent()))["stages"]
    assert all(stage["seconds"] >= 0 for stage in stages)


def test_a_start_of_another_container_is_measured_from_its_own_beginning():
    old = {
        "Created": NOW - 5000.0,
        "Scheduled": NOW - 4999.0,
        "Running": NOW - 4990.0,
        "AgentReady": NOW - 4980.0,
        "Installed": NOW - 4970.0,
    }
    again = pod(created_at=NOW - 5000.0, container=container(restarts=1, running_since=NOW - 6.0))
    snapshot = session_snapshot(again, agent=agent(restarts=1), pod_timestamps=old, status=ready_status(ready_at=NOW - 4970.0))
    stages = status_after(snapshot)["stages"]
    assert [(stage["name"], stage["seconds"]) for stage in stages if stage["seconds"]] == [
        ("AgentReady", 2.75),
        ("PackagesInstalled", 3.25),
        ("Ready", 6.0),
    ]
    told = next(event for event in decide(snapshot).events if event.reason == "Running")
    assert told.message.startswith("ready 6.0 s after its container was restarted, on worker-1 (")


def test_one_event_tells_the_story():
    (event,) = decide(ready(pod_timestamps={"Created": NOW - 9.0, "Running": NOW - 6.0})).events
    assert (event.warning, event.reason) == (False, "Running")
    assert event.message.startswith("ready 9.0 s after its pod was created, on worker-1 (Scheduled ")
    assert "PackagesInstalled 3.2 s" in event.message


def test_it_is_ready_once():
    status = status_after(ready())
    again = decide(ready(status=status), NOW + 5)
    assert (again.events, again.status) == ((), None)


# -- the list of packages


def test_a_ready_session_is_asked_for_its_packages():
    assert decide(unlisted()).call == ListPackages()


def test_ready_is_written_together_with_the_list():
    """After `kubectl wait --for=condition=Ready`, the README's next command reads `status.packages`."""
    asked = decide(unlisted())
    assert (asked.call, asked.writes, asked.events) == (ListPackages(), False, ())
    assert asked.look_again_at == NOW + LIST_SECONDS
    listed = decide(unlisted(agent=agent(packages=LIST)))
    assert {"packages", "conditions", "readyAt"} <= set(listed.status.status)
    assert [event.reason for event in listed.events] == ["Running"]


@pytest.mark.parametrize(
    ("view", "later"), [(agent(calling=True), LIST_SECONDS), (agent(failures=1, error="not JSON"), 0.0)], ids=["slow", "mad"]
)
def test_an_agent_that_does_not_list_them_keeps_nobody_from_working(view, later):
    plan = decide(unlisted(agent=view), NOW + later)
    assert verdict(applied({}, plan.status.status), "Ready") == ("True", "Running")
    assert "packages" not in plan.status.status


@pytest.mark.parametrize("view", [agent(calling=True), agent(failures=4, error="no answer")], ids=["busy", "does not answer"])
def test_but_not_while_it_cannot_answer(view):
    assert decide(unlisted(agent=view)).call is None


def test_the_list_goes_into_a_config_map_of_the_environment():
    plan = decide(unlisted(agent=agent(packages=LIST)))
    (create,) = plan.creates
    manifest = create.manifest
    assert manifest["metadata"]["name"] == NAME
    assert manifest["metadata"]["ownerReferences"] == [
        {"apiVersion": "flowsession.dev/v1alpha1", "kind": "FlowEnvironment", "name": "flow-env", "uid": "env-uid"}
    ]
    assert manifest["data"] == {"packages.txt": LIST.table, "packages.json": LIST.document}
    assert manifest["immutable"] is True
    assert manifest["metadata"]["annotations"] == {"flowsession.dev/promptflow": "1.18.5"}
    assert plan.status.status["packages"] == {"count": 171, "configMapName": NAME, "promptflow": "1.18.5"}


def test_a_list_that_is_there_already_is_not_asked_for():
    plan = decide(ready(known_config_maps={NAME: 99}))
    assert (plan.call, plan.creates) == (None, ())
    assert plan.status.status["packages"] == {"count": 99, "configMapName": NAME}


@pytest.mark.parametrize("view", [agent(packages=LIST), agent()], ids=["at hand", "to be asked for"])
def test_a_list_that_was_refused_is_tried_again(view):
    """A quota that refuses ConfigMaps today may have room tomorrow, and nothing else triggers a settled session."""
    settled = settled_snapshot(PANDAS, agent=view)
    without = {key: value for key, value in settled.status.items() if key != "packages"}
    snapshot = replace(settled, status=without, known_config_maps={})
    refused = decide(replace(snapshot, refused_config_maps={NAME: "exceeded quota"}))
    assert (refused.call, refused.creates) == (None, ())
    assert refused.look_again_at == NOW + REFUSED_SECONDS
    again = decide(snapshot, NOW + REFUSED_SECONDS)
    assert again.creates or again.call == ListPackages()


def test_a_list_that_was_written_is_not_written_again():
    status = status_after(unlisted(agent=agent(packages=LIST)))
    assert not decide(unlisted(status=status, agent=agent(packages=LIST))).writes


def test_another_revision_or_image_has_another_list():
    names = {packages_config_map_name("e", "u", revision, image) for revision in ("1", "2") for image in ("a", "b")}
    assert len(names) == 4
    assert packages_config_map_name("e", "u", "1", "a") == packages_config_map_name("e", "u", "1", "a")


def test_a_session_that_is_not_running_has_no_list():
    assert decide(session_snapshot(pod(), agent=silent_agent(failures=2))).call != ListPackages()


def test_a_later_install_gets_a_list_of_its_own():
    numpy = resolved(requirements="numpy\n")
    snapshot = settled_snapshot(PANDAS, agent=agent(state(numpy), numpy))
    assert decide(replace(snapshot, environment=numpy, known_config_maps={})).call == ListPackages()
    assert ready_status(PANDAS)["packages"]["configMapName"] == NAME


def test_changed_settings_wait_for_the_next_start_and_are_told_of():
    env = [{"name": "MODE", "value": "slow"}]
    made = pod(settings=settings_of(session_spec()))
    snapshot = settled_snapshot(pods=(made,), agent=agent())
    snapshot = replace(snapshot, status=status_after(snapshot))
    assert not decide(snapshot).writes
    changed = replace(snapshot, spec=session_spec(env=env), generation=2)
    status = status_after(changed)
    assert verdict(status, "InSync") == ("False", "SettingsChanged")
    assert "reset-requested-at" in condition(status, "InSync")["message"]
    assert decide(changed).deletes == ()
    again = replace(changed, status=status)
    assert not decide(again).writes
    assert not decide(replace(again, agent=None)).writes, "another operator says the same"
    back = replace(again, spec=session_spec(), generation=3, agent=None)
    assert verdict(status_after(back), "InSync") == ("True", "InSync")


def test_labels_that_a_running_pod_has_already_are_told_of_no_more():
    """The platform team has forbidden them since, which matters only at the next start."""
    spec = session_spec(podMetadata={"labels": {"app": "x"}})
    snapshot = settled_snapshot(pods=(pod(settings=settings_of(spec)),), agent=agent(), spec=spec)
    status = status_after(snapshot)
    assert verdict(status, "InSync")[0] == "True"
    assert not decide(replace(snapshot, status=status)).writes


def test_settings_are_those_of_the_pod_only():
    assert settings_of(session_spec()) == settings_of(session_spec(idle={"timeoutSeconds": 60}, onChange="Wait"))
    assert settings_of(session_spec()) != settings_of(session_spec(podMetadata={"labels": {"a": "b"}}))
