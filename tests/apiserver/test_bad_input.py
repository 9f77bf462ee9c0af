"""Bad input that fails without a kubelet: a clear condition, nothing lost, no storm of writes, and recovery without help."""

import base64
import os
import signal
import time
from collections.abc import Iterator

import pytest

from apiserver.api import eventually, stays
from apiserver.conftest import Cluster
from apiserver.lab import Lab

MERGE_BOMB = "l0: &l0 {x: 1}\n" + "".join(f"l{n}: &l{n} {{<<: [{', '.join([f'*l{n - 1}'] * 10)}]}}\n" for n in range(1, 9))
"""Half a kilobyte that a YAML loader expands into a hundred million entries."""


def test_no_such_environment_heals_when_it_appears(started: Lab) -> None:
    started.create_session(environment="later")
    started.until_condition("Ready", "EnvironmentNotReady", says="there is no FlowEnvironment 'later'")
    assert started.condition("EnvironmentResolved")["reason"] == "EnvironmentNotFound"
    assert started.session()["status"]["phase"] == "Pending"
    assert started.pods() == []
    started.until_event("EnvironmentNotFound")
    started.create_environment("later")
    started.until_ready()
    assert started.condition("EnvironmentResolved")["status"] == "True"


def test_no_such_config_map_heals_when_an_unlabelled_one_appears(started: Lab) -> None:
    started.create_environment(source={"configMap": {"name": "flow"}})
    started.create_session()
    started.until_environment("SourceNotFound", says="ConfigMap 'flow'")
    started.until_condition("Ready", "EnvironmentNotReady", says="environment 'env': ConfigMap 'flow'")
    started.create_config_map(labelled=False, flow__dag__yaml="nodes: []")
    started.until_ready()
    started.until_environment("Resolved")


def test_no_such_config_map_heals_at_once_when_a_labelled_one_appears(started: Lab) -> None:
    started.create_environment(source={"configMap": {"name": "flow"}})
    started.until_environment("SourceNotFound")
    started.create_config_map(flow__dag__yaml="nodes: []")
    started.until_environment("Resolved", seconds=1.5)


def test_a_missing_config_map_is_not_asked_for_in_a_storm(started: Lab) -> None:
    started.create_environment(source={"configMap": {"name": "flow"}})
    started.until_environment("SourceNotFound")
    started.until_event("SourceNotFound", "env")
    before = started.recorder.mark()
    stays(lambda: len(started.recorder.requests(started.namespace, since=before)) <= 2, seconds=3)
    assert started.lines(since=before) == []


def test_changes_of_a_labelled_config_map_are_seen_at_once(started: Lab) -> None:
    started.environment_of_flow(flow__dag__yaml="nodes: []\n", hello__py="print(1)")
    started.create_session()
    before = started.until_ready()["status"]["flowRevision"]
    started.change_config_map(hello__py="print(2)")
    eventually(lambda: started.session()["status"]["flowRevision"] != before, seconds=20, what="the session has the new files")
    assert base64.b64decode(started.agent().order["files"]["hello.py"]) == b"print(2)"
    assert started.condition("InSync")["status"] == "True"
    assert started.session()["status"]["incarnation"] == 1


def test_taking_the_label_away_does_not_make_the_source_disappear(started: Lab) -> None:
    started.environment_of_flow()
    started.until_environment("Resolved")
    before = started.recorder.mark()
    started.api.patch(started.path("configmaps", "flow"), {"metadata": {"labels": {"flowsession.dev/source": None}}})
    stays(lambda: started.condition("Ready", "env", plural="flowenvironments")["status"] == "True", seconds=1.5)
    assert started.lines(since=before) == []


def test_a_deleted_config_map_leaves_running_sessions_alone(started: Lab) -> None:
    started.environment_of_flow()
    started.create_session()
    started.until_ready()
    started.api.delete(started.path("configmaps", "flow"))
    started.until_environment("SourceNotFound")
    started.until_condition("EnvironmentResolved", "SourceNotFound")
    assert started.condition("Ready")["status"] == "True"
    assert len(started.pods()) == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nodes: [1", "flow.dag.yaml line"),
        ("a: b: c", "flow.dag.yaml line 1"),
        ("- a\n- b\n", "flow.dag.yaml is a list, but must be a mapping"),
        ("just words", "flow.dag.yaml is a text, but must be a mapping"),
        ("", "flow.dag.yaml is empty, but must be a mapping"),
        ("environment: [python]", "environment is a list, but must be a mapping"),
        ("environment: {image: [a]}", "environment.image is a list"),
        ("when: 2020-99-99", "not YAML"),
        ("[" * 100_000, "flow.dag.yaml"),
        ("- " * 50_000, "flow.dag.yaml"),
        (MERGE_BOMB, "flow.dag.yaml"),
        ("a: \t1\n\tb: 2", "flow.dag.yaml line"),
    ],
    ids=lambda text: text[:24],
)
def test_a_flow_file_that_is_none_is_named_with_its_place(bad_flow: Lab, text: str, says: str) -> None:
    """The operator stays the same process for all of them: none may crash it."""
    bad_flow.create_config_map(flow__dag__yaml=text)
    bad_flow.create_environment(source={"configMap": {"name": "flow"}})
    bad_flow.create_session()
    bad_flow.until_environment("FlowInvalid", says=says)
    bad_flow.until_condition("Ready", "EnvironmentNotReady", says=says)
    assert bad_flow.pods() == []
    bad_flow.change_config_map(flow__dag__yaml="nodes: []")
    bad_flow.until_environment("Resolved")
    bad_flow.until_ready()


def test_a_binary_flow_file_is_refused_and_other_binary_files_arrive(bad_flow: Lab) -> None:
    picture = base64.b64encode(bytes(range(256))).decode()
    bad_flow.create_config_map(binary={"flow.dag.yaml": picture})
    bad_flow.create_config_map("fine", flow__dag__yaml="nodes: []", binary={"picture.png": picture})
    bad_flow.create_environment("bad", source={"configMap": {"name": "flow"}})
    bad_flow.create_environment("good", source={"configMap": {"name": "fine"}})
    bad_flow.until_environment("FlowInvalid", name="bad", says="flow.dag.yaml is not text")
    bad_flow.create_session(environment="good")
    bad_flow.until_ready()
    assert bad_flow.agent().order["files"]["picture.png"] == picture


@pytest.fixture
def bad_flow(started: Lab) -> Iterator[Lab]:
    """Check that a flow folder's content neither ends the operator nor makes a decision fail."""
    pid = started.operator.pid
    yield started
    assert started.operator.running
    assert started.operator.pid == pid
    assert started.operator.lines("error") == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("pandas\n\nnot a requirement ==\n", "spec.requirementsText line 3"),
        ("pandas==\n", "line 1"),
        ("# fine\npandas\n./local\n", "line 3: './local' is a local file"),
        ("-e .\n", "line 1"),
    ],
)
def test_a_requirement_that_does_not_parse_is_named_with_its_line(started: Lab, text: str, says: str) -> None:
    started.create_environment(requirementsText=text)
    started.create_session()
    started.until_environment("RequirementsRejected", says=says)
    started.until_condition("Ready", "EnvironmentNotReady", says=says)
    assert started.pods() == []
    started.api.patch(started.path("flowenvironments", "env"), {"spec": {"requirementsText": "pandas\n"}})
    started.until_environment("Resolved")
    started.until_ready()


def test_a_requirement_in_a_file_of_the_flow_is_named_with_file_and_line(started: Lab) -> None:
    started.environment_of_flow(flow__dag__yaml="environment: {python_requirements_txt: req.txt}", req__txt="a\n???\n")
    started.until_environment("RequirementsRejected", says="req.txt line 2")


def test_a_named_requirements_file_that_is_not_there_is_warned_of(started: Lab) -> None:
    started.environment_of_flow(flow__dag__yaml="environment: {python_requirements_txt: req.txt}")
    started.until_environment("Resolved")
    (warning,) = started.api.get(started.path("flowenvironments", "env"))["status"]["warnings"]
    assert (warning["code"], "'req.txt'" in warning["message"]) == ("RequirementsMissing", True)


def test_an_item_without_its_key(started: Lab) -> None:
    started.create_config_map(flow__dag__yaml="nodes: []")
    started.create_environment(source={"configMap": {"name": "flow", "items": [{"key": "data.csv", "path": "data/x.csv"}]}})
    started.until_environment("SourceNotFound", says="has no key 'data.csv'")


def test_quota_exceeded_says_so_and_heals_when_it_is_raised(started: Lab) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "tight"}, "spec": {"hard": {"pods": "0"}}}
    started.api.post(started.path("resourcequotas"), quota)
    eventually(lambda: (started.api.get(started.path("resourcequotas", "tight")).get("status") or {}).get("hard"))
    started.create_environment()
    started.create_session()
    started.until_condition("Ready", "QuotaExceeded", says="exceeded quota")
    assert started.condition("ComputeAllocated")["reason"] == "QuotaExceeded"
    assert started.session()["status"]["phase"] == "Pending"
    started.until_event("QuotaExceeded")
    before = started.recorder.mark()
    stays(lambda: started.lines(since=before).count("POST pods") <= 3, seconds=3)
    assert set(started.lines(since=before)) <= {"POST pods"}, "refused again is no news"
    started.api.patch(started.path("resourcequotas", "tight"), {"spec": {"hard": {"pods": "1"}}})
    started.until_ready()
    assert started.condition("ComputeAllocated")["status"] == "True"


def test_a_pod_that_the_api_server_refuses_is_told_in_its_words(started: Lab) -> None:
    started.create_environment()
    started.create_session(podMetadata={"labels": {"istio.io/rev": "not a value"}})
    started.until_condition("Ready", "PodRefused", says="not a value")
    before = started.recorder.mark()
    stays(lambda: len(started.lines(since=before)) <= 2, seconds=1.5)
    started.change_session(podMetadata=None)
    started.until_ready()


def test_labels_and_annotations_that_the_platform_team_has_not_listed_reach_no_pod(started: Lab) -> None:
    """A user who can't create pods can use a session neither to become an endpoint of another's Service nor to lift its confinement."""
    started.create_environment()
    unconfined = {"container.apparmor.security.beta.kubernetes.io/session": "unconfined"}
    for given, says in (({"labels": {"app": "payments"}}, "label app"), ({"annotations": unconfined}, "annotation container.apparmor")):
        started.create_session(podMetadata=given)
        started.until_condition("Ready", "PodMetadataNotAllowed", says=says)
        assert started.pods() == []
        started.change_session(podMetadata={"labels": {"app": None, "kueue.x-k8s.io/queue-name": "team"}, "annotations": None})
        started.until_ready()
        assert started.the_pod()["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team"
        started.change_session(podMetadata=given)
        started.until_condition("InSync", "PodMetadataNotAllowed", says="goes on as it is")
        asked = {"flowsession.dev/reset-requested-at": "2026-11-22T20:00:00Z"}
        started.api.patch(started.path("computesessions", "ada"), {"metadata": {"annotations": asked}})
        started.until_event("RequestRefused")
        assert "payments" not in str(started.pods()) and "unconfined" not in str(started.pods()) and len(started.pods()) == 1
        started.api.delete(started.path("computesessions", "ada"))
        started.new_namespace()
        started.create_environment()


@pytest.fixture
def no_controllers(cluster: Cluster) -> Iterator[None]:
    """Stop the controllers, so that a namespace stays Terminating with everything in it."""
    pid = cluster.pid("kube-controller-manager")
    os.kill(pid, signal.SIGSTOP)
    yield
    os.kill(pid, signal.SIGCONT)


@pytest.mark.usefixtures("no_controllers")
def test_a_namespace_being_deleted_gets_no_storm_of_writes(started: Lab) -> None:
    started.create_environment()
    started.create_session("ada")
    started.until_ready("ada")
    started.api.delete(f"/api/v1/namespaces/{started.namespace}")
    before = started.recorder.mark()
    pod = started.the_pod("ada")["metadata"]["name"]
    started.api.delete(started.path("pods", pod))
    eventually(lambda: "POST pods" in started.lines(since=before), what="an attempt to start it again")
    stays(lambda: len(started.lines(since=before)) <= 5, seconds=3)
    assert started.lines(since=before).count("POST pods") == 1
    assert started.pods() == []


@pytest.mark.usefixtures("no_controllers")
def test_a_start_of_the_operator_into_a_namespace_being_deleted(lab: Lab) -> None:
    lab.create_environment()
    for name in ("ada", "bob", "cy"):
        lab.create_session(name)
    lab.api.delete(f"/api/v1/namespaces/{lab.namespace}")
    lab.operator.start()
    eventually(lambda: "POST pods" in lab.lines(), what="an attempt")
    stays(lambda: len(lab.lines()) <= 3 * 3 + 1, seconds=4)
    assert lab.lines().count("POST pods") <= 3
    assert lab.operator.lines("error") == []


def test_of_two_sessions_of_a_user_the_oldest_wins(started: Lab) -> None:
    started.create_environment()
    started.create_session("first", user="ada")
    started.until_ready("first")
    _until_the_next_second()
    started.create_session("second", user="ada")
    started.until_condition("Ready", "DuplicateSession", "second", says="'first'")
    started.settle()
    assert started.session("second")["status"]["phase"] == "Failed"
    assert len(started.pods()) == 1
    assert started.condition("Ready", "first")["status"] == "True"
    # Its owner has to ask again: nothing starts without the owner's knowledge.
    started.api.delete(started.path("computesessions", "first"))
    eventually(lambda: started.gone("first"))
    stays(lambda: started.pods(session="second") == [], seconds=1)
    started.change_session("second", startTimeoutSeconds=601)
    started.until_ready("second")


def test_of_two_sessions_made_at_the_same_time_exactly_one_runs(lab: Lab) -> None:
    lab.create_environment()
    lab.create_session("one", user="ada")
    lab.create_session("two", user="ada")
    lab.operator.start()

    def settled() -> bool:
        reasons = sorted(lab.condition("Ready", name)["reason"] for name in ("one", "two"))
        assert reasons == ["DuplicateSession", "Running"], reasons
        return True

    eventually(settled)
    lab.settle()
    assert len(lab.pods()) == 1


def test_a_rival_of_the_same_second_leaves_one_of_both(started: Lab) -> None:
    """Creation times have whole seconds. The uid breaks ties, so the later session may win over one that is Ready."""
    users = [f"u{n}" for n in range(4)]
    started.create_environment()
    started.until_environment("Resolved")
    _until_the_next_second()
    for user in users:
        started.create_session(f"first-{user}", user=user)
    for user in users:
        started.until_condition("Ready", "Running", f"first-{user}")
    for user in users:
        started.create_session(f"second-{user}", user=user)

    def one_each() -> bool:
        for user in users:
            reasons = {started.condition("Ready", f"{order}-{user}")["reason"] for order in ("first", "second")}
            assert reasons == {"Running", "DuplicateSession"}, f"{user}: {reasons}"
        return len(started.pods()) == len(users)

    eventually(one_each)


def _until_the_next_second() -> None:
    this = int(time.time())
    eventually(lambda: int(time.time()) > this)


def test_another_user_of_the_same_environment_is_no_duplicate(started: Lab) -> None:
    started.create_environment()
    started.create_session("ada")
    started.create_session("bob")
    started.until_ready("ada")
    started.until_ready("bob")


def test_a_deleted_pod_is_started_again(started: Lab) -> None:
    started.create_environment()
    started.create_session()
    started.until_ready()
    first = started.the_pod()["metadata"]["name"]
    started.api.delete(started.path("pods", first))
    eventually(lambda: started.session()["status"].get("incarnation") == 2, what="incarnation 2")
    started.until_ready()
    second = started.the_pod()["metadata"]["name"]
    assert (first[-2:], second[-2:]) == ("-1", "-2")
    assert started.session()["status"]["restarts"] == 1
    assert len(started.package_lists()) == 1
    assert [e["message"] for e in started.events(reason="PodFailed")] == [f"pod {first} was deleted, or lost with its node; starting again"]


def test_a_strangers_pod_under_the_name_of_ours(started: Lab) -> None:
    started.create_environment()
    started.create_session()
    started.until_ready()
    first = started.the_pod()["metadata"]["name"]
    stranger = first[:-1] + "2"
    started.api.post(
        started.path("pods"),
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": stranger, "labels": {}},
            "spec": {"containers": [{"name": "c", "image": "x"}]},
        },
    )
    started.api.delete(started.path("pods", first))
    started.until_condition("Ready", "PodFailed", says=f"{stranger}' exists already")
    assert started.api.get(started.path("pods", stranger))
    started.api.delete(started.path("pods", stranger), {"gracePeriodSeconds": 0})
    started.until_ready()


def test_kubectl_delete_ends_the_pod_and_leaves_the_list_of_packages_for_the_next_session(started: Lab) -> None:
    started.create_environment()
    started.create_session()
    started.until_ready()
    started.settle()
    agent, before = started.agent(), started.recorder.mark()
    started.api.delete(started.path("computesessions", "ada"))
    eventually(lambda: started.pods() == [], what="garbage collection takes the pod")
    started.settle(quiet=1.0)
    assert started.lines(since=before, without=("flowenvironments",)) == []
    assert len(started.package_lists()) == 1
    assert [call.path for call in agent.calls].count("/v1/packages") == 1
    started.create_session("bob")
    started.until_ready("bob")
    assert "/v1/packages" not in [call.path for call in started.agent("bob").calls]


def test_the_same_name_again_is_a_new_session(started: Lab) -> None:
    started.create_environment()
    started.create_session()
    first = started.until_ready()["metadata"]["uid"]
    started.api.delete(started.path("computesessions", "ada"))
    eventually(started.gone)
    started.create_session()
    again = started.until_ready()
    assert again["metadata"]["uid"] != first
    assert again["status"]["incarnation"] == 1
    eventually(lambda: len(started.pods()) == 1)


def test_an_environment_made_anew_keeps_its_sessions_packages_listed(started: Lab) -> None:
    started.create_environment()
    started.create_session("ada")
    started.until_ready("ada")
    started.api.delete(started.path("flowenvironments", "env"))
    eventually(lambda: started.package_lists() == [], what="garbage collection takes the list")
    started.create_environment()
    started.create_session("bob")
    started.until_ready("bob")
    for name in ("ada", "bob"):

        def listed(name: str = name) -> bool:
            named = started.session(name)["status"]["packages"]["configMapName"]
            return named in [found["metadata"]["name"] for found in started.package_lists()]

        eventually(listed, what=f"the list that the status of {name} names exists")
