"""`why`, beyond the corpus of failures: which object a name means, options in suggested commands, and messages shown only once."""

import time

import pytest
from click.testing import CliRunner

from flowsession_cli import app, cluster, explain, render, ways
from flowsession_cli.errors import CliError
from unit.cli.fakes import FakeCluster, condition, event, ready_status

NOW = 1_800_000_000.0


def session(*conditions, phase="Pending", **status):
    return {
        "metadata": {"name": "chat", "generation": 1},
        "spec": {"environmentRef": {"name": "env"}},
        "status": {"phase": phase, "observedGeneration": 1, "conditions": list(conditions), **status},
    }


def of(*conditions, environment=True, pod_events=(), events=(), log="", **status):
    env = {"metadata": {"name": "env"}, "spec": {}, "status": {}} if environment is True else environment
    return explain.session(session(*conditions, **status), env, pod_events, events, now=NOW, log=log)


@pytest.mark.parametrize("kind", ["FlowValid", "InSync"])
def test_a_running_session_with_something_wrong_is_not_well(kind):
    found = of(*ready_status()["conditions"], condition(kind, "False", "Bad", "node a calls nothing"), phase="Running")
    assert not found.well
    assert found.headline == "chat is Running, but not all is well"
    assert ("cause", "node a calls nothing (Bad)") in found.rows


def test_the_installers_last_words_are_shown():
    install = {"tool": "uv", "exitCode": 1, "stderrTail": "\n".join(f"line {n}" for n in range(20))}
    found = of(condition("Ready", "False", "InstallFailed", "it failed"), install=install)
    assert ("uv", "\n".join(f"line {n}" for n in range(12, 20))) in found.rows


def test_scheduler_and_kubelet_have_their_say_once():
    words = [event("chat-1", "FailedScheduling", "0/2 nodes are available", minute=n) for n in (1, 2)]
    found = of(condition("Ready", "False", "Starting", "it starts"), pod_events=words, podName="chat-1")
    assert ("where", "pod chat-1, on no node yet") in found.rows
    assert found.rows[-1] == ("pod", "FailedScheduling: 0/2 nodes are available (2 times)")
    told = of(condition("Ready", "False", "Unschedulable", "no node: 0/2 nodes are available"), pod_events=words, podName="chat-1")
    assert not [row for row in told.rows if row[0] == "pod"], "the operator has said it"


def test_an_instance_that_was_stopped_is_not_told_with_what_an_earlier_start_waited_for():
    words = [event("box-1", "FailedScheduling", "0/2 nodes are available")]
    for reason, shown in (("Stopped", False), ("Starting", True)):
        box = {"metadata": {"name": "box"}, "status": {"phase": reason, "conditions": [condition("Ready", "False", reason, "so it is")]}}
        assert any("0/2 nodes" in text for _, text in explain.instance(box, words, ()).rows) is shown


def test_a_claim_that_is_missing_is_no_matter_of_sizes():
    found = of(condition("Ready", "False", "Unschedulable", 'no node: persistentvolumeclaim "results" not found'))
    assert [text for title, text in found.rows if title == "do"] == [
        "kubectl get pvc shows the claims that are there; create results, or name one of them"
    ]


def test_since_when_it_is_so():
    ready = condition("Ready", "False", "ImagePullFailed", "no such image") | {"lastTransitionTime": "2027-01-15T07:57:00Z"}
    assert of(ready).headline == "chat is not running: it is Pending (for 3m)"


def test_a_change_that_the_operator_has_not_seen_is_told():
    thing = session(condition("Ready", "False", "SizeNotFound", "there is no such size"))
    thing["metadata"]["generation"] = 2
    found = explain.session(thing, None, [], [], now=NOW)
    assert ("also", "the operator has not looked at the last change of its spec yet") in found.rows
    assert ("also", "there is no environment env") in found.rows


def test_one_that_is_being_deleted_is_told_as_such():
    thing = session(*ready_status()["conditions"])
    thing["metadata"]["deletionTimestamp"] = "2027-01-15T08:00:00Z"
    assert explain.session(thing, None, [], [], now=NOW).headline == "chat is being deleted"


@pytest.mark.parametrize(("phase", "reason", "well"), [("Completed", "Completed", True), ("Running", "Running", True)])
def test_a_run_that_goes_on_is_well(phase, reason, well):
    done = condition("Complete", "True" if phase == "Completed" else "False", reason, "3 lines")
    assert explain.run({"metadata": {"name": "r"}, "spec": {}, "status": {"phase": phase, "conditions": [done]}}, []).well is well


def test_commands_have_the_options_that_it_was_called_with():
    text = "kubectl flow size ls shows sizes; kubectl flow set chat --size SIZE takes one; kubectl flow edits chat diff"
    assert ways.with_options(text, "") == text
    said = ways.with_options(text, "-n team --context prod")
    assert said.startswith("kubectl flow size ls -n team --context prod shows sizes; kubectl flow set -n team --context prod chat")
    assert said.endswith("kubectl flow edits -n team --context prod chat diff")


@pytest.fixture
def fake(monkeypatch):
    """A cluster with a session, a run and an environment of the same name. It takes the namespace that a command was given."""
    fake = FakeCluster()
    fake.put("ComputeSession", "chat", spec={"environmentRef": {"name": "chat"}}, status=ready_status())
    done = condition("Complete", "False", "LinesFailed", "1 of 3 lines failed")
    fake.put("FlowRun", "chat", spec={"environmentRef": {"name": "chat"}}, status={"phase": "Failed", "conditions": [done]})
    bad = condition("Ready", "False", "FlowInvalid", "flow.dag.yaml is a list")
    fake.put("FlowEnvironment", "chat", spec={"source": {"git": {"url": "https://x"}}}, status={"conditions": [bad]})
    monkeypatch.setattr("flowsession_cli.cluster.Cluster", lambda **given: fake.__dict__.update(given) or fake)
    return fake


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("chat", "chat is Running, but not all is well"),
        ("session/chat", "chat is Running, but not all is well"),
        ("run/chat", "run chat is Failed"),
        ("frun/chat", "run chat is Failed"),
        ("env/chat", "environment chat: it is not Ready"),
        ("flowenvironments.flowsession.dev/chat", "environment chat: it is not Ready"),
    ],
)
def test_a_name_of_several_kinds_is_the_sessions_unless_the_kind_stands_before_it(fake, name, said):
    fake.things[cluster.SESSION, "chat"]["status"]["conditions"].append(condition("FlowValid", "False", "Invalid", "bad"))
    assert CliRunner().invoke(app.cli, ["why", name]).output.startswith(said)


def test_what_is_to_be_done_is_said_for_the_namespace_that_was_asked_about(fake):
    assert "kubectl flow env refresh -n team chat" in CliRunner().invoke(app.cli, ["why", "env/chat", "-n", "team"]).output


def test_a_kind_before_a_name_of_nothing(fake):
    done = CliRunner().invoke(app.cli, ["why", "run/other"])
    assert isinstance(done.exception, CliError)
    assert str(done.exception).startswith("there is no run other, and no Event tells of one")
    assert str(done.exception).endswith("there is chat")


def test_a_kind_before_the_name_of_another_kind_tells_of_the_one_that_was_asked_about(fake):
    fake.told.append(event("chat", "Running", "ready"))
    assert str(CliRunner().invoke(app.cli, ["why", "instance/chat"]).exception).startswith("there is no instance chat, and no Event")
    fake.told.append(event("chat", "Stopped", "stopped") | {"involvedObject": {"kind": "ComputeInstance", "name": "chat"}})
    assert CliRunner().invoke(app.cli, ["why", "instance/chat"]).output.startswith("there is no instance chat now")


def test_a_session_that_was_made_a_moment_ago_is_no_sign_of_a_missing_operator(fake, monkeypatch):
    fake.things[cluster.SESSION, "chat"]["status"] = {}
    made = render.seconds_of(fake.things[cluster.SESSION, "chat"]["metadata"]["creationTimestamp"])
    monkeypatch.setattr(time, "time", lambda: made + 3)
    assert "it was made a moment ago" in CliRunner().invoke(app.cli, ["why", "chat"]).output
    monkeypatch.setattr(time, "time", lambda: made + 30)
    assert "nobody has looked at it" in CliRunner().invoke(app.cli, ["why", "chat"]).output


def test_the_events_of_a_pod_that_is_gone_are_found_by_its_name():
    fake = FakeCluster()
    told = [event(name, "Evicted", "low on memory") for name in ("chat-01234-1", "chat-two-01234-1", "chat-99999-1")]
    fake.told.extend(found | {"involvedObject": found["involvedObject"] | {"kind": "Pod"}} for found in told)
    found = fake.events_of_former_pods({"metadata": {"name": "chat", "uid": "01234abc"}})
    assert [one["involvedObject"]["name"] for one in found] == ["chat-01234-1"]


def test_events_of_an_earlier_object_of_the_name_are_left_out():
    fake = FakeCluster()
    fake.__dict__["told"] = [event("chat", "NotRestored", "before"), event("chat", "Running", "now", minute=1)]
    for told, uid in zip(fake.told, ("old", "new"), strict=True):
        told["involvedObject"]["uid"] = uid
    assert [told["message"] for told in fake.events("chat", "ComputeSession", uid="new")] == ["now"]
    assert len(fake.events("chat", "ComputeSession")) == 2
