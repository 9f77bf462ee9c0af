"""The check of the flow inside a session, and its result: the condition FlowValid."""

from flowsession.api.session import Phase
from flowsession.model.plan import Follow, Probe
from flowsession.model.times import moment
from flowsession.reconcile.flow_valid import CONDITION, NO_FLOW, verdict_of
from flowsession.reconcile.session.agent import settled
from flowsession.reconcile.session.draft import Draft, Live
from flowsession.reconcile.session.install import follow

POLL_SECONDS = 3.0
"""Seconds of a long poll for a check: fewer than for an install, so that other calls don't wait long."""

MOST_POLLS = 40
"""Maximum number of long polls for one check, two minutes in all. The agent announces the verdict of a check that takes longer."""

SLOW = "the flow is still being checked, after two minutes: the check gives way to all other work on its node, and the verdict follows"

LEAST_BETWEEN_CALLS = 5.0
"""Minimum seconds from any call of an agent to a call because it announced another verdict: tools may be edited all the time."""

WRITE_SECONDS = 3.0
"""Seconds after Ready for which the list of packages waits to be written together with the verdict."""


def judge_flow(draft: Draft, live: Live) -> bool:
    """Write whether the flow is valid, or why that is unknown."""
    pod, environment, agent = live.pod, live.environment, live.agent
    if agent is None or agent.state is None or draft.status.get("phase") != Phase.RUNNING.value:
        return True
    if agent.delivered is None and not settled(draft, pod):  # after a restart of the operator, a settled session gets no delivery
        return True
    state, check = agent.state, agent.state.check
    if environment.files is None:
        draft.set_condition(CONDITION, NO_FLOW.status, NO_FLOW.reason, NO_FLOW.message)
        return True
    revisions = (state.flow_revision, state.packages_revision)
    if check.state == "None" or (check.flow_revision, check.packages_revision) != revisions:
        if _changed(draft, revisions):
            draft.set_condition(CONDITION, None, "NotChecked", "the session's agent is too old to check flows; a reset brings a newer one")
        return True
    if check.state == "Done" or check.verdict == "Invalid":
        verdict = verdict_of(check, pod.name)
        draft.set_condition(CONDITION, verdict.status, verdict.reason, verdict.message)
    elif _changed(draft, revisions):
        draft.set_condition(CONDITION, None, "Checking", "the flow is being checked")  # in the same write as the new revision
    if check.state == "Running" and agent.polls < MOST_POLLS:
        draft.may_wait("packages", until=moment(draft.status.get("readyAt"), draft.now) + WRITE_SECONDS)
    elif check.state == "Running" and check.verdict != "Invalid":
        draft.set_condition(CONDITION, None, "Checking", SLOW)
    return True


def follow_the_check(draft: Draft, live: Live) -> bool:
    """Follow a check that is running, and ask an agent that announced another verdict, unless another call is planned.

    An agent checks by itself when something changes that the operator does not see, such as a connection's Secret.
    """
    agent, hint = live.agent, draft.snapshot.hint
    if draft.status.get("phase") != Phase.RUNNING.value:
        return True
    if agent is not None and agent.state is not None and agent.delivered is not None:
        state = agent.state
        if state.check.state == "Running" and state.install.state != "Running" and not state.retired and agent.polls < MOST_POLLS:
            follow(draft, agent, Follow(since=state.version, seconds=POLL_SECONDS))
    if hint is not None and hint.checked_at > (agent.state_at if agent else 0.0):
        draft.ask(agent, Probe(), not_before=agent.asked_at + LEAST_BETWEEN_CALLS if agent else 0.0)
    return True


def _changed(draft: Draft, revisions: tuple[str, str]) -> bool:
    """Return whether the status has no verdict on this content."""
    status = draft.snapshot.status
    return draft.was(CONDITION) is None or (status.get("flowRevision"), status.get("packagesRevision")) != revisions
