"""The idle rule: never early, only after a fresh answer from the agent, and in two steps."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowsession.model import times
from flowsession.model.agent_views import PackageList
from flowsession.model.plan import Delete, Probe, Reopen, Retire
from flowsession.settings import Settings
from unit.builders import (
    NOW,
    agent,
    condition,
    decide,
    idle,
    pod,
    resolved,
    settled_snapshot,
    silent_agent,
    stamp,
    state,
    status_after,
    verdict,
)

TIMEOUT = 60
END = (Delete("ComputeSession", "team", "alice-flow", "0123456789", "30", valid_until=NOW + 5.0),)


def ready(idle_for: float, view=None, *, timeout=TIMEOUT, action="Delete", **fields):
    """A session that became Ready `idle_for` seconds ago and has done no work since."""
    ready_at = NOW - idle_for
    made = pod(created_at=ready_at - 11, container=replace(pod().container, running_since=ready_at - 10))
    found = settled_snapshot(pods=(made,), ready_at=ready_at, spec=idle(timeout, action), agent=view, **fields)
    return replace(found, status=warned(found.status)) if idle_for >= timeout else found


def warned(status):
    """The status with the warning that the session ends soon."""
    soon = {
        "type": "Active",
        "status": "False",
        "reason": "IdleSoon",
        "message": "soon",
        "lastTransitionTime": stamp(NOW - 1),
        "observedGeneration": 1,
    }
    return {**status, "conditions": [*(c for c in status["conditions"] if c["type"] != "Active"), soon]}


def says(idle_seconds: float, *, age: float = 0.0, **fields):
    """An agent that answered `age` seconds ago."""
    return agent(state(idle_seconds=idle_seconds, **fields), state_at=NOW - age, asked_at=NOW - age)


# -- before the deadline


@pytest.mark.parametrize("idle_for", [0.0, 1.0, 53.0])
def test_nothing_is_asked_before_the_warning(idle_for):
    plan = decide(ready(idle_for))
    assert (plan.call, plan.deletes, plan.writes) == (None, (), False)
    assert NOW < plan.look_again_at <= NOW + 0.9 * TIMEOUT - idle_for


def test_before_the_end_the_agent_is_asked_once_and_people_are_warned():
    assert decide(ready(55.0)).call == Probe()
    asked = ready(55.0, says(55.0))
    plan, status = decide(asked), status_after(asked)
    assert (plan.call, plan.deletes) == (None, ())
    assert plan.look_again_at == pytest.approx(NOW + 5)
    assert [(event.warning, event.reason) for event in plan.events] == [(True, "IdleSoon")]
    assert verdict(status, "Active") == ("False", "IdleSoon")
    assert "keep-alive-requested-at" in condition(status, "Active")["message"]
    later = replace(asked, status=status)
    assert (decide(later, NOW + 1).call, decide(later, NOW + 1).writes, decide(later, NOW + 1).events) == (None, False, ())


def test_work_seen_at_the_warning_defers_it_silently():
    plan = decide(ready(55.0, says(0.0, busy=True, what="exec python")))
    assert plan.events == ()
    assert plan.look_again_at == pytest.approx(NOW + 0.9 * TIMEOUT)


def test_a_long_timeout_is_warned_of_five_minutes_before():
    assert decide(ready(86_000.0 - 301, timeout=86_000)).call is None
    assert decide(ready(86_000.0 - 299, timeout=86_000)).call == Probe()


def test_the_deadline_is_shown_and_never_too_early():
    status = ready(10.4).status
    assert times.parse(status["expiresAt"]) >= NOW - 10.4 + TIMEOUT - 1  # readyAt itself is a whole second
    assert status["lastActivity"] == {"at": stamp(NOW - 10), "what": "start"}, "rounded up"
    assert verdict(status, "Active") == ("False", "Idle")


@given(st.integers(0, 59_000), st.integers(0, 999))
def test_the_shown_deadline_is_not_rewritten_after_a_restart(idle_for, part):
    """lastActivity has whole seconds only: the recomputed deadline differs by less than one."""
    plan = decide(replace(ready(idle_for / 1000 + part / 1_000_000), agent=None))
    assert plan.status is None


def test_later_work_that_was_seen_moves_the_deadline():
    status = status_after(ready(55.0, says(2.0, what="exec python train.py")))
    assert status["lastActivity"] == {"at": stamp(NOW - 2), "what": "exec python train.py"}
    assert status["expiresAt"] == stamp(NOW - 2 + TIMEOUT)
    assert decide(ready(55.0, says(2.0))).look_again_at == pytest.approx(NOW - 2 + TIMEOUT)


def test_less_than_a_second_of_difference_is_no_news():
    assert decide(ready(30.0, says(29.5))).status is None


# -- at the deadline


@pytest.mark.parametrize("view", [None, says(70.0, age=70.0)], ids=["never asked by this operator", "asked long ago"])
def test_first_the_agent_is_asked_to_retire(view):
    plan = decide(ready(60.0, view))
    assert plan.call == Retire(idle_at_least=60.0)
    assert (plan.deletes, plan.status) == ((), None)


def test_then_the_session_is_deleted_on_its_fresh_word():
    plan = decide(ready(60.0, says(60.0, retired=True)))
    assert plan.deletes == END
    assert plan.call is None
    (event,) = [event for event in plan.events if event.reason == "Idle"]
    assert event.message == "the session is being deleted: no work for 60 s (limit 60 s), the last was: start"


def test_the_deletion_is_for_this_very_state_of_the_session():
    (deletion,) = decide(ready(60.0, says(60.0, retired=True))).deletes
    assert (deletion.uid, deletion.resource_version) == ("0123456789", "30")


def test_no_second_question_while_one_is_under_way():
    plan = decide(ready(60.0, agent(state(idle_seconds=0.0), state_at=NOW - 60, calling=True)))
    assert (plan.call, plan.deletes) == (None, ())


@pytest.mark.parametrize(("age", "ends"), [(0.0, True), (4.9, True), (5.1, False), (100.0, False)])
def test_an_old_word_is_asked_for_again(age, ends):
    plan = decide(ready(300.0, says(200.0, age=age, retired=True)))
    assert [(d.kind, d.valid_until) for d in plan.deletes] == ([("ComputeSession", NOW - age + 5.0)] if ends else [])
    assert plan.call == (None if ends else Retire(60.0))


def test_a_word_from_before_the_deadline_is_not_enough():
    """The agent retired for the former, shorter timeout. The present deadline has passed, but the agent answered before it."""
    plan = decide(ready(300.0, says(58.0, age=3.0, retired=True)))
    assert plan.deletes == ()
    assert plan.call == Retire(60.0)


def test_nothing_comes_between_the_decision_and_the_end():
    """Writing a list of packages first would use up the time for which the agent's answer is fresh."""
    view = replace(says(60.0, retired=True), packages=PackageList(1, "a", "{}"))
    snapshot = ready(60.0, view)
    snapshot = replace(snapshot, status={name: value for name, value in snapshot.status.items() if name != "packages"})
    plan = decide(snapshot)
    assert (plan.deletes, plan.creates, plan.status) == (END, (), None)


@pytest.mark.parametrize("action", ["Delete", "Suspend"])
def test_who_could_not_be_warned_in_time_is_warned_all_the_same(action):
    """The operator was away when the warning was due."""
    unwarned = replace(ready(500.0, timeout=300, action=action), status=settled_snapshot(ready_at=NOW - 500).status)
    assert (decide(unwarned).call, decide(unwarned).deletes) == (Probe(), ())
    asked = replace(unwarned, agent=says(500.0))
    plan, status = decide(asked), status_after(asked)
    assert ([event.reason for event in plan.events], plan.deletes, plan.call) == (["IdleSoon"], (), None)
    assert (status["expiresAt"], plan.look_again_at) == (stamp(NOW + 30), NOW + 30)
    later = replace(asked, status=status)
    assert (decide(later, NOW + 29).call, decide(later, NOW + 29).writes) == (None, False)
    assert decide(later, NOW + 30).call == Retire(300.0)


def test_a_clock_that_was_wrong_is_believed_no_longer_than_the_agent_is_asked():
    """The status dates the last work an hour into the future."""
    snapshot = ready(-3600.0)
    assert decide(snapshot).call == Probe()
    told = replace(snapshot, agent=says(10.0))
    assert decide(told).status.status["lastActivity"]["at"] == stamp(NOW - 10)


@pytest.mark.parametrize("ahead", [5.1, 3600.0])
def test_what_an_agent_said_in_the_future_is_not_known(ahead):
    """The operator's clock was set back after the agent answered, so the answer would seem fresh for an hour."""
    before = says(60.0, age=-ahead, retired=True)
    plan = decide(ready(60.0, before))
    assert (plan.deletes, plan.call) == ((), Retire(60.0))
    assert decide(ready(-ahead, before)).call == Probe(), "nor how long it has been idle"
    assert decide(ready(-ahead, before)).look_again_at <= NOW + TIMEOUT
    assert decide(ready(55.0, before)).call == Probe(), "the warning waits for a word of today"
    failed = silent_agent(failures=7, asked_at=NOW + ahead)
    assert decide(ready(60.0, failed)).call == Retire(60.0), "nor does its pause end an hour from now"


@pytest.mark.parametrize("action", ["Delete", "Suspend"])
def test_an_end_that_can_t_be_done_opens_the_door_again(action):
    ending = ready(60.0, says(60.0, retired=True), action=action)
    plan = decide(ending)
    assert plan.deletes
    assert plan.look_again_at == NOW + 1, "sooner than the back-off, should it fail"
    silent = replace(ending, server_silent=True)
    assert (decide(silent, NOW + 1).deletes, decide(silent, NOW + 1).call) == ((), Reopen())
    opened = replace(silent, agent=says(60.0))
    assert (decide(opened).call, decide(opened).writes, decide(opened).look_again_at) == (None, False, NOW + 10)


def test_work_answers_back_and_defers_the_end():
    busy = says(0.0, busy=True, what="exec python train.py")
    plan, status = decide(ready(60.0, busy)), status_after(ready(60.0, busy))
    assert (plan.call, plan.deletes) == (None, ())
    assert plan.look_again_at == NOW + 0.9 * TIMEOUT
    assert verdict(status, "Active") == ("True", "InUse")
    assert condition(status, "Active")["message"] == "in use: exec python train.py"
    assert status["expiresAt"] == stamp(NOW + TIMEOUT)


def test_idle_for_less_than_the_limit_defers_by_the_rest():
    plan = decide(ready(60.0, says(20.0)))
    assert plan.deletes == ()
    assert plan.look_again_at == pytest.approx(NOW + 40 - 0.1 * TIMEOUT)


@pytest.mark.parametrize("fields", [{"retired": False}, {"retired": False, "busy": True, "idle_seconds": 0.0}])
def test_without_retirement_there_is_no_end(fields):
    assert decide(ready(1000.0, says(**{"idle_seconds": 1000.0, **fields}))).deletes == ()


# -- no answer is not idleness


@pytest.mark.parametrize("failures", [1, 2, 3, 20])
def test_an_agent_that_does_not_answer_never_ends_the_session(failures):
    known = agent(state(idle_seconds=10.0), state_at=NOW - 5000, asked_at=NOW, failures=failures, failing_since=NOW - 500, error="refused")
    for view in (known, silent_agent(failures=failures)):
        for later in (0, 61, 3000):
            assert decide(ready(5000.0, view), NOW + later).deletes == ()


def test_an_agent_that_does_not_answer_for_three_timeouts_and_an_hour_ends_as_probe_failed():
    """An unreachable session must not live forever, and the reason is not idleness."""
    view = silent_agent(failures=20, since=3600)
    plan = decide(ready(5000.0, view))
    assert plan.deletes == (replace(END[0], valid_until=None),)
    assert [(event.warning, event.reason) for event in plan.events] == [(True, "ProbeFailed")]
    assert decide(ready(5000.0, silent_agent(failures=20, since=3599))).deletes == ()
    assert decide(ready(50_000.0, silent_agent(failures=20, since=3601), timeout=1300)).deletes == ()
    assert decide(ready(50_000.0, silent_agent(failures=20, since=3900), timeout=1300)).deletes


def test_an_unreachable_session_that_is_never_to_be_ended_gets_a_new_pod():
    snapshot = ready(5000.0, silent_agent(failures=20, since=3600), action="None")
    status = status_after(snapshot)
    assert [deletion.kind for deletion in decide(snapshot).deletes] == ["Pod"]
    assert (status["incarnation"], status["restarts"]) == (2, 1)
    assert verdict(status, "Ready") == ("False", "ProbeFailed")


@pytest.mark.parametrize(("failures", "pause"), [(1, 1.0), (2, 2.0), (4, 8.0), (7, 60.0), (50, 60.0)])
def test_it_is_asked_again_ever_more_slowly(failures, pause):
    snapshot = ready(5000.0, silent_agent(failures=failures))
    assert decide(snapshot, NOW + pause - 0.01).call is None
    assert decide(snapshot, NOW + pause - 0.01).look_again_at == pytest.approx(NOW + pause)
    assert decide(snapshot, NOW + pause).call == Retire(60.0)


def test_after_three_failures_people_are_told():
    failing = agent(state(idle_seconds=10.0), state_at=NOW - 5000, failures=3, failing_since=NOW - 7, error="no connection")
    status = status_after(ready(5000.0, failing))
    assert verdict(status, "Active") == ("Unknown", "ProbeFailed")
    assert "no connection" in condition(status, "Active")["message"]
    assert verdict(status_after(ready(5000.0, replace(failing, failures=2))), "Active") != ("Unknown", "ProbeFailed")


SILENT = {"failures": 3, "failing_since": NOW - 7, "error": "no connection"}


def test_the_status_an_event_and_the_columns_say_so_too():
    failing = agent(state(idle_seconds=10.0), state_at=NOW - 5000, **SILENT)
    snapshot = ready(5000.0, failing)
    status, plan = status_after(snapshot), decide(snapshot)
    assert (status["phase"], verdict(status, "Ready")) == ("Failed", ("Unknown", "AgentUnreachable"))
    assert status["expiresAt"] == stamp(NOW - 7 + 3600), "when that ends it, and not a time that has passed"
    message = condition(status, "Ready")["message"]
    for word in ("no connection", f"it is deleted at {status['expiresAt']} unless it answers", "kubectl logs", "NetworkPolicy"):
        assert word in message
    assert [(event.warning, event.reason, event.message) for event in plan.events] == [(True, "AgentUnreachable", message)]
    again = decide(replace(snapshot, status=status), NOW + 30)
    assert (again.events, again.writes) == ((), False)


@pytest.mark.parametrize(("action", "comes"), [("None", "it gets a new pod after 3600 s"), ("Suspend", "it is suspended at ")])
def test_what_comes_of_it_is_what_the_session_asks_for(action, comes):
    status = status_after(ready(5000.0, silent_agent(failures=3, since=7), action=action))
    assert comes in condition(status, "Ready")["message"]


def test_it_serves_again_when_its_agent_answers():
    status = status_after(ready(5000.0, agent(state(idle_seconds=10.0), state_at=NOW - 5000, **SILENT)))
    for told in (True, False):
        view = says(10.0, age=-100.0) if told else replace(says(10.0, age=-100.0), delivered=None)
        snapshot = replace(ready(5000.0, view), status=status)
        after, plan = status_after(snapshot, NOW + 100), decide(snapshot, NOW + 100)
        assert (after["phase"], verdict(after, "Ready")) == ("Running", ("True", "Running"))
        assert after["expiresAt"] == stamp(NOW + 100 - 10 + 60)
        assert [(event.warning, event.reason) for event in plan.events] == [(False, "Running")]


def test_another_operator_neither_forgets_it_nor_waits_to_ask():
    status = status_after(ready(5000.0, agent(state(idle_seconds=10.0), state_at=NOW - 5000, **SILENT)))
    plan = decide(replace(ready(5000.0, None), status=status), NOW + 100)
    assert (plan.call, plan.events, plan.writes) == (Probe(), (), False)
    for failures in (1, 2):
        later = decide(replace(ready(5000.0, silent_agent(failures=failures)), status=status), NOW + 0.1)
        assert (later.events, later.writes) == ((), False), "two answers that did not come say no more than was known"


# -- action None


@pytest.mark.parametrize("view", [None, says(10_000.0), says(10_000.0, retired=True)])
def test_action_none_never_ends(view):
    plan = decide(ready(100_000.0, view, action="None"))
    assert plan.deletes == ()
    assert not isinstance(plan.call, Retire)


def test_action_none_shows_no_deadline():
    assert "expiresAt" not in ready(10.0, action="None").status
    changed = replace(ready(10.0), spec=idle(TIMEOUT, "None"))
    assert decide(changed).status.status["expiresAt"] is None


# -- an end that is called off


@pytest.mark.parametrize("spec", [idle(TIMEOUT, "None"), idle(3600)], ids=["kept for good", "a longer timeout"])
def test_a_retired_agent_is_opened_again_when_the_end_was_called_off(spec):
    snapshot = replace(ready(61.0, says(61.0, retired=True)), spec=spec)
    plan = decide(snapshot)
    assert plan.call == Reopen()
    assert plan.deletes == ()
    assert decide(replace(snapshot, agent=replace(snapshot.agent, calling=True))).call is None


def test_a_shorter_timeout_brings_the_deadline_forward():
    snapshot = replace(ready(61.0, timeout=3600), spec=idle(TIMEOUT))
    assert decide(snapshot).call == Probe(), "people are to be warned before it"


# -- restarts of the operator


@pytest.mark.parametrize("idle_for", [0.0, 30.0, 53.0])
@pytest.mark.parametrize("environment", [resolved(), resolved(requirements="")], ids=["packages", "nothing"])
def test_a_settled_session_is_not_written_to_after_a_restart(idle_for, environment):
    plan = decide(ready(idle_for, environment=environment))
    assert not plan.writes
    assert plan.events == ()
    assert plan.call is None


@given(
    ready_ago=st.integers(0, 200),
    idle_seconds=st.integers(0, 200),
    age=st.integers(0, 10),
    retired=st.booleans(),
    busy=st.booleans(),
    failures=st.integers(0, 5),
    timeout=st.sampled_from([5, 60, 100]),
)
def test_whatever_the_agent_says_the_end_is_never_early(ready_ago, idle_seconds, age, retired, busy, failures, timeout):
    view = replace(
        says(float(idle_seconds), age=float(age), retired=retired, busy=busy),
        failures=failures,
        error="x" if failures else "",
        failing_since=NOW,
    )
    plan = decide(ready(float(ready_ago), view, timeout=timeout))
    if plan.deletes:
        assert retired
        assert age <= 5
        assert idle_seconds >= timeout
        assert ready_ago - age >= timeout


# -- how often Active changes


def in_use(since: float, view, *, timeout=TIMEOUT, idle_for=300.0, reason="InUse"):
    """A session with Active=True since `since` seconds ago, and its agent's present answer."""
    snapshot = ready(idle_for, view, timeout=max(timeout, 600))
    active = {
        "type": "Active",
        "status": "True",
        "reason": reason,
        "message": "in use: exec python",
        "lastTransitionTime": stamp(NOW - since),
        "observedGeneration": 1,
    }
    others = [c for c in snapshot.status["conditions"] if c["type"] != "Active"]
    return replace(snapshot, status={**snapshot.status, "conditions": [*others, active]}, spec=idle(timeout))


@pytest.mark.parametrize("reason", ["InUse", "KeptAlive"])
@pytest.mark.parametrize(("since", "shown"), [(0, "True"), (59, "True"), (60, "False"), (3600, "False")])
def test_who_was_said_to_be_in_use_is_so_for_a_minute_at_least(since, shown, reason):
    snapshot = in_use(since, says(10.0, what="exec python"), timeout=3600, reason=reason)
    assert verdict(status_after(snapshot), "Active") == (shown, reason if shown == "True" else "Idle")
    assert status_after(snapshot)["lastActivity"]["at"] == stamp(NOW - 10), "all else is told at once"


def test_and_no_longer_than_a_minute_after_the_last_work():
    snapshot = in_use(20, says(10.0, what="exec python"), timeout=3600)
    plan, later = decide(snapshot), replace(snapshot, status=status_after(snapshot))
    assert (plan.call, plan.look_again_at) == (None, NOW + 50)
    assert verdict(status_after(later, NOW + 50), "Active") == ("False", "Idle")
    assert decide(later, NOW + 50).call is None
    assert decide(later).status is None, "twice is once"


def test_the_warning_of_a_short_timeout_is_soon_enough_for_that():
    plan = decide(in_use(20, says(10.0, what="exec python"), timeout=30))
    assert plan.look_again_at == NOW - 10 + 27


def test_nothing_is_written_on_a_word_that_is_about_to_be_replaced():
    """The agent was asked 54 s after Active changed, and is asked again now, 54 s after the last work."""
    seen = in_use(54, says(26.0, what="exec python"), timeout=60)
    later = replace(seen, status=status_after(seen))
    assert (decide(later, NOW + 28).call, decide(later, NOW + 28).status) == (Probe(), None)
    idle_still = replace(later, agent=agent(state(idle_seconds=7.0, what="exec python"), state_at=NOW + 28, asked_at=NOW + 28))
    assert verdict(status_after(idle_still, NOW + 28), "Active") == ("False", "Idle")


def test_the_warning_does_not_wait():
    snapshot = in_use(20, says(28.0, what="exec python"), timeout=30)
    assert verdict(status_after(snapshot), "Active") == ("False", "IdleSoon")


def test_the_end_of_an_install_does_not_wait_nor_does_a_fresh_start():
    assert verdict(status_after(in_use(20, says(10.0, what="install"), timeout=3600)), "Active") == ("False", "Idle")
    fresh = in_use(20, says(10.0), timeout=3600, idle_for=10.0)
    assert verdict(status_after(fresh), "Active") == ("False", "Idle")


def test_a_condition_of_the_future_holds_up_nothing():
    assert verdict(status_after(in_use(-3600, says(10.0, what="exec python"), timeout=3600)), "Active") == ("False", "Idle")


@given(st.integers(0, 120), st.integers(0, 400), st.sampled_from([5, 30, 60, 66, 67, 90, 3600]))
def test_nobody_is_in_use_for_more_than_a_minute_after_the_last_work_was_seen(since, suspended_without_pod, timeout):
    snapshot = in_use(since, says(float(suspended_without_pod), what="exec python"), timeout=timeout)
    now, asked = NOW, 0
    for _ in range(10):
        status, plan = status_after(snapshot, now), decide(snapshot, now)
        if verdict(status, "Active")[0] == "False" or plan.deletes:
            break
        asked += plan.call is not None
        answer = says(suspended_without_pod + now - NOW, what="exec python", retired=isinstance(plan.call, Retire))
        view = replace(answer, asked_at=now, state_at=now) if plan.call else snapshot.agent
        snapshot, now = replace(snapshot, status=status, agent=view), now if plan.call else plan.look_again_at
    assert verdict(status, "Active")[0] == "False"
    assert now <= max(NOW, NOW - since + 60, NOW - suspended_without_pod + 60)
    assert asked <= 1, "the question before the warning"


# -- the warning, and the Events of an end


def test_a_warning_is_not_repeated_by_the_next_operator():
    asked = ready(55.0, says(55.0))
    status = status_after(asked)
    restarted = decide(replace(asked, status=status, agent=None), NOW + 1)
    assert (restarted.events, restarted.writes) == ((), False)


@pytest.mark.parametrize("view", [silent_agent(failures=1), silent_agent(failures=2)])
def test_nobody_is_warned_on_an_old_word(view):
    plan = decide(ready(55.0, view))
    assert (plan.events, plan.call) == ((), None)


@pytest.mark.parametrize(("failures", "pause"), [(1, 1), (2, 2), (3, 4)])
def test_who_can_t_be_asked_before_the_warning_is_asked_again_in_time_for_it(failures, pause):
    snapshot = ready(55.0, silent_agent(failures=failures))
    plan = decide(snapshot)
    assert (plan.call, plan.look_again_at) == (None, NOW + pause)
    assert decide(snapshot, NOW + pause).call == Probe()
    assert decide(replace(snapshot, agent=replace(snapshot.agent, calling=True)), NOW + pause).call is None


def test_the_warning_goes_when_work_is_seen():
    asked = ready(55.0, says(55.0))
    worked = replace(asked, status=status_after(asked), agent=agent(state(idle_seconds=0.0, busy=True), state_at=NOW + 2, asked_at=NOW + 2))
    status = status_after(worked, NOW + 2)
    assert verdict(status, "Active") == ("True", "InUse")
    assert decide(worked, NOW + 2).events == ()


def test_the_warning_stays_until_the_end():
    """Active does not flap between Idle and IdleSoon while the agent is asked to retire at the deadline."""
    asked = ready(55.0, says(55.0))
    warned = replace(asked, status=status_after(asked))
    for view in (says(55.0), replace(says(55.0), calling=True), None):
        assert decide(replace(warned, agent=view), NOW + 5.5).status is None


def test_action_none_is_looked_at_once_in_a_timeout():
    seen = ready(500.0, says(400.0, age=59.0), action="None")
    assert (decide(seen).call, decide(seen).look_again_at) == (None, NOW + 1)
    assert decide(seen, NOW + 1).call == Probe()
    failing = ready(500.0, silent_agent(failures=2), action="None")
    assert (decide(failing, NOW + 1.9).call, decide(failing, NOW + 2).call) == (None, Probe())


def test_an_end_that_was_called_off_is_told():
    snapshot = replace(ready(61.0, says(61.0, retired=True)), spec=idle(3600))
    assert [(event.warning, event.reason) for event in decide(snapshot).events] == [(False, "EndCalledOff")]
    assert decide(replace(snapshot, agent=says(61.0))).events == ()


def test_an_end_is_told_before_it_is_done_and_every_cause_by_its_name():
    for view, reason in ((says(60.0, retired=True), "Idle"), (silent_agent(failures=20, since=3600), "ProbeFailed")):
        plan = decide(ready(60.0, view))
        assert [event.reason for event in plan.events] == [reason]
        assert [deletion.kind for deletion in plan.deletes] == ["ComputeSession"]


@pytest.mark.parametrize(("failures", "reason"), [(2, "Idle"), (3, "ProbeFailed"), (30, "ProbeFailed")])
def test_one_failed_probe_is_no_news(failures, reason):
    snapshot = ready(30.0, silent_agent(failures=failures))
    assert verdict(status_after(snapshot), "Active")[1] == reason


def test_a_clock_that_jumps_is_no_silence():
    """An hour of silence means dozens of failed calls. A few failures and a clock set forward by a day are not that."""
    assert decide(ready(5000.0, silent_agent(failures=19, since=90_000))).deletes == ()


def test_the_cap_on_silence_is_a_setting_and_three_timeouts_at_least():
    short = Settings.model_validate({"session": {"unreachableSeconds": 100}})
    for since, ends in ((179, False), (180, True)):
        assert bool(decide(replace(ready(5000.0, silent_agent(failures=20, since=since)), settings=short)).deletes) is ends


@pytest.mark.parametrize(("written", "what"), [(None, "start"), (NOW - 10.0, "exec vim")])
def test_a_session_whose_agent_refused_all_is_idle_since_its_container_runs(written, what):
    environment = resolved()
    told = (environment.packages_revision, environment.flow_revision)
    found = ready(5000.0, silent_agent(failures=0, refused="no room", delivered=told, error=""))
    status = {"phase": "Starting", "podName": found.status["podName"], "conditions": []}
    if written is not None:
        status["lastActivity"] = {"at": stamp(written), "what": what}
    after, plan = status_after(replace(found, status=status)), decide(replace(found, status=status))
    assert (after["phase"], verdict(after, "Ready")[1]) == ("Failed", "AgentRefused")
    assert after["lastActivity"] == {"at": stamp(written or NOW - 5010.0), "what": what}
    assert (plan.call is None) == (written is not None), "its end is due, or is not"
