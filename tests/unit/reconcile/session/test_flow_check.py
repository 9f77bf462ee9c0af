"""FlowValid: the result of the agent's check on the session and on its environment, and what the check costs."""

from dataclasses import replace

import pytest

from flowsession.cluster.agent import answers
from flowsession.engine.store.cache import Cache
from flowsession.engine.store.flow_check_index import Checks
from flowsession.engine.store.keys import Key
from flowsession.engine.store.objects import session as session_entry
from flowsession.model.agent_views import CheckView, FlowProblem, Hint, PackageList
from flowsession.model.conditions import Verdict
from flowsession.model.plan import Follow, KeepAlive, ListPackages, Probe, Retire
from flowsession.model.resolved import Unresolved
from flowsession.reconcile.environment import chain as environments
from flowsession.reconcile.flow_valid import SHOWN, SessionCheck
from flowsession.reconcile.session.flow_check import LEAST_BETWEEN_CALLS, MOST_POLLS, POLL_SECONDS, SLOW, WRITE_SECONDS
from flowsession.reconcile.session.ready import LIST_SECONDS
from unit.builders import (
    DAG,
    NOW,
    POD,
    _AnyPackages,
    agent,
    applied,
    condition,
    decide,
    environment_snapshot,
    idle,
    pod,
    ready_status,
    resolved,
    session_snapshot,
    settled_snapshot,
    spec,
    state,
    status_after,
    verdict,
)

FLOW = resolved(requirements="", files={"flow.dag.yaml": DAG})
PLAIN = resolved(requirements="")
MISSING = FlowProblem("ModuleMissing", "No module named 'bs4': add beautifulsoup4 to the requirements", "fetch.py", 3, "fetch")


def checked(verdict="Valid", *, environment=FLOW, **fields):
    known = {
        "state": "Done",
        "flow_revision": environment.flow_revision,
        "packages_revision": environment.packages_revision,
        "verdict": verdict,
        "nodes": 2,
    }
    return CheckView(**{**known, **fields})


def running(verdict="", **fields):
    return checked(verdict, state="Running", **fields)


def session(check, **fields):
    """A session that becomes Ready, and its agent's check of the flow."""
    answer = state(FLOW, check=check)
    return session_snapshot(pod(), environment=FLOW, **{"agent": agent(answer, FLOW), "known_config_maps": _AnyPackages(), **fields})


def serving(check, *, before=None, **fields):
    """The same session a second after Ready was written, when the check's state was `before`."""
    status = status_after(session(before or running(), **fields), NOW - 1.0)
    return session(check, status=status, **fields)


# -- the session


def test_a_valid_flow():
    status = status_after(session(checked()))
    assert verdict(status, "FlowValid") == ("True", "Valid")
    assert condition(status, "FlowValid")["message"] == "no problems found in 2 nodes"


def test_an_invalid_flow_names_the_first_problems_and_counts_the_others():
    others = tuple(FlowProblem("Schema", f"problem {number}", "flow.dag.yaml") for number in range(4))
    status = status_after(session(checked("Invalid", count=30, problems=(MISSING, *others))))
    assert verdict(status, "FlowValid") == ("False", "Invalid")
    assert condition(status, "FlowValid")["message"] == (
        "fetch.py line 3, node 'fetch': No module named 'bs4': add beautifulsoup4 to the requirements;"
        f" flow.dag.yaml: problem 0; flow.dag.yaml: problem 1; and 27 more; check again by: kubectl exec {POD} -- flow check"
    )
    assert verdict(status, "Ready") == ("True", "Running"), "one may work in it, to mend it"


def test_what_could_not_be_checked_is_not_held_against_the_flow():
    status = status_after(session(checked("NotChecked", reason="prompt flow is not installed here")))
    assert verdict(status, "FlowValid") == ("Unknown", "NotChecked")
    assert "prompt flow is not installed here" in condition(status, "FlowValid")["message"]


def test_without_a_flow_folder():
    status = status_after(session_snapshot(pod(), environment=PLAIN, agent=agent(state(PLAIN), PLAIN)))
    assert verdict(status, "FlowValid") == ("Unknown", "NoFlow")


def test_a_flow_that_was_removed_in_the_session():
    assert verdict(status_after(session(checked("NoFlow"))), "FlowValid") == ("Unknown", "NoFlow")


def test_an_agent_that_knows_no_checks():
    status = status_after(session(CheckView()))
    assert verdict(status, "FlowValid") == ("Unknown", "NotChecked")
    assert not decide(session(CheckView(), status=status)).writes


def test_problems_are_told_while_the_check_goes_on():
    status = status_after(serving(running("Invalid", count=1, problems=(MISSING,))))
    assert verdict(status, "FlowValid") == ("False", "Invalid")


def test_a_verdict_on_other_content_counts_for_nothing():
    before = status_after(session(checked()))
    old = checked("Invalid", flow_revision="older", count=1, problems=(MISSING,))
    assert verdict(status_after(session(old, status=before)), "FlowValid") == ("True", "Valid")


def test_the_change_of_the_content_says_that_it_is_being_checked():
    before = {**status_after(session(checked())), "flowRevision": "older"}
    plan = decide(session(running(), status=before))
    after = applied(before, plan.status.status)
    assert (after["flowRevision"], verdict(after, "FlowValid")) == (FLOW.flow_revision, ("Unknown", "Checking"))
    assert verdict(status_after(session(checked(), status=after)), "FlowValid") == ("True", "Valid")


def test_a_new_check_of_the_same_content_writes_only_news():
    before = status_after(session(checked()))
    assert not decide(session(running(), status=before)).writes
    assert not decide(session(checked(), status=before)).writes
    assert decide(session(checked("Invalid", count=1, problems=(MISSING,)), status=before)).writes


# -- what it costs


def test_a_check_is_followed_to_its_end():
    assert decide(serving(running())).call is None, "a moment after the last call"
    plan = decide(serving(running()), NOW + 0.1)
    assert plan.call == Follow(since=3, seconds=POLL_SECONDS)
    assert decide(serving(checked()), NOW + 0.1).call is None


def test_nobody_is_followed_for_ever():
    endless = serving(running())
    endless = replace(endless, agent=replace(endless.agent, polls=MOST_POLLS))
    plan = decide(endless, NOW + 60)
    assert plan.call is None
    status = applied(endless.status, plan.status.status)
    assert verdict(status, "FlowValid") == ("Unknown", "Checking")
    assert condition(status, "FlowValid")["message"] == SLOW


def test_the_list_of_packages_waits_to_be_written_with_the_verdict():
    """Only a list that missed the write of Ready waits, for at most WRITE_SECONDS after Ready."""
    fields = {"known_config_maps": {}, "agent": agent(state(FLOW, check=running()), FLOW)}
    assert decide(session(running(), **fields)).call == ListPackages()
    ready = status_after(session(running(), **fields), NOW + LIST_SECONDS)
    assert verdict(ready, "FlowValid") == ("Unknown", "Checking")
    listed = agent(state(FLOW, check=running()), FLOW, packages=PackageList(171, "table", "{}"))
    plan = decide(session(running(), status=ready, known_config_maps={}, agent=listed))
    assert [create.manifest["kind"] for create in plan.creates] == ["ConfigMap"]
    assert plan.status is None, "not yet"
    done = decide(session(checked(), status=ready))
    assert {"packages", "conditions"} <= set(done.status.status)
    late = decide(session(running(), status=ready), NOW + LIST_SECONDS + WRITE_SECONDS + 1)
    assert set(late.status.status) == {"packages"}, "a long check holds nothing up"


def test_a_restarted_operator_asks_nobody_and_writes_nothing():
    status = status_after(session(checked()))
    assert not decide(session(checked(), status=status, agent=None)).writes
    assert not decide(settled_snapshot(FLOW)).writes


def test_a_check_does_not_put_the_idle_end_off():
    check = running()
    spec_ = idle(seconds=60)
    status = ready_status(FLOW, ready_at=NOW - 90.0, spec=spec_)
    busy = agent(state(FLOW, check=check, idle_seconds=70.0), FLOW, calling=True, following=True)
    warned = decide(session(check, spec=spec_, status=status, agent=busy))
    status = applied(status, warned.status.status if warned.status else {})
    plan = decide(session(check, spec=spec_, status=status, agent=busy), NOW + 30)
    assert plan.call == Retire(60.0)


@pytest.mark.parametrize("polling", [True, False])
def test_a_keep_alive_does_not_wait_for_a_check(polling):
    status = status_after(session(checked()))
    following = agent(state(FLOW, check=running()), FLOW, calling=polling, following=polling)
    asked = {"keepAlive": "2026-01-01T00:00:00Z"}
    assert decide(session(running(), status=status, agent=following, requests=asked), NOW + 1).call == KeepAlive(asked["keepAlive"])


# -- the environment


def environment(resolution=FLOW, *, status=None, check=None):
    snapshot = environment_snapshot(spec=spec(), status=status, check=check)
    plan = environments.decide(snapshot, resolution, NOW)
    return applied(snapshot.status, plan.status.status if plan.status else {})


def said(verdict_=True, *, of=FLOW, session="ada"):
    given = Verdict(True, "Valid", "no problems found") if verdict_ else Verdict(False, "Invalid", "fetch.py: broken")
    return SessionCheck(session, of.flow_revision, of.packages_revision, given)


def test_before_a_session_has_checked_it_nothing_is_claimed():
    assert verdict(environment(), "FlowValid") == ("Unknown", "NotChecked")
    assert verdict(environment(PLAIN), "FlowValid") == ("Unknown", "NoFlow")


def test_a_sessions_word_becomes_the_environments():
    assert verdict(environment(check=said()), "FlowValid") == ("True", "Valid")
    invalid = environment(check=said(False))
    assert verdict(invalid, "FlowValid") == ("False", "Invalid")
    assert condition(invalid, "FlowValid")["message"] == "session 'ada': fetch.py: broken"
    assert verdict(invalid, "Ready") == ("True", "Resolved")


def test_the_word_outlives_the_session_but_not_the_content():
    known = environment(check=said())
    assert verdict(environment(status=known), "FlowValid") == ("True", "Valid")
    assert verdict(environment(status={**known, "flowRevision": "older"}), "FlowValid") == ("Unknown", "NotChecked")
    assert verdict(environment(status={**known, "packagesRevision": "older"}), "FlowValid") == ("Unknown", "NotChecked")


def test_a_word_on_other_content_counts_for_nothing():
    other = replace(said(False), flow_revision="older")
    assert verdict(environment(check=other), "FlowValid") == ("Unknown", "NotChecked")


def test_what_the_operator_itself_finds_unreadable_needs_no_session():
    broken = Unresolved("FlowInvalid", "flow.dag.yaml line 3: not YAML")
    status = environment(broken, check=said())
    assert verdict(status, "FlowValid") == ("False", "Invalid")
    assert verdict(environment(status=status), "FlowValid") == ("Unknown", "NotChecked"), "mended"
    assert verdict(environment(Unresolved("SourceNotFound", "gone"), status=environment(check=said())), "FlowValid") == ("True", "Valid")


def test_a_settled_environment_writes_nothing():
    for check in (None, said(), said(False)):
        known = environment(check=check)
        assert environments.decide(environment_snapshot(spec=spec(), status=known, check=check), FLOW, NOW).status is None


def entry(name, status="True", reason="Valid", flow="f1", message="fine"):
    conditions = [
        {"type": "FlowValid", "status": status, "reason": reason, "message": message, "lastTransitionTime": "2026-01-01T00:00:00Z"}
    ]
    return session_entry(
        {
            "metadata": {
                "name": name,
                "namespace": "team",
                "uid": name,
                "resourceVersion": "1",
                "creationTimestamp": "2026-01-01T00:00:00Z",
            },
            "spec": {"environmentRef": {"name": "env"}, "user": "a"},
            "status": {"flowRevision": flow, "packagesRevision": "p", "conditions": conditions},
        }
    )


def test_an_environment_is_brought_up_only_by_news():
    checks, env = Checks(), {Key("FlowEnvironment", "team", "env")}
    checking = entry("ada", "Unknown", "Checking")
    assert checks.note(None, checking) == env, "a session more"
    assert checks.note(checking, checking) == set()
    assert checks.note(checking, entry("ada")) == env
    assert checks.note(entry("ada"), entry("ada")) == set()
    assert checks.note(entry("bob", "Unknown", "Checking"), entry("bob")) == set(), "the same word of another session"
    assert checks.note(entry("bob"), entry("bob", "False", "Invalid", message="broken")) == env
    found = checks.of(("team", "env"))
    assert (found.session, found.flow_revision, found.packages_revision) == ("bob", "f1", "p")
    assert checks.note(entry("ada"), entry("ada", "Unknown", "Checking", flow="f2")) == set()
    checks.forget(("team", "env"))
    assert checks.of(("team", "env")) is None


# -- hostile answers


def test_an_agents_problems_are_capped():
    huge = {"code": "x" * 9999, "message": "y\n" * 9999, "file": "z" * 9999, "line": 10**30, "node": "\x1b[31m" * 999}
    document = {
        "check": {"state": "Done", "verdict": "Invalid", "problems": [huge] * 9999, "count": 10**30, "nodes": -1, "reason": "r" * 9999}
    }
    check = answers.state(document).check
    assert (len(check.problems), check.count, check.nodes) == (20, 10**6, 0)
    assert max(len(problem.message) + len(problem.file) + len(problem.node) + len(problem.code) for problem in check.problems) <= 940
    assert "\n" not in check.problems[0].message and "\x1b" not in check.problems[0].node
    assert len(check.reason) <= 500


@pytest.mark.parametrize(
    "junk", [None, [], "x", {"state": [], "verdict": {}, "problems": "all"}, {"state": "Forever", "verdict": "Perfect"}]
)
def test_junk_says_nothing(junk):
    check = answers.state({"check": junk}).check
    assert (check.state, check.verdict, check.problems) == ("None", "", ())


def test_the_longest_message_fits():
    worst = FlowProblem("c", "m" * 500, "f" * 200, 1, "n" * 200)
    message = condition(status_after(session(checked("Invalid", count=20, problems=(worst,) * 20))), "FlowValid")["message"]
    assert len(message) <= 2000 + len("...")
    assert SHOWN == 3


def test_what_sessions_said_of_an_environment_goes_with_the_last_of_them():
    cache = Cache(clock=lambda: NOW)
    checked = [{"type": "FlowValid", "status": "True", "reason": "Valid", "message": "", "observedGeneration": 1}]
    for name in ("ada", "bob"):
        meta = {"namespace": "team", "name": name, "uid": name, "resourceVersion": "1"}
        status = {"flowRevision": "f", "packagesRevision": "p", "phase": "Running", "conditions": checked}
        cache.observe("ComputeSession", {"metadata": meta, "spec": {"environmentRef": {"name": "env"}, "user": name}, "status": status})
    assert cache.checks.of(("team", "env")) is not None
    cache.forget("ComputeSession", "team", "ada")
    assert cache.checks.of(("team", "env")) is not None, "another session still says so"
    cache.forget("ComputeSession", "team", "bob")
    assert cache.checks.of(("team", "env")) is None


def announced(checked_at, *, asked_at=NOW - 60):
    """The plan for a settled session whose agent announced another verdict."""
    environment = resolved(files={"flow.dag.yaml": DAG})
    view = agent(state(environment), environment, asked_at=asked_at, state_at=asked_at, edits_at=NOW)
    return decide(
        session_snapshot(pod(), agent=view, hint=Hint(checked_at=checked_at), environment=environment, status=ready_status(environment))
    )


def test_a_settled_session_is_asked_when_its_agent_announces_another_verdict_and_never_else():
    assert announced(NOW - 1).call == Probe()
    assert announced(0.0).call is None
    assert announced(NOW - 61).call is None


def test_an_agent_that_announces_verdicts_all_the_time_is_asked_now_and_then():
    plan = announced(NOW - 0.5, asked_at=NOW - 1)
    assert (plan.call, plan.look_again_at) == (None, NOW - 1 + LEAST_BETWEEN_CALLS)


def test_an_operator_that_starts_anew_takes_in_another_verdict_of_a_settled_session():
    """The new operator has delivered nothing to that agent, and has no reason to."""
    hint, status = Hint(checked_at=NOW - 1), ready_status(FLOW)
    assert decide(session_snapshot(pod(), hint=hint, environment=FLOW, status=status)).call == Probe()
    view = agent(state(FLOW, check=checked("Invalid", problems=(MISSING,))), FLOW, delivered=None, edits_at=NOW)
    found = session_snapshot(pod(), agent=view, hint=hint, environment=FLOW, status=status)
    assert verdict(status_after(found), "FlowValid")[0] == "False"
    assert decide(found).call is None
