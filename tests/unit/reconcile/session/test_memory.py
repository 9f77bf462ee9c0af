"""What is told of processes that were killed for memory."""

from flowsession.cluster.agent import answers
from flowsession.model.agent_views import Hint
from flowsession.model.plan import Look
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


def test_an_agent_that_says_something_and_can_have_no_edits_is_asked():
    without_folder = resolved(requirements="", files=None)
    said = {"environment": without_folder, "status": ready_status(without_folder)}
    known = agent(state(without_folder), without_folder, asked_at=NOW - 5)
    assert decide(session_snapshot(pod(), agent=known, hint=Hint(NOW - 1, ending=False), **said)).call == Look()
    assert decide(session_snapshot(pod(), agent=known, hint=Hint(NOW - 9, ending=False), **said)).call is None


def test_what_a_replaced_agent_says_is_cut_to_size():
    said = answers.state({"memoryKill": {"id": "x" * 1000, "process": "a\nb" * 1000}})
    assert len(said.memory_kill) == 40
    assert len(said.killed_process) <= 120
    assert "\n" not in said.killed_process
    assert answers.state({"memoryKill": 7}).memory_kill == ""
