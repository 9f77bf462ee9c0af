"""Reports of processes that were killed for memory."""

from flowsession.cluster.agent import answers
from flowsession.model.agent_views import Hint
from flowsession.model.plan import Probe
from flowsession.reconcile.session.memory import LEAST_BETWEEN, REASON
from unit.builders import NOW, agent, decide, pod, ready_status, resolved, session_snapshot, stamp, state, status_after


def killed(name="a-1", process="python train.py", **fields):
    said = state(memory_kill=name, killed_process=process)
    return session_snapshot(pod(memory_limit="2Gi"), agent=agent(said), **{"status": ready_status(), **fields})


def told(snapshot):
    return [event.message for event in decide(snapshot).events if event.reason == REASON]


def test_a_killed_process_is_told_once_with_its_name_the_limit_and_the_way_out():
    snapshot = killed()
    assert told(snapshot) == [
        "python train.py was killed: the session was out of memory (2Gi); choose a larger size, or let it hold less at once"
    ]
    status = status_after(snapshot)
    assert status["memoryKill"] == {"id": "a-1", "process": "python train.py", "at": stamp(NOW)}
    assert told(killed(status=status)) == []


def test_the_next_one_is_told_a_minute_later_at_the_earliest():
    status = ready_status() | {"memoryKill": {"id": "a-1", "process": "x", "at": stamp(NOW - LEAST_BETWEEN + 10)}}
    plan = decide(killed("a-2", status=status))
    assert [event.reason for event in plan.events] == []
    assert plan.look_again_at <= NOW + 10
    status["memoryKill"]["at"] = stamp(NOW - LEAST_BETWEEN)
    assert len(told(killed("a-2", status=status))) == 1


def plan_after_kill(killed_at, *, environment=None, told_at=None, **known):
    """The plan for a session whose agent was recently asked for its state and edits, and has since announced a kill."""
    environment = environment or resolved()
    status = ready_status(environment) | ({"memoryKill": {"id": "a-1", "process": "x", "at": stamp(told_at)}} if told_at else {})
    view = agent(state(environment), environment, **{"asked_at": NOW - 5, "state_at": NOW - 5, "edits_at": NOW - 5} | known)
    return decide(session_snapshot(pod(), agent=view, hint=Hint(killed_at=killed_at), environment=environment, status=status))


def test_an_agent_that_says_that_something_was_killed_is_asked_at_once_whatever_it_was_asked_before():
    assert plan_after_kill(NOW - 1).call == Probe()
    assert plan_after_kill(NOW - 1, environment=resolved(requirements="", files=None)).call == Probe()
    assert plan_after_kill(NOW - 9).call is None
    assert plan_after_kill(NOW - 1, calling=True, following=True).call == Probe()


def test_it_is_asked_no_more_often_than_events_may_follow():
    assert plan_after_kill(NOW - 1, asked_at=NOW, state_at=NOW - 2).call is None
    plan = plan_after_kill(NOW - 1, told_at=NOW - LEAST_BETWEEN + 10)
    assert (plan.call, plan.look_again_at <= NOW + 10) == (None, True)
    assert plan_after_kill(NOW - 1, told_at=NOW - LEAST_BETWEEN).call == Probe()


def test_a_kill_is_no_reason_to_ask_for_edits():
    assert plan_after_kill(NOW - 1, edits_at=0.0).call == Probe()


def test_what_a_replaced_agent_says_is_cut_to_size():
    said = answers.state({"memoryKill": {"id": "x" * 1000, "process": "a\nb" * 1000}})
    assert len(said.memory_kill) == 40
    assert len(said.killed_process) <= 120
    assert "\n" not in said.killed_process
    assert answers.state({"memoryKill": 7}).memory_kill == ""
