"""Runs: the session, the queue, the next call of the agent, how a run ends, and that an end is final."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flowsession.api.identity import Identity, IdentityType
from flowsession.api.run import FINAL, ClaimFolder, FlowRunSpec, SessionRef
from flowsession.api.session import ComputeSessionSpec
from flowsession.engine.run_calls import observed
from flowsession.flow.run_yaml import RunYaml
from flowsession.manifests import run_outputs
from flowsession.model.plan import BeginRun, CancelRun, Enclosed, FetchOutputs, FollowRun, Plan
from flowsession.model.run_views import Earlier, RunAnswer, RunFailure, RunReply, RunView
from flowsession.model.views import PodView
from flowsession.reconcile.run import chain
from flowsession.reconcile.run.snapshot import Place, Rival, RunSnapshot
from unit.builders import NAMESPACE, NOW, POD, applied, condition, container, pod, stamp, verdict

USER, ENVIRONMENT, UID = "alice@example.com", "chat", "0123456789"
HOME = Place("alice-flow", USER, ENVIRONMENT, POD, "Running")
PLACED = {"phase": "Preparing", "sessionName": "alice-flow", "podName": POD}
RUNNING = RunAnswer("Running", version=4, total=40, completed=30, failed=2)
DONE = RunAnswer("Completed", version=9, total=40, completed=40)


def spec(**fields: Any) -> FlowRunSpec:
    return FlowRunSpec.model_validate({"user": USER, "environmentRef": {"name": ENVIRONMENT}, "data": {"path": "data.jsonl"}, **fields})


def snapshot(**fields: Any) -> RunSnapshot:
    known: dict[str, Any] = {
        "namespace": NAMESPACE,
        "name": "answers",
        "uid": UID,
        "resource_version": "5",
        "generation": 1,
        "created_at": NOW - 10.0,
        "deleting": False,
        "spec": spec(),
        "status": {},
        "sessions": (HOME,),
    }
    return RunSnapshot(**{**known, **fields})


def placed(view: RunView | None = None, **fields: Any) -> RunSnapshot:
    return snapshot(**{"status": PLACED, "pod": pod(), "view": view or RunView(), **fields})


def after(found: RunSnapshot, now: float = NOW) -> tuple[Plan, dict[str, Any]]:
    plan = chain.decide(found, now)
    return plan, applied(found.status, plan.status.status if plan.status else {})


def rival(name: str, at: float, *, session: str = "", placed: bool = False, environment: str = ENVIRONMENT) -> Rival:
    return Rival(name, (NOW + at, name), session, placed, environment)


# -- its turn

NAMED = {"spec": spec(sessionRef={"name": "alice-flow"}, resources={"instanceType": "Standard_D4s_v5"})}


@pytest.mark.parametrize(
    ("fields", "phase", "reason", "says"),
    [
        ({"sessions": ()}, "Queued", "SessionNotReady", "session 'answers-01234' is made for the run"),
        ({"sessions": (), "refusal": "exceeded quota"}, "Queued", "SessionRefused", "can't be made for the run: exceeded quota"),
        ({"sessions": (), "spec": spec(sessionRef={"name": "box"})}, "Queued", "SessionMissing", "there is no session 'box'"),
        ({"sessions": (replace(HOME, pod="", phase="Installing"),)}, "Queued", "SessionNotReady", "'alice-flow' is Installing"),
        ({"sessions": (replace(HOME, pod="", phase="Suspended"),)}, "Queued", "SessionNotReady", "'answers-01234' is made"),
        (NAMED | {"sessions": (replace(HOME, pod="", phase="Suspended"),)}, "Queued", "SessionNotReady", "is Suspended"),
        (NAMED | {"sessions": (replace(HOME, user="bob"),)}, "Failed", "SessionFailed", "belongs to bob"),
        ({"rivals": (rival("old", -20),)}, "Queued", "RunsAhead", "place 1 in the queue of session 'alice-flow', after old"),
        ({"rivals": (rival("young", -1),)}, "Preparing", "Preparing", "'alice-flow'"),
        ({"rivals": (rival("young", -1, session="alice-flow", placed=True),)}, "Queued", "RunsAhead", "after young"),
        ({"rivals": (rival("old", -20, session="elsewhere", placed=True),)}, "Preparing", "Preparing", ""),
        ({"rivals": (rival("old", -20, session="elsewhere"),)}, "Preparing", "Preparing", ""),
        ({"rivals": (rival("old", -20, environment="other"),)}, "Preparing", "Preparing", ""),
        ({"rivals": (rival("guest", -20, session="alice-flow", environment="other"),)}, "Queued", "RunsAhead", "after guest"),
        ({"spec": spec(cancel=True)}, "Canceled", "Canceled", "before it began"),
    ],
)
def test_where_it_runs_and_when(fields: dict[str, Any], phase: str, reason: str, says: str) -> None:
    plan, status = after(snapshot(**fields))
    assert (status["phase"], verdict(status, "Complete")) == (phase, ("False", reason))
    assert says in condition(status, "Complete")["message"]
    assert plan.run_call is None, "the status names the pod before its agent is told"
    assert ("podName" in status) == (phase == "Preparing")


@pytest.mark.parametrize(
    ("asked", "there", "fits"),
    [
        ({}, {"size": "standard-d2s-v5", "identity": Identity(type=IdentityType.MANAGED)}, True),
        ({"resources": {"instanceType": "automatic"}}, {"size": "standard-d2s-v5"}, True),
        ({"resources": {"instanceType": "Standard_D4s_v5"}}, {"size": "standard-d4s-v5"}, True),
        ({"resources": {"instanceType": "Standard_D4s_v5"}}, {"size": "standard-d2s-v5"}, False),
        ({"resources": {"instanceType": "Standard_D4s_v5"}}, {"size": "standard-d4s-v5", "instance": "box"}, False),
        ({"resources": {"compute": "box"}}, {"instance": "box"}, True),
        ({"resources": {"compute": "box"}}, {"size": "standard-d4s-v5"}, False),
        ({"identity": {"type": "Managed", "clientID": "1"}}, {"identity": Identity(type=IdentityType.MANAGED, client_id="1")}, True),
        ({"identity": {"type": "Managed", "clientID": "1"}}, {}, False),
    ],
)
def test_a_session_that_is_as_the_run_asks_or_one_that_is_made_so(asked: dict[str, Any], there: dict[str, Any], fits: bool) -> None:
    plan, status = after(snapshot(spec=spec(**asked), sessions=(replace(HOME, **there),)))
    assert (status["phase"], len(plan.creates)) == (("Preparing", 0) if fits else ("Queued", 1))
    if not fits:
        made = plan.creates[0].manifest
        ComputeSessionSpec.model_validate(made["spec"])
        size, instance = asked.get("resources", {}).get("instanceType"), asked.get("resources", {}).get("compute")
        assert made["spec"].get("compute") == (
            {"type": "Instance", "instanceRef": {"name": instance}} if instance else {"vmSize": size} if size else None
        )
        assert made["spec"].get("identity") == asked.get("identity")
        assert made["spec"]["idle"] == {"timeoutSeconds": 3600}
        assert made["metadata"]["labels"]["flowsession.dev/for-run"] == "answers"


def test_a_ready_session_comes_before_an_older_one_that_is_not() -> None:
    _, status = after(snapshot(sessions=(replace(HOME, session="old", pod=""), HOME)))
    assert (status["sessionName"], status["podName"]) == ("alice-flow", POD)


# -- calls of the agent


@pytest.mark.parametrize(
    ("view", "cancel", "call"),
    [
        (RunView(), False, BeginRun),
        (RunView(calling=True), False, None),
        (RunView(answer=RUNNING), False, FollowRun),
        (RunView(answer=RUNNING, calling=True), False, None),
        (RunView(answer=RUNNING), True, CancelRun),
        (RunView(answer=RUNNING, calling=True), True, CancelRun),
        (RunView(answer=RUNNING, cancel_asked=True), True, FollowRun),
        (RunView(answer=DONE), False, FetchOutputs),
        (RunView(answer=DONE, archive="eA=="), False, None),
        (RunView(failures=3, asked_at=NOW - 1), False, None),
        (RunView(failures=3, asked_at=NOW - 10), False, BeginRun),
        (RunView(refused="RunInProgress", asked_at=NOW - 1), False, None),
        (RunView(refused="Retired", asked_at=NOW - 6), False, BeginRun),
    ],
)
def test_what_the_agent_is_asked_next(view: RunView, cancel: bool, call: type | None) -> None:
    plan, _ = after(placed(view, spec=spec(cancel=cancel)))
    assert (type(plan.run_call) if plan.run_call else None) == call
    if plan.run_call is None and not view.calling and not view.archive:
        assert plan.look_again_at is not None


def test_a_long_run_is_asked_less_often() -> None:
    status = {**PLACED, "startedAt": stamp(NOW - 1000.0)}
    plan, _ = after(placed(RunView(answer=RUNNING, asked_at=NOW - 1.0), status=status))
    assert (plan.run_call, plan.look_again_at) == (None, NOW + 1.0)


def test_counts_alone_are_written_at_most_once_in_ten_seconds() -> None:
    _, status = after(placed(RunView(answer=RUNNING, calling=True)))
    assert status["lines"] == {"total": 40, "completed": 30, "failed": 2}
    assert status["progress"] == "32/40, 2 failed"
    more = RunView(answer=replace(RUNNING, completed=31), calling=True)
    plan, _ = after(placed(more, status=status, written_at=NOW - 4.0))
    assert (plan.status, plan.look_again_at) == (None, NOW + 6.0)
    _, status = after(placed(more, status=status, written_at=NOW - 10.0))
    assert status["lines"]["completed"] == 31


@pytest.mark.parametrize(
    ("answer", "progress"),
    [
        (replace(RUNNING, completed=30, failed=0), "34/40, 4 failed"),
        (replace(RUNNING, completed=38, failed=0), "40/40, 2 failed"),
        (replace(RUNNING, completed=38, failed=2), "40/40, 2 failed"),
        (DONE, "40/40"),
        (replace(DONE, state="Failed", code="LinesFailed", completed=37, failed=1), "38/40, 1 failed"),
    ],
)
def test_lines_that_failed_and_were_run_again_in_the_next_pod_count_once(answer: RunAnswer, progress: str) -> None:
    before = {**PLACED, "lines": {"total": 40, "completed": 28, "failed": 4}}
    _, status = after(placed(RunView(answer=answer, archive="eA==" if answer.over else ""), status=before))
    assert status["progress"] == progress


def test_what_its_lines_wait_for_is_told_and_is_over_by_itself() -> None:
    waits = "connection 'open_ai': its endpoint answers 429: line 3 asks again at 08:00:00 UTC"
    plan, status = after(placed(RunView(answer=replace(RUNNING, message=waits))))
    assert (status["phase"], condition(status, "Complete")["reason"]) == ("Running", "EndpointBusy")
    assert condition(status, "Complete")["message"].endswith(f"; {waits}")
    assert not plan.events
    _, status = after(placed(RunView(answer=RUNNING), status=status))
    assert condition(status, "Complete")["reason"] == "Running"


@pytest.mark.parametrize(
    ("seconds", "more", "says"),
    [(10.0, {}, "runs it"), (61.0, {}, "for up to 20 s: its time is up"), (10.0, {"cancel": True}, "for up to 20 s: it is canceled")],
)
def test_while_it_ends_it_says_why(seconds: float, more: dict[str, Any], says: str) -> None:
    status = {**PLACED, "startedAt": stamp(NOW - seconds)}
    found = placed(RunView(answer=RUNNING, cancel_asked=True), spec=spec(timeoutSeconds=60, **more), status=status)
    assert condition(after(found)[1], "Complete")["message"].endswith(says)


# -- its end


@pytest.mark.parametrize(
    ("view", "phase", "reason", "says"),
    [
        (RunView(answer=DONE, archive="eA=="), "Completed", "Completed", "all 40 lines"),
        (RunView(answer=DONE, lost_outputs="its outputs have 50 MB"), "Failed", "OutputsTooLarge", "but its outputs have 50 MB"),
        (RunView(answer=replace(DONE, state="Canceled", completed=3), archive="eA=="), "Failed", "TimedOut", "after 60 s 3 of 40 lines"),
        (
            RunView(answer=replace(DONE, state="Canceled", message="its log says last: connection 'a': 429"), archive="eA=="),
            "Failed",
            "TimedOut",
            "in a new run; its log says last: connection 'a': 429",
        ),
        (
            RunView(answer=replace(DONE, state="Failed", code="LinesFailed", message="2 of 40"), lost_outputs="too large"),
            "Failed",
            "LinesFailed",
            "2 of 40; too large",
        ),
        (RunView(answer=RunAnswer("Lost"), again_asked=True), "Failed", "SessionLost", "was restarted in the middle"),
        (RunView(answer=RUNNING, refused="NoRun"), "Failed", "SessionLost", "was restarted in the middle"),
        (RunView(refused="NotFound"), "Failed", "SessionFailed", "reset the session"),
        (RunView(refused="DataNotFound", message="there is no ConfigMap 'x'"), "Failed", "DataNotFound", "no ConfigMap 'x'"),
        (RunView(refused="RunNotFound", message="create that run again"), "Failed", "RunNotFound", "create that run again"),
    ],
)
def test_how_it_ends(view: RunView, phase: str, reason: str, says: str) -> None:
    _, status = after(placed(view, spec=spec(timeoutSeconds=60)))
    assert status["phase"] == phase
    assert verdict(status, "Complete") == ("True" if phase == "Completed" else "False", reason)
    assert says in condition(status, "Complete")["message"]
    assert verdict(status, "Failed") == (("-", "-") if phase == "Completed" else ("True", reason))
    assert verdict(status, "Stalled")[0] == ("True" if phase == "Failed" else "-")
    assert (verdict(status, "Reconciling")[0], condition(status, "Reconciling")["message"]) == ("False", "")
    assert status["completedAt"] == stamp(NOW)


@pytest.mark.parametrize(
    ("gone", "says"),
    [
        (None, "was deleted, or lost with its node"),
        (pod(phase="Failed", reason="Evicted", message="the node was low on memory"), "low on memory"),
    ],
)
def test_a_pod_that_is_lost_ends_it(gone: Any, says: str) -> None:
    _, status = after(placed(RunView(answer=RUNNING), pod=gone))
    assert verdict(status, "Complete") == ("False", "SessionLost")
    assert says in condition(status, "Complete")["message"]
    assert "32 of 40 lines were run" in condition(status, "Complete")["message"]


def test_a_suspended_session_is_told_as_the_cause() -> None:
    gone = pod(phase="Failed", container=container(ended_reason="Error", ended_code=143))
    _, status = after(placed(RunView(answer=RUNNING), pod=gone, sessions=(replace(HOME, pod="", phase="Suspended"),)))
    assert condition(status, "Complete")["message"].startswith(f"session {HOME.session!r} was suspended; 32 of 40 lines were run")


@pytest.mark.parametrize("gone", [None, pod(phase="Failed", container=container(ended_reason="Error", ended_code=143))])
def test_a_deleted_session_is_told_as_the_cause(gone: Any) -> None:
    _, status = after(placed(RunView(answer=RUNNING), pod=gone, sessions=()))
    assert condition(status, "Complete")["message"].startswith(f"session {HOME.session!r} was deleted; 32 of 40 lines were run")


def test_a_run_that_was_refused_by_a_session_which_then_ended_waits_for_the_next() -> None:
    _, status = after(placed(RunView(refused="Retired"), pod=None, sessions=()))
    assert (status["phase"], verdict(status, "Complete")[1]) == ("Queued", "SessionNotReady")
    assert not {"podName", "sessionName"} & status.keys()


def test_an_agent_that_does_not_answer_is_told_of() -> None:
    _, status = after(placed(RunView(failures=3, asked_at=NOW, message="no connection")))
    assert verdict(status, "Complete") == ("False", "AgentUnreachable")


def test_what_was_fetched_before_the_pod_went_is_kept() -> None:
    plan, status = after(placed(RunView(answer=DONE, archive="eA=="), pod=None))
    assert status["phase"] == "Completed"
    (made,) = plan.creates
    assert made.manifest == run_outputs.manifest(NAMESPACE, "answers", UID, "eA==")
    assert status["outputs"] == {"configMapNames": [made.manifest["metadata"]["name"]]}


def test_a_pod_that_was_deleted_is_told_as_that() -> None:
    gone = pod(phase="Failed", deleting_since=NOW, container=container(ended_reason="Error", ended_code=143))
    _, status = after(placed(RunView(answer=RUNNING), pod=gone))
    assert condition(status, "Complete")["message"].startswith(f"pod {POD} was deleted; 32 of 40 lines")


def test_a_restarts_cause_is_told() -> None:
    killed = pod(container=container(restarts=1, ended_reason="OOMKilled", ended_code=137, ended_at=NOW))
    _, status = after(placed(RunView(answer=RunAnswer("Lost"), again_asked=True), pod=killed))
    assert "(OOMKilled, exit code 137)" in condition(status, "Complete")["message"]
    earlier = pod(container=replace(killed.container, ended_at=NOW - 60.0))
    _, status = after(
        placed(RunView(answer=RunAnswer("Lost"), again_asked=True), pod=earlier, status={**PLACED, "startedAt": stamp(NOW - 30)})
    )
    assert "OOMKilled" not in condition(status, "Complete")["message"], "the kubelet has not told of the last end yet"


def test_outputs_that_the_api_server_refuses_are_tried_again() -> None:
    name = run_outputs.name_of("answers", UID)
    plan, status = after(placed(RunView(answer=DONE, archive="eA=="), refused_config_maps={name: "exceeded quota"}))
    assert (status["phase"], verdict(status, "Complete")[1]) == ("Running", "OutputsRefused")
    assert (plan.creates, plan.look_again_at) == ((), NOW + 60.0)


def test_failures_and_metrics_are_told() -> None:
    found = replace(
        DONE, state="Failed", code="LinesFailed", errors=(RunFailure("bad", 0, "shout"), RunFailure("sum", None, "")), metrics={"a": "1"}
    )
    _, status = after(placed(RunView(answer=found, archive="eA==")))
    assert status["errors"] == [{"line": 0, "node": "shout", "message": "bad"}, {"message": "sum"}]
    assert status["metrics"] == {"a": "1"}


def test_a_run_that_is_canceled_says_how_far_it_came() -> None:
    _, status = after(placed(RunView(answer=replace(DONE, state="Canceled", completed=3), archive="eA=="), spec=spec(cancel=True)))
    assert (status["phase"], verdict(status, "Complete")) == ("Canceled", ("False", "Canceled"))
    assert "canceled after 3 of 40 lines" in condition(status, "Complete")["message"]


def test_tokens_and_the_end_of_the_log_are_told() -> None:
    found = replace(DONE, tokens={"prompt": 3, "total": 5}, log_tail="the end\n")
    _, status = after(placed(RunView(answer=found, archive="eA==")))
    assert (status["tokens"], status["logTail"]) == ({"prompt": 3, "total": 5}, "the end\n")


@pytest.mark.parametrize(
    ("there", "cause", "outputs"),
    [
        (pod(), "the container of session 'alice-flow' was restarted in the middle of the run once more", "were not kept"),
        (None, f"pod {POD} was deleted", "went with the pod"),
    ],
)
def test_a_run_that_is_lost_says_how_often_and_where_its_outputs_are(there: PodView | None, cause: str, outputs: str) -> None:
    view = RunView(answer=RunAnswer("Lost"), again_asked=True) if there else RunView(answer=RUNNING)
    status = {**PLACED, "resumes": 1, "lines": {"total": 40, "completed": 7, "failed": 0}}
    found = placed(view, pod=there, status=status)
    message = condition(after(found)[1], "Failed")["message"]
    assert message.startswith(cause)
    assert message.endswith(f"and their outputs {outputs}: create the run again")


def test_a_run_whose_container_was_restarted_goes_on_once() -> None:
    lost = RunView(answer=RunAnswer("Lost", completed=7))
    plan, status = after(placed(lost))
    assert (status["phase"], status["resumes"], plan.run_call) == ("Running", 1, None), "the status says so before the agent is told"
    assert verdict(status, "Resumed") == ("True", "ContainerRestarted")
    plan, status = after(placed(lost, status=status))
    assert isinstance(plan.run_call, BeginRun)
    assert plan.run_call.body["again"]
    plan, same = after(placed(replace(lost, calling=True), status=status))
    assert (plan.run_call, same["phase"]) == (None, "Running"), "the call is under way"
    busy = replace(lost, refused="RunInProgress", message="another one", asked_at=NOW - 1.0)
    plan, _ = after(placed(busy, status=status))
    assert (plan.run_call, plan.look_again_at) == (None, NOW + 4.0), "it is asked again, not given up"
    assert isinstance(after(placed(replace(busy, asked_at=NOW - 6.0), status=status))[0].run_call, BeginRun)
    _, ended = after(placed(replace(busy, refused="DataNotFound"), status=status))
    assert verdict(ended, "Complete") == ("False", "DataNotFound")
    _, ended = after(placed(replace(lost, again_asked=True), status=status))
    assert verdict(ended, "Complete") == ("False", "SessionLost")
    plan, status = after(placed(RunView(answer=RUNNING, again_asked=True), status=status))
    assert isinstance(plan.run_call, FollowRun)


# -- its run.yml


def test_a_run_yaml_that_can_not_be_used_ends_the_run() -> None:
    plan, status = after(snapshot(problem="run.yml: data: no"))
    assert (status["phase"], verdict(status, "Complete"), plan.run_call) == ("Failed", ("False", "RunYamlInvalid"), None)
    assert condition(status, "Complete")["message"] == "run.yml: data: no"


def test_what_has_no_effect_is_told() -> None:
    yaml = RunYaml(environment_file="e.env", init_file="i.json", warnings=("run.yml: 'x' is no field of a run",))
    named = spec(sessionRef={"name": "alice-flow"}, resources={"instanceType": "big"}, identity={})
    _, status = after(snapshot(spec=named, yaml=yaml))
    assert status["warnings"][0] == "run.yml: 'x' is no field of a run"
    assert "resources and identity have no effect: the run goes to session 'alice-flow' as it is" in status["warnings"][1]
    plan, status = after(placed(yaml=yaml))
    assert isinstance(plan.run_call, BeginRun)
    assert (plan.run_call.body["environmentFile"], plan.run_call.body["initFile"]) == ("e.env", "i.json")
    assert "warnings" not in after(snapshot())[1]


# -- claims

ON_CLAIM = {"outputs": {"persistentVolumeClaim": {"claimName": "results", "path": "runs"}}}
BOTH = spec(data={"persistentVolumeClaim": {"claimName": "questions", "path": "d/q.jsonl"}}, **ON_CLAIM)
KEPT_THERE = {"persistentVolumeClaim": {"claimName": "results", "path": f"runs/answers-{UID[:8]}"}}


@pytest.mark.parametrize(
    ("mounted", "named", "phase", "says"),
    [
        ({"questions": False, "results": True}, True, "Preparing", ""),
        ({"questions": True, "results": True, "more": False}, False, "Preparing", ""),
        ({"questions": False, "results": False}, True, "Failed", "does not mount all that the run needs (questions, results)"),
        ({"results": True}, True, "Failed", "add it to spec.claims of the session and reset it"),
        ({}, False, "Queued", "session 'answers-01234' is made for the run"),
    ],
)
def test_a_session_that_mounts_what_the_run_needs(mounted: dict[str, bool], named: bool, phase: str, says: str) -> None:
    asked = BOTH.model_copy(update={"session_ref": SessionRef(name="alice-flow")}) if named else BOTH
    plan, status = after(snapshot(spec=asked, sessions=(replace(HOME, claims=mounted),)))
    assert status["phase"] == phase
    assert says in condition(status, "Complete")["message"]
    if phase == "Queued":
        (made,) = plan.creates
        assert made.manifest["spec"]["claims"] == [{"claimName": "questions", "readOnly": True}, {"claimName": "results"}]


def test_outputs_on_a_claim_are_not_fetched() -> None:
    plan, status = after(placed(spec=BOTH))
    assert isinstance(plan.run_call, BeginRun)
    assert plan.run_call.body["dataClaim"] == {"claim": "questions", "path": "d/q.jsonl"}
    assert plan.run_call.body["outputsClaim"] == {"claim": "results", "path": "runs"}
    plan, status = after(placed(RunView(answer=DONE), spec=BOTH))
    assert (status["phase"], status["outputs"], plan.run_call, plan.creates) == ("Completed", KEPT_THERE, None, ())


def test_a_run_with_outputs_on_a_claim_goes_on_in_the_next_pod_once() -> None:
    gone = placed(RunView(answer=RUNNING), spec=BOTH, pod=None, sessions=(replace(HOME, pod=""),))
    plan, status = after(gone)
    assert (status["phase"], status["resumes"], status["lines"]["completed"], status.get("podName")) == ("Queued", 1, 30, None)
    assert verdict(status, "Resumed") == ("True", "PodLost")
    assert [event.reason for event in plan.events] == ["Resumed"]
    home = replace(HOME, pod="next", claims={"questions": False, "results": True})
    _, status = after(snapshot(spec=BOTH, status=status, sessions=(home,)))
    assert (status["phase"], status["podName"]) == ("Preparing", "next")
    plan, status = after(snapshot(spec=BOTH, status=status, pod=pod(name="next")))
    assert isinstance(plan.run_call, BeginRun)
    assert plan.run_call.body["again"]
    _, ended = after(replace(gone, status={**gone.status, "resumes": 1}))
    assert (ended["phase"], verdict(ended, "Complete"), ended["outputs"]) == ("Failed", ("False", "SessionLost"), KEPT_THERE)
    assert "create a run with resumeFrom 'answers'" in condition(ended, "Complete")["message"]


def test_an_evaluation_of_outputs_on_a_claim() -> None:
    kept = replace(EARLIER, config_maps=(), claim=ClaimFolder(claim_name="results", path="runs/first-abcdefgh"))
    built = FlowRunSpec.model_validate({"user": USER, "environmentRef": {"name": ENVIRONMENT}, "run": "first"})
    _, status = after(snapshot(spec=built, earlier=kept))
    assert status["phase"] == "Queued", "its session does not mount the claim"
    plan, _ = after(placed(spec=built, earlier=kept))
    assert isinstance(plan.run_call, BeginRun)
    of_another = replace(EARLIER, earlier=kept)
    assert run_outputs.claims(built, built, of_another) == {}, "what the earlier run was built on is not needed any more"
    assert (plan.run_call.body["earlierClaim"], plan.run_call.enclosed) == ({"claim": "results", "path": "runs/first-abcdefgh"}, ())


# -- its timeout and TTL


def test_a_run_is_ended_when_its_time_is_over() -> None:
    status = {**PLACED, "startedAt": stamp(NOW - 59.0)}
    view = RunView(answer=RUNNING, calling=True)
    plan, _ = after(placed(view, status=status, spec=spec(timeoutSeconds=60)))
    assert (plan.run_call, plan.look_again_at) == (None, NOW + 1.0)
    plan, _ = after(placed(view, status=status, spec=spec(timeoutSeconds=60)), NOW + 1.0)
    assert isinstance(plan.run_call, CancelRun)
    plan, _ = after(placed(replace(view, cancel_asked=True), status=status, spec=spec(timeoutSeconds=60)), NOW + 2.0)
    assert plan.run_call is None, "it is told once"


def test_a_run_that_is_over_is_deleted_when_its_time_has_come() -> None:
    status = {"phase": "Completed", "completedAt": stamp(NOW - 59.0)}
    assert chain.decide(snapshot(status=status), NOW) == Plan()
    found = snapshot(status=status, spec=spec(ttlSecondsAfterFinished=60))
    assert chain.decide(found, NOW) == Plan(look_again_at=NOW + 1.0)
    (deletion,) = chain.decide(found, NOW + 1.0).deletes
    assert (deletion.kind, deletion.name, deletion.uid) == ("FlowRun", "answers", UID)


# -- the earlier run that it builds on

EARLIER = Earlier("first", "abcdefghij", USER, "Completed", ("first-outputs-abcde",))


@pytest.mark.parametrize(
    ("earlier", "age", "phase", "reason", "says"),
    [
        (None, 10, "Queued", "RunNotFound", "no such run"),
        (None, 60, "Failed", "RunNotFound", "correct the name, or create it first"),
        (replace(EARLIER, user="bob"), 10, "Failed", "RunNotFound", "is one of bob"),
        (replace(EARLIER, phase="Running", config_maps=()), 9999, "Queued", "RunUnfinished", "is not over yet"),
        (replace(EARLIER, phase="Failed", config_maps=()), 10, "Failed", "RunUnfinished", "has kept no outputs"),
        (replace(EARLIER, phase="Queued", waits_for=("answers",)), 10, "Failed", "RunUnfinished", "answers -> first -> answers"),
        (replace(EARLIER, phase="Failed"), 10, "Preparing", "Preparing", ""),
        (EARLIER, 10, "Preparing", "Preparing", ""),
    ],
)
def test_the_run_that_it_builds_on(earlier: Earlier | None, age: int, phase: str, reason: str, says: str) -> None:
    found = snapshot(spec=spec(run="first"), earlier=earlier, created_at=NOW - age)
    plan, status = after(found)
    assert (status["phase"], verdict(status, "Complete")) == (phase, ("False", reason))
    warned = [(event.reason, event.message) for event in plan.events if event.warning]
    told = phase == "Failed" or reason == "RunNotFound"
    assert warned == ([(reason, condition(status, "Complete")["message"])] if told else []), "once"
    assert says in condition(status, "Complete")["message"]


def test_what_comes_along_with_the_order() -> None:
    wanted = {
        "data": {"configMap": {"name": "truth", "key": "truth.jsonl"}},
        "run": "first",
        "variant": "${a.b}",
        "environmentVariables": {"A": "b"},
        "lines": {"concurrency": 4},
        "init": {"model": {"temperature": 0}},
    }
    plan, _ = after(
        placed(spec=FlowRunSpec.model_validate({"user": USER, "environmentRef": {"name": ENVIRONMENT}, **wanted}), earlier=EARLIER)
    )
    assert isinstance(plan.run_call, BeginRun)
    assert plan.run_call.enclosed == (
        Enclosed("truth", "truth.jsonl", "dataFile", "truth.jsonl", missing="DataNotFound"),
        Enclosed("first-outputs-abcde", "outputs.tar.gz", "earlier", "first-abcdefgh", missing="RunNotFound"),
    )
    assert plan.run_call.body == {
        "id": UID,
        "name": f"answers-{UID[:8]}",
        "columnMapping": {},
        "variant": "${a.b}",
        "environmentVariables": {"A": "b"},
        "init": {"model": {"temperature": 0}},
        "concurrency": 4,
    }


ORIGIN = FlowRunSpec.model_validate(
    {
        "user": USER,
        "environmentRef": {"name": ENVIRONMENT},
        "data": {"configMap": {"name": "asked", "key": "q.jsonl"}},
        "variant": "${a.b}",
        "run": "zeroth",
    }
)


@pytest.mark.parametrize(
    ("earlier", "reason", "says"),
    [
        (replace(EARLIER, environment="other", spec=ORIGIN), "RunNotFound", "is of environment 'other'"),
        (replace(EARLIER, environment=ENVIRONMENT, spec=None), "RunNotFound", "is gone, and its settings with it"),
    ],
)
def test_a_run_that_can_not_be_resumed(earlier: Earlier, reason: str, says: str) -> None:
    resumed = FlowRunSpec.model_validate({"user": USER, "environmentRef": {"name": ENVIRONMENT}, "resumeFrom": "first"})
    _, status = after(snapshot(spec=resumed, earlier=earlier))
    assert verdict(status, "Complete") == ("False", reason)
    assert says in condition(status, "Complete")["message"]


def test_a_resumed_run_has_the_settings_of_the_first() -> None:
    resumed = FlowRunSpec.model_validate({"user": USER, "environmentRef": {"name": ENVIRONMENT}, "resumeFrom": "first"})
    zeroth = Earlier("zeroth", "zzzzzzzzzz", USER, "Completed", ("zeroth-outputs-zzzzz",))
    first = replace(EARLIER, environment=ENVIRONMENT, spec=ORIGIN, earlier=zeroth)
    plan, _ = after(placed(spec=resumed, earlier=first))
    assert isinstance(plan.run_call, BeginRun)
    assert plan.run_call.body == {"id": UID, "name": f"answers-{UID[:8]}", "columnMapping": {}, "variant": "${a.b}"}
    assert [(one.config_map, one.member) for one in plan.run_call.enclosed] == [
        ("asked", "dataFile"),
        ("first-outputs-abcde", "resume"),
        ("zeroth-outputs-zzzzz", "earlier"),
    ]


ANSWERS = st.builds(
    RunAnswer,
    state=st.sampled_from(["Running", "Completed", "Failed", "Canceled", "Lost"]),
    version=st.integers(0, 9),
    total=st.integers(0, 9),
    completed=st.integers(0, 9),
    failed=st.integers(0, 9),
)
REPLIES = st.builds(
    RunReply, answer=st.none() | ANSWERS, archive=st.sampled_from(["", "eA=="]), refused=st.sampled_from(["", "NoRun", "Retired"])
)


LOST = RunReply(answer=RunAnswer(state="Lost", version=0, total=0, completed=0, failed=0), archive="", refused="")
NOTHING = RunReply(answer=None, archive="", refused="")


@example([(LOST, False, False), (NOTHING, False, False)])
@given(st.lists(st.tuples(REPLIES, st.booleans(), st.booleans()), max_size=12))
def test_counts_never_go_back_and_an_end_is_final(story: list[tuple[RunReply, bool, bool]]) -> None:
    """This holds whatever agents answer, even if operators restart and pods vanish."""
    status: dict[str, Any] = dict(PLACED)
    view, now = RunView(), NOW
    for reply, forgets, gone in story:
        found = placed(RunView() if forgets else view, status=status, pod=None if gone else pod())
        plan, later = after(found, now)
        if status["phase"] in FINAL:
            assert plan == Plan()
        for name, count in (status.get("lines") or {}).items():
            assert later["lines"][name] >= count
        again, _ = after(replace(found, status=later, written_at=now), now)
        assert again.status is None, "a second decision finds nothing to write"
        status, now = later, now + 100.0
        if plan.run_call:
            view = observed(found.view, plan.run_call, reply, "", now)
