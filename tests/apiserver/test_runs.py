"""FlowRuns against a real API server: finding a session, counts, outputs, the queue, kills, and reported failures."""

import base64
import time

import pytest

from apiserver.api import Object, Refused, eventually, stays
from apiserver.lab import Lab, refusal

DONE = {"state": "Completed", "lines": {"total": 3, "completed": 3, "failed": 0}, "metrics": {"accuracy": "0.93"}}


@pytest.fixture
def ready(started: Lab) -> Lab:
    """Create a Ready session of ada's."""
    started.environment_of_flow()
    started.create_session()
    started.until_ready()
    return started


def status(lab: Lab, name: str = "answers") -> Object:
    found: Object = lab.api.get(lab.path("flowruns", name)).get("status") or {}
    return found


def writes(lab: Lab, *, since: int) -> list[str]:
    return [line for line in lab.lines(since=since) if line in ("PATCH flowruns/status", "POST configmaps")]


def test_a_run_goes_to_the_users_session_and_its_outputs_are_kept(ready: Lab) -> None:
    lab, before = ready, ready.recorder.mark()
    run = lab.create_run(columnMapping={"text": "${data.word}"})
    found = lab.until_run("Running")
    assert run["spec"].keys().isdisjoint(("resources", "identity")), "absent means any"
    assert (found["phase"], found["sessionName"], found["podName"]) == ("Running", "ada", lab.the_pod()["metadata"]["name"])
    agent, uid = lab.agent(), run["metadata"]["uid"]
    (ordered,) = [call.body for call in agent.calls if (call.method, call.path) == ("PUT", "/v1/runs")]
    assert ordered == {"id": uid, "name": f"answers-{uid[:8]}", "data": "data.jsonl", "columnMapping": {"text": "${data.word}"}}
    agent.outputs = b"packed"
    agent.change_run(**DONE)
    end = lab.until_run("Completed", says="all 3 lines were run")
    assert (end["phase"], end["lines"], end["progress"], end["metrics"]) == ("Completed", DONE["lines"], "3/3", {"accuracy": "0.93"})
    assert {"startedAt", "completedAt", "duration"} <= end.keys()
    (name,) = end["outputs"]["configMapNames"]
    kept = lab.api.get(lab.path("configmaps", name))
    assert base64.b64decode(kept["binaryData"]["outputs.tar.gz"]) == b"packed"
    assert kept["metadata"]["ownerReferences"][0]["uid"] == uid
    assert writes(lab, since=before).count("PATCH flowruns/status") == 3, "its place, its begin, its end"
    lab.until_event("Completed", "answers")


def test_counts_are_written_now_and_then_and_never_go_back(ready: Lab) -> None:
    lab = ready
    lab.create_run()
    lab.until_run("Running")
    before = lab.recorder.mark()
    agent = lab.agent()
    for count in range(1, 31):
        seen = len(agent.calls)
        agent.change_run(lines={"total": 30, "completed": count, "failed": 0})
        eventually(lambda seen=seen: len(agent.calls) > seen, what="it is asked again")
    agent.outputs = b"x"
    lines = {"total": 30, "completed": 20, "failed": 1}
    agent.change_run(state="Failed", code="LinesFailed", message="1 of 30 lines failed", lines=lines)
    end = lab.until_run("LinesFailed", says="1 of 30 lines failed")
    assert (end["phase"], end["lines"]) == ("Failed", {"total": 30, "completed": 30, "failed": 1})
    assert lab.condition("Failed", "answers", plural="flowruns")["status"] == "True"
    assert end["outputs"]["configMapNames"], "the lines that were run have outputs"
    assert writes(lab, since=before).count("PATCH flowruns/status") < 10


def test_a_session_is_made_for_a_run_whose_user_has_none_that_fits(started: Lab) -> None:
    lab = started
    lab.environment_of_flow()
    lab.create_session("bob")
    lab.until_ready("bob")
    lab.create_run(sessionRef={"name": "box"})
    lab.until_run("SessionMissing", says="there is no session 'box': create it, or leave sessionRef out in a new run")
    first = lab.create_run("first")
    made = f"first-{first['metadata']['uid'][:5]}"
    assert lab.until_run("Running", "first")["sessionName"] == made
    assert lab.session(made)["spec"]["idle"]["timeoutSeconds"] == 3600
    lab.create_run("second")
    lab.until_run("RunsAhead", "second", says=f"place 1 in the queue of session {made!r}, after first")
    lab.create_session("ada")
    lab.until_ready("ada")  # in addition to the run's own session
    assert lab.until_run("Running", "second")["sessionName"] == "ada"


def test_a_session_that_the_api_server_refuses_is_told_of(started: Lab) -> None:
    lab = started
    lab.environment_of_flow()
    quota = {"hard": {"count/computesessions.flowsession.dev": "0"}}
    lab.api.post(lab.path("resourcequotas"), {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": quota})
    body: Object = {"apiVersion": "flowsession.dev/v1alpha1", "kind": "ComputeSession", "metadata": {"name": "probe"}}
    body["spec"] = {"environmentRef": {"name": "env"}, "user": "ada@example.com"}

    def in_force() -> bool:
        try:
            lab.api.post(lab.path("computesessions") + "?dryRun=All", body)
        except Refused:
            return True
        return False

    eventually(in_force, what="the quota is in force")
    lab.create_run()
    lab.until_run("SessionRefused", says="quota: none")


def test_runs_go_one_after_the_other(ready: Lab) -> None:
    lab = ready
    lab.create_run("first")
    lab.until_run("Running", "first")
    lab.create_run("second")
    lab.until_run("RunsAhead", "second", says="place 1 in the queue of session 'ada', after first")
    lab.api.patch(lab.path("flowruns", "first"), {"spec": {"cancel": True}})
    assert lab.until_run("Canceled", "first")["phase"] == "Canceled"
    lab.until_run("Running", "second")
    lab.create_run("third")
    lab.until_run("RunsAhead", "third")
    lab.api.patch(lab.path("flowruns", "third"), {"spec": {"cancel": True}})
    lab.until_run("Canceled", "third", says="before it began")


def test_an_operator_that_is_killed_finds_the_run_again(ready: Lab) -> None:
    lab = ready
    run = lab.create_run()
    lab.until_run("Running")
    lab.operator.kill()
    lab.agent().outputs = b"x"
    lab.agent().change_run(**DONE)
    lab.operator.go_on()
    lab.until_run("Completed")
    assert list(lab.agent().runs) == [run["metadata"]["uid"]], "begun once"


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_kill_at_any_write_of_a_runs_life_costs_nothing(ready: Lab, moment: str) -> None:
    lab, agent = ready, ready.agent()
    agent.outputs = b"packed"
    lab.settle()
    for number in range(1, 10):
        name = f"run-{number}"
        inject = lab.recorder.kill_before if moment == "before" else lab.recorder.kill_after
        fault = lab.recorder.inject(lab.writes_to_namespace(), inject, nth=number)
        uid = lab.create_run(name)["metadata"]["uid"]
        agent.runs[uid] = {"id": uid, "version": 2, **DONE}
        eventually(lambda fault=fault, name=name: fault.done.is_set() or status(lab, name).get("phase") == "Completed", what="an end")
        if not fault.done.is_set():
            lab.settle()
        killed = fault.done.is_set()
        lab.recorder.disarm()
        if killed:
            lab.operator.start()
        end = lab.until_run("Completed", name)
        assert end["lines"] == DONE["lines"]
        kept = [cm["metadata"]["name"] for cm in lab.api.get(lab.path("configmaps"))["items"] if cm["metadata"]["name"].startswith(name)]
        assert kept == end["outputs"]["configMapNames"]
        if not killed:
            break
        lab.settle()
    assert number >= 4, "its place, its outputs, its end, an Event"


def test_a_pod_that_is_lost_ends_the_run_for_good(ready: Lab) -> None:
    lab = ready
    lab.create_run()
    lab.until_run("Running")
    lab.agent().change_run(lines={"total": 3, "completed": 2, "failed": 0})
    pod = lab.the_pod()["metadata"]["name"]
    lab.api.delete(lab.path("pods", pod), {"gracePeriodSeconds": 0})
    end = lab.until_run("SessionLost", says=f"pod {pod} was deleted")
    assert end["phase"] == "Failed"
    lab.until_ready()
    stays(lambda: status(lab)["phase"] == "Failed" and not lab.agent().runs, seconds=1)


def test_a_run_goes_on_once_in_the_next_container(ready: Lab) -> None:
    lab = ready
    lab.create_run()
    lab.until_run("Running")
    agent = lab.agent()
    agent.change_run(state="Lost")
    eventually(
        lambda: [call for call in agent.calls if call.method == "PUT" and (call.body or {}).get("again")], what="it is ordered again"
    )
    found = lab.until_run("Running")
    assert found["resumes"] == 1
    assert [one["status"] for one in found["conditions"] if one["type"] == "Resumed"] == ["True"]
    lab.until_event("Resumed", "answers")
    agent.change_run(state="Lost")
    assert lab.until_run("SessionLost", says="was restarted in the middle of the run")["phase"] == "Failed"


def test_an_agent_that_has_forgotten_a_run_ends_it(ready: Lab) -> None:
    lab = ready
    lab.create_run()
    lab.until_run("Running")
    lab.agent().runs.clear()
    lab.until_run("SessionLost", says="was restarted in the middle of the run")


def test_a_run_is_resumed_with_the_settings_of_the_first(ready: Lab) -> None:
    lab = ready
    lab.agent().outputs = b"packed"
    first = lab.create_run("first", columnMapping={"text": "${data.word}"})
    lab.until_run("Running", "first")
    lines = {"total": 3, "completed": 2, "failed": 1}
    lab.agent().change_run(state="Failed", code="LinesFailed", message="1 of 3 lines failed", lines=lines)
    lab.until_run("LinesFailed", "first")
    said = refusal(lab.create_run, "second", resumeFrom="first")
    assert "resumeFrom goes on with the settings of that run: leave out data" in said
    second = lab.create_run("second", data=None, resumeFrom="first")
    lab.until_run("Running", "second")
    body = ordered(lab, second)
    name = f"first-{first['metadata']['uid'][:8]}"
    assert (body["data"], body["columnMapping"]) == ("data.jsonl", {"text": "${data.word}"})
    assert body["resume"] == {"name": name, "archive": base64.b64encode(b"packed").decode()}


CLAIMS = {
    "data": {"persistentVolumeClaim": {"claimName": "questions", "path": "q.jsonl"}},
    "outputs": {"persistentVolumeClaim": {"claimName": "results"}},
}


def test_a_run_with_claims_gets_a_session_that_mounts_them_and_goes_on_in_its_next_pod(ready: Lab) -> None:
    lab = ready
    uid = lab.create_run(**CLAIMS)["metadata"]["uid"]
    found = lab.until_run("Running")
    session = lab.api.get(lab.path("computesessions", found["sessionName"]))
    assert session["spec"]["claims"] == [{"claimName": "questions", "readOnly": True}, {"claimName": "results", "readOnly": False}]
    pod = lab.api.get(lab.path("pods", found["podName"]))
    mounts = {mount["mountPath"]: mount.get("readOnly", False) for mount in pod["spec"]["containers"][0]["volumeMounts"]}
    assert (mounts["/claims/questions"], mounts["/claims/results"]) == (True, False)
    lab.agent(found["sessionName"]).change_run(lines={"total": 3, "completed": 2, "failed": 0})
    lab.api.delete(lab.path("pods", found["podName"]), {"gracePeriodSeconds": 0})
    lab.until_event("Resumed", "answers")
    eventually(lambda: status(lab).get("podName") not in (None, found["podName"]) and status(lab)["phase"] == "Running", what="it goes on")
    agent = lab.agent(found["sessionName"])
    assert [call.body["again"] for call in agent.calls if (call.method, call.path) == ("PUT", "/v1/runs")] == [True]
    agent.change_run(**DONE)
    end = lab.until_run("Completed")
    assert end["outputs"] == {"persistentVolumeClaim": {"claimName": "results", "path": f"answers-{uid[:8]}"}}


NIGHTLY = """\
$schema: https://azuremlschemas.azureedge.net/promptflow/latest/Run.schema.json
flow: ..
data: ../data.jsonl
column_mapping: {text: "${data.word}", top: 3}
display_name: Nightly
colour: blue
"""


def test_a_run_yaml_is_taken_as_it_is(ready: Lab) -> None:
    lab = ready
    run = lab.create_run(data=None, runYaml=NIGHTLY, path="runs/nightly.yml", tags={"team": "support"})
    found = lab.until_run("Running")
    assert found["warnings"] == ["runs/nightly.yml: 'colour' is no field of a run"]
    body = ordered(lab, run)
    assert (body["data"], body["columnMapping"]) == ("data.jsonl", {"text": "${data.word}", "top": 3})
    assert (body["displayName"], body["tags"]) == ("Nightly", {"team": "support"})
    lab.create_run("larger", data=None, runYaml="data: data.jsonl\nresources: {instance_type: Standard_D64s_v5}")
    assert lab.until_run("SessionNotReady", "larger", says="session 'larger-")["phase"] == "Queued"
    lab.create_run("managed", data=None, runYaml="data: data.jsonl\nidentity: {type: managed}")
    lab.until_run("RunYamlInvalid", "managed", says="add identity: {type: Managed}")
    lab.create_run("typo", data=None, runYaml="data: data.jsonl\nresources: {instance_typo: x}")
    end = lab.until_run("RunYamlInvalid", "typo", says="unknown key 'instance_typo': did you mean 'instance_type'?")
    assert end["phase"] == "Failed"
    assert "path says where runYaml lies in the source" in refusal(lab.create_run, "alone", path="run.yml")


def test_outputs_that_are_too_large_are_said_to_be_lost(ready: Lab) -> None:
    lab = ready
    lab.create_run()
    lab.until_run("Running")
    lab.agent().change_run(**DONE)
    end = lab.until_run("OutputsTooLarge", says="all 3 lines were run, but its outputs have 50,000,000 bytes")
    assert "outputs" not in end
    assert end["metrics"] == {"accuracy": "0.93"}


def test_a_session_of_another_user_is_refused(started: Lab) -> None:
    lab = started
    lab.environment_of_flow()
    lab.create_session("bob")
    lab.create_run(sessionRef={"name": "bob"})
    assert lab.until_run("SessionFailed", says="belongs to bob@example.com")["phase"] == "Failed"


def test_an_evaluation_goes_to_a_session_of_another_environment_with_its_flow(ready: Lab) -> None:
    lab = ready
    lab.create_run("first")
    lab.until_run("Running", "first")
    second = lab.create_run("second", environment="judge", sessionRef={"name": "ada"})
    lab.until_run("EnvironmentNotReady", "second", says="there is no FlowEnvironment 'judge'")
    lab.create_config_map("judge", flow__dag__yaml="nodes: []\n# another\n", requirements__txt="pandas>=2\n")
    lab.create_environment("judge", source={"configMap": {"name": "judge"}})
    lab.until_run("RunsAhead", "second", says="place 1 in the queue of session 'ada', after first")
    lab.agent().outputs = b"packed"
    lab.agent().change_run(**DONE)
    lab.until_run("Running", "second")
    body = ordered(lab, second)
    asked = {"text": "pandas>=2\n", "path": "requirements.txt", "shown": "requirements.txt"}
    assert body["guest"] == {"environment": "judge", "requirements": asked}
    assert base64.b64decode(body["files"]["flow.dag.yaml"]) == b"nodes: []\n# another\n"
    said = "1 of 1 requirements is not satisfied by what is installed there: 'pandas>=2' (line 1 of requirements.txt): it is not installed"
    errors = [{"message": "'pandas>=2' (line 1 of requirements.txt): it is not installed"}]
    lab.agent().change_run(state="Failed", code="SessionIncompatible", message=said, errors=errors)
    end = lab.until_run("SessionIncompatible", "second", says=f"session 'ada' can't run the flow of environment 'judge': {said}. Leave")
    assert (end["phase"], end["errors"]) == ("Failed", errors)
    assert not [call for call in lab.agent().calls if call.path == "/v1/environment" and "another" in str(call.body)]


def test_a_session_with_another_image_or_without_a_connection_is_refused(ready: Lab) -> None:
    lab = ready
    lab.create_environment("image", baseImage="registry.example/other:1")
    lab.create_environment("connected", connections=[{"name": "aoai", "secretName": "open-ai"}])
    lab.create_run("first", environment="image", sessionRef={"name": "ada"})
    lab.until_run("SessionIncompatible", "first", says="environment 'image' asks for registry.example/other:1: leave sessionRef out")
    lab.create_run("second", environment="connected", sessionRef={"name": "ada"})
    lab.until_run("ConnectionMissing", "second", says="names connections that session 'ada' has not: aoai; add them to environment 'env'")
    assert not lab.agent().runs


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"data": {"path": "../x.jsonl"}}, "spec.data.path"),
        ({"data": {"path": "/etc/passwd"}}, "spec.data.path"),
        ({"data": {"path": "a//b"}}, "spec.data.path"),
        ({"data": None}, "a run needs data, or an earlier run"),
        ({"data": {}}, "data is one of path, configMap and persistentVolumeClaim"),
        ({"data": {"path": "a.jsonl", "configMap": {"name": "a", "key": "b"}}}, "data is one of path, configMap and persistentVolumeClaim"),
        ({"variant": "loud"}, "spec.variant"),
        ({"varient": "${a.b}"}, "unknown field"),
    ],
)
def test_mistakes_are_refused(lab: Lab, spec: Object, says: str) -> None:
    assert says in refusal(lab.create_run, **spec)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"user": "bob@example.com"}, "user is immutable"),
        ({"data": {"path": "other.jsonl"}}, "data is immutable"),
        ({"columnMapping": {"a": "b"}}, "columnMapping is immutable"),
        ({"sessionRef": {"name": "x"}}, "sessionRef is immutable"),
        ({"environmentVariables": {"A": "b"}}, "environmentVariables is immutable"),
        ({"connections": {"node": {"connection": "other"}}}, "connections is immutable"),
        ({"init": {"model": 1}}, "init is immutable"),
        ({"run": "first"}, "run is immutable"),
        ({"cancel": False}, "cancel can't be taken back"),
    ],
)
def test_a_run_stays_what_it_is(lab: Lab, change: Object, says: str) -> None:
    lab.create_run(cancel=True)
    assert says in refusal(lab.api.patch, lab.path("flowruns", "answers"), {"spec": change})


def test_what_people_and_clocks_may_change_is_no_part_of_it(lab: Lab) -> None:
    lab.create_run()
    lab.api.patch(
        lab.path("flowruns", "answers"),
        {"spec": {"timeoutSeconds": 60, "ttlSecondsAfterFinished": 60, "displayName": "a", "description": "b", "tags": {"c": "d"}}},
    )


def ordered(lab: Lab, run: Object) -> Object:
    """Return the run as the agent received it."""
    puts = [call.body for call in lab.agent().calls if (call.method, call.path) == ("PUT", "/v1/runs")]
    (found,) = [body for body in puts if body["id"] == run["metadata"]["uid"]]
    return dict(found)


def test_an_evaluation_takes_data_of_a_config_map_and_the_outputs_of_an_earlier_run(ready: Lab) -> None:
    lab = ready
    second = lab.create_run("second", data={"configMap": {"name": "truth", "key": "truth.jsonl"}}, run="first")
    lab.until_run("RunNotFound", "second", says="correct the name, or create it first")
    time.sleep(1.1)  # creation times have whole seconds, and `first` must be the younger run
    first = lab.create_run("first", environmentVariables={"A": "b"}, init={"deep": {"er": [1, None]}})
    lab.until_run("RunUnfinished", "second", says="is not over yet")
    lab.until_run("Running", "first")
    assert ordered(lab, first)["init"] == {"deep": {"er": [1, None]}}
    lab.agent().outputs = b"packed"
    lab.agent().change_run(**DONE, tokens={"prompt": 1, "completion": 2, "total": 3})
    end = lab.until_run("Completed", "first")
    assert end["tokens"] == {"prompt": 1, "completion": 2, "total": 3}
    lab.until_run("DataNotFound", "second", says="there is no ConfigMap 'truth'")
    lab.create_config_map("truth", labelled=False, truth__jsonl="{}")
    third = lab.create_run("third", data={"configMap": {"name": "truth", "key": "truth.jsonl"}}, run="first")
    lab.until_run("Running", "third")
    body = ordered(lab, third)
    assert body["dataFile"] == {"name": "truth.jsonl", "content": base64.b64encode(b"{}").decode()}
    name = f"first-{first['metadata']['uid'][:8]}"
    assert body["earlier"] == {"name": name, "archive": base64.b64encode(b"packed").decode()}
    lab.create_run("fourth", data={"configMap": {"name": "truth", "key": "truht.jsonl"}})
    lab.api.patch(lab.path("flowruns", "third"), {"spec": {"cancel": True}})
    lab.until_run("DataNotFound", "fourth", says="has no key 'truht.jsonl', but truth.jsonl")
    assert second["metadata"]["uid"] not in lab.agent().runs


def test_runs_that_wait_for_one_another_say_so(ready: Lab) -> None:
    lab = ready
    lab.create_run("a", run="b")
    lab.create_run("b", run="a")
    lab.until_run("RunUnfinished", "b", says="b -> a -> b")
    assert lab.until_run("RunUnfinished", "a")["phase"] == "Failed"


def test_time_ends_a_run_and_then_deletes_it(ready: Lab) -> None:
    lab = ready
    lab.agent().outputs = b"packed"
    lab.create_run(timeoutSeconds=1)
    end = lab.until_run("TimedOut", says="raise spec.timeoutSeconds")
    assert end["phase"] == "Failed"
    lab.api.patch(lab.path("flowruns", "answers"), {"spec": {"ttlSecondsAfterFinished": 1}})
    eventually(lambda: not lab.api.get(lab.path("flowruns"))["items"], what="it is deleted")
