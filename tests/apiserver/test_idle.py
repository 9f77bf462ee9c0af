"""The end of an idle session: not early, not late, in two steps, and called off by concurrent changes and work."""

import time
from collections.abc import Callable

import pytest

from apiserver.agents import NoAgent
from apiserver.api import eventually, stays
from apiserver.lab import Lab
from apiserver.recorder import Request
from flowsession.model import times

LOOK, RETIRE, REOPEN = "GET /v1/state", "POST /v1/retire", "DELETE /v1/retire"


@pytest.fixture
def long_idle(started: Lab) -> Lab:
    """Create a session with a timeout of 60 s that nobody has used for 100 s. No operator is running, so nothing has noticed yet."""
    started.create_environment()
    started.create_session(idle={"timeoutSeconds": 60})
    started.until_ready()
    started.settle(quiet=0.3)
    started.operator.kill()
    started.backdate(seconds=100)
    return started


def test_an_idle_session_ends_on_time_after_one_or_two_writes(started: Lab) -> None:
    started.create_environment()
    started.create_session(idle={"timeoutSeconds": 5})
    session = started.until_ready()
    last_work = started.agent().last_work + time.time() - time.monotonic()
    shown = times.parse(session["status"]["expiresAt"])
    assert shown is not None
    assert last_work + 5 - 1 <= shown <= last_work + 5 + 2
    started.settle(quiet=0.5)
    before = started.recorder.mark()
    agent = started.agent()
    eventually(started.gone, what="the idle session ends")
    (end,) = [w for w in started.writes(since=before) if w.line == "DELETE computesessions"]
    assert last_work + 5 <= end.at <= last_work + 5 + 2
    assert agent.lines().count(RETIRE) <= 2
    assert 1 <= len(started.lines(since=before, without=("flowenvironments", "events", "configmaps"))) <= 2
    eventually(lambda: started.pods() == [], seconds=60, what="garbage collection takes the pod (it looks for new kinds every 30 s)")
    started.until_event("Idle")


def test_the_end_names_the_very_session_and_its_state_as_preconditions(long_idle: Lab) -> None:
    session = long_idle.session()
    before = long_idle.recorder.mark()
    long_idle.operator.start()
    eventually(long_idle.gone)
    long_idle.settle()
    (end,) = [w for w in long_idle.writes(since=before) if w.line == "DELETE computesessions"]
    patched = [w for w in long_idle.writes(since=before) if w.line == "PATCH computesessions/status"]
    assert end.json["preconditions"]["uid"] == session["metadata"]["uid"]
    assert end.json["preconditions"]["resourceVersion"].isdigit()
    if not patched:
        assert end.json["preconditions"]["resourceVersion"] == session["metadata"]["resourceVersion"]


def test_an_end_leaves_nothing_behind_that_writes_on(long_idle: Lab) -> None:
    """The pod is deleted with its session. The operator neither reports the pod as lost nor replaces it."""
    before = long_idle.recorder.mark()
    long_idle.operator.start(wait=False)
    eventually(long_idle.gone)
    eventually(lambda: long_idle.pods() == [])
    long_idle.settle(quiet=1.0)
    lines = long_idle.lines(since=before, without=("flowenvironments", "events", "configmaps"))
    assert lines[-1] == "DELETE computesessions", lines
    assert long_idle.events(reason="PodFailed") == []
    assert len(lines) <= 3, f"one to show when it would end after the restart, and at most two for the end: {lines}"


def test_edits_are_saved_before_the_end_and_given_to_the_next_session(started: Lab) -> None:
    started.environment_of_flow()
    started.create_session(idle={"timeoutSeconds": 5})
    started.until_ready()
    started.agent().edit("one")
    before = started.recorder.mark()
    eventually(started.gone, seconds=30)
    lines = started.lines(since=before, without=("flowenvironments", "events"))
    assert lines.index("POST configmaps") < lines.index("DELETE computesessions")
    started.create_session()
    started.until_ready()
    assert (started.agent().edits, started.agent().restored) == ("one", True)
    assert started.session()["status"]["edits"]["savedTo"].startswith("env-edits-")


def test_the_agent_is_asked_before_and_never_after_a_refusal(long_idle: Lab) -> None:
    agent = long_idle.agent()
    agent.busy, agent.what = True, "exec python train.py"
    long_idle.operator.start()
    long_idle.until_condition("Active", "InUse", says="exec python train.py")
    assert not long_idle.gone()
    status = long_idle.session()["status"]
    assert status["lastActivity"]["what"] == "exec python train.py"
    expires = times.parse(status["expiresAt"])
    assert expires is not None
    assert expires > time.time() + 50
    assert agent.lines()[-1] == LOOK
    assert RETIRE not in agent.lines()


def test_a_probe_that_finds_nothing_new_writes_nothing(started: Lab) -> None:
    """After a restart the operator knows the last activity only in whole seconds. The probe before the end gives the exact time."""
    started.create_environment()
    started.create_session(idle={"timeoutSeconds": 5})
    began = times.parse(started.until_ready()["status"]["readyAt"])
    assert began is not None
    agent = started.agent()
    # The agent remembers exactly that the last work was 0.6 s into that second.
    agent.last_work = time.monotonic() + (began + 0.6 - time.time())
    started.settle(quiet=0.3)
    started.operator.restart()
    before = started.recorder.mark()
    eventually(started.gone)
    assert started.lines(since=before, without=("flowenvironments", "events", "configmaps")) == [
        "PATCH computesessions/status",
        "DELETE computesessions",
    ]
    (end,) = [w for w in started.writes(since=before) if w.line == "DELETE computesessions"]
    assert end.at >= began + 0.6 + 5 - 0.1
    assert agent.lines().count(RETIRE) == 1


def test_action_none_never_ends_anything(long_idle: Lab) -> None:
    long_idle.change_session(idle={"action": "None"})
    agent = long_idle.agent()
    calls = len(agent.calls)
    long_idle.operator.start()
    stays(lambda: not long_idle.gone(), seconds=1.5)
    assert "expiresAt" not in long_idle.session()["status"]
    assert [call.path for call in agent.calls[calls:]] in ([], ["/v1/state"]), "asked once in a timeout whether it can still be reached"


def test_no_answer_is_not_idleness(long_idle: Lab) -> None:
    pod = long_idle.the_pod()["metadata"]["uid"]
    long_idle.kubelet.agents.pop(pod).stop()
    long_idle.kubelet.agents[pod] = NoAgent()
    long_idle.operator.start()
    stays(lambda: not long_idle.gone(), seconds=4)
    assert "DELETE computesessions" not in long_idle.lines()


def test_an_agent_that_stopped_answering_is_told_in_a_condition(started: Lab) -> None:
    started.create_environment()
    started.create_session(idle={"timeoutSeconds": 5})
    started.until_ready()
    pod = started.the_pod()["metadata"]["uid"]
    started.kubelet.agents.pop(pod).stop()
    started.kubelet.agents[pod] = NoAgent()
    started.until_condition("Active", "ProbeFailed", says="is not ended as idle")
    assert started.condition("Active")["status"] == "Unknown"
    assert not started.gone()


def test_a_longer_timeout_between_retirement_and_end_wins(long_idle: Lab) -> None:
    agent = long_idle.agent()
    change = long_idle.recorder.first(lambda: long_idle.change_session(idle={"timeoutSeconds": 3600}))
    fault = long_idle.recorder.inject(long_idle.writes_to_namespace("DELETE computesessions"), change)
    long_idle.operator.start()
    assert fault.done.wait(60)
    eventually(lambda: REOPEN in agent.lines(), what="new work is accepted again")
    assert not agent.retired
    assert not long_idle.gone()
    assert [w.status for w in long_idle.writes() if w.line == "DELETE computesessions"] == [409]
    long_idle.settle()
    assert long_idle.condition("Ready")["status"] == "True"
    expires = times.parse(long_idle.session()["status"]["expiresAt"])
    assert expires is not None
    assert expires > time.time() + 3000


def test_an_end_that_was_called_off_is_told_as_such(long_idle: Lab) -> None:
    """The end is announced before it happens, since nothing could report it afterwards. So calling it off must be reported too."""
    change = long_idle.recorder.first(lambda: long_idle.change_session(idle={"timeoutSeconds": 3600}))
    long_idle.recorder.inject(long_idle.writes_to_namespace("DELETE computesessions"), change)
    long_idle.operator.start()
    eventually(lambda: REOPEN in long_idle.agent().lines())
    long_idle.settle()
    assert all("is being deleted" in event["message"] for event in long_idle.events(reason="Idle"))
    long_idle.until_event("EndCalledOff")


def test_action_none_between_retirement_and_end_wins(long_idle: Lab) -> None:
    change = long_idle.recorder.first(lambda: long_idle.change_session(idle={"action": "None"}))
    long_idle.recorder.inject(long_idle.writes_to_namespace("DELETE computesessions"), change)
    long_idle.operator.start()
    eventually(lambda: REOPEN in long_idle.agent().lines(), what="new work is accepted again")
    assert not long_idle.gone()


def test_a_change_of_no_consequence_only_delays_the_end(long_idle: Lab) -> None:
    relabel = long_idle.recorder.first(
        lambda: long_idle.api.patch(long_idle.path("computesessions", "ada"), {"metadata": {"labels": {"team": "blue"}}})
    )
    long_idle.recorder.inject(long_idle.writes_to_namespace("DELETE computesessions"), relabel)
    long_idle.operator.start()
    eventually(long_idle.gone)

    def ends() -> list[Request]:
        return [w for w in long_idle.writes() if w.line == "DELETE computesessions"]

    eventually(lambda: [w.status for w in ends()] == [409, 200], what="its answer is recorded")
    first, second = ends()
    assert first.json["preconditions"]["uid"] == second.json["preconditions"]["uid"]
    assert first.json["preconditions"]["resourceVersion"] != second.json["preconditions"]["resourceVersion"]


def test_another_session_of_the_same_name_is_never_ended(long_idle: Lab) -> None:
    def replace() -> None:
        long_idle.api.delete(long_idle.path("computesessions", "ada"))
        eventually(long_idle.gone)
        long_idle.create_session()

    long_idle.recorder.inject(long_idle.writes_to_namespace("DELETE computesessions"), long_idle.recorder.first(replace))
    long_idle.operator.start()
    eventually(lambda: [w.status for w in long_idle.writes() if w.line == "DELETE computesessions"] == [409])
    long_idle.until_ready()
    assert not long_idle.gone()


@pytest.mark.parametrize("status", [429, 500])
def test_an_end_that_fails_is_tried_again(long_idle: Lab, status: int) -> None:
    long_idle.recorder.inject(
        long_idle.writes_to_namespace("DELETE computesessions"), long_idle.recorder.answer(status, "", "injected"), times=2
    )
    long_idle.operator.start()
    eventually(long_idle.gone)


def test_a_broken_environment_does_not_keep_an_idle_session_alive(long_idle: Lab) -> None:
    long_idle.api.delete(long_idle.path("flowenvironments", "env"))
    long_idle.operator.start()
    eventually(long_idle.gone)


def test_an_agent_that_refuses_for_ever_is_not_asked_in_a_storm(long_idle: Lab) -> None:
    agent = long_idle.agent()
    refuse: Callable[..., object] = _refuse_to_retire
    agent.instead = refuse
    long_idle.operator.start()
    eventually(lambda: any(c.path == "/v1/retire" for c in agent.calls))
    before = len(agent.calls)
    stays(lambda: True, seconds=2)
    assert len(agent.calls) - before <= 20, f"{len(agent.calls) - before} calls in 2 s"
    assert not long_idle.gone()


def _refuse_to_retire(call: object) -> object:
    from aiohttp import web

    if getattr(call, "path", "") == "/v1/retire":
        return web.json_response({"code": "InUse", "message": "in use"}, status=409)
    return None
