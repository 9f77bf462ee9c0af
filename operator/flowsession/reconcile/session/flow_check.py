"""What the check of the flow inside a session comes to: the condition FlowValid, on the session and on its environment."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flowsession.api.base import Condition
from flowsession.api.session import Phase
from flowsession.model.agent_views import CheckView, FlowProblem
from flowsession.model.conditions import Verdict
from flowsession.model.plan import Follow
from flowsession.reconcile.environment.resolve import Resolved, Unresolved
from flowsession.reconcile.session.agent import agent_of
from flowsession.reconcile.session.draft import Draft, moment
from flowsession.reconcile.session.install import follow
from flowsession.reconcile.session.start import current_pod

CONDITION = "FlowValid"

SHOWN = 3
"""Problems that a condition names; the others are counted."""

POLL_SECONDS = 3.0
"""How long one long poll waits for a check: shorter than for an install, so that nothing else waits long for its turn."""

MOST_POLLS = 40
"""Long polls for one check: an honest one is over within 70 s."""

WRITE_SECONDS = 3.0
"""How long after its start a session's list of packages waits to be written together with the verdict."""

NO_FLOW = Verdict(None, "NoFlow", "there is no flow folder, so there is nothing to check")
NOT_CHECKED = Verdict(None, "NotChecked", "no session has checked this flow folder with these packages yet; each does so when it has them")


@dataclass(frozen=True)
class SessionCheck:
    """What a session's status says of the flow folder and packages that it has."""

    session: str
    flow_revision: str
    packages_revision: str
    verdict: Verdict


def judge(draft: Draft) -> bool:
    """Says whether the flow is valid."""
    pod, environment = current_pod(draft), draft.snapshot.environment
    assert pod is not None and isinstance(environment, Resolved), "the stages before saw to it"
    agent = agent_of(draft, pod)
    if agent is None or agent.state is None or agent.told is None or draft.status.get("phase") != Phase.RUNNING.value:
        return True
    state, check = agent.state, agent.state.check
    if environment.files is None:
        draft.judge(CONDITION, NO_FLOW.status, NO_FLOW.reason, NO_FLOW.message)
        return True
    told = (state.flow_revision, state.packages_revision)
    if check.state == "None" or (check.flow_revision, check.packages_revision) != told:
        if _changed(draft, told):
            draft.judge(CONDITION, None, "NotChecked", "the session's agent is too old to check flows; a reset brings a newer one")
        return True
    if check.state == "Done" or check.verdict == "Invalid":
        verdict = _verdict(check, pod.name)
        draft.judge(CONDITION, verdict.status, verdict.reason, verdict.message)
    elif _changed(draft, told):
        draft.judge(CONDITION, None, "Checking", "the flow is being checked")  # in the same write as the new revision
    if check.state == "Running" and agent.polls < MOST_POLLS:
        draft.may_wait("packages", moment(draft.status.get("readyAt"), draft.now) + WRITE_SECONDS)
    elif check.state == "Running" and check.verdict != "Invalid":
        draft.judge(CONDITION, None, "NotChecked", "the agent's check of the flow does not come to an end")
    return True


def follow_the_check(draft: Draft) -> bool:
    """Follows a check that is under way, unless there is something to say to the agent."""
    pod = current_pod(draft)
    agent = agent_of(draft, pod) if pod else None
    if agent is None or agent.state is None or agent.told is None or draft.status.get("phase") != Phase.RUNNING.value:
        return True
    state = agent.state
    if state.check.state == "Running" and state.install.state != "Running" and not state.retired and agent.polls < MOST_POLLS:
        follow(draft, agent, Follow(since=state.version, seconds=POLL_SECONDS))
    return True


def _changed(draft: Draft, revisions: tuple[str, str]) -> bool:
    """Whether the status speaks of other content than this, or not at all."""
    status = draft.snapshot.status
    return draft.was(CONDITION) is None or (status.get("flowRevision"), status.get("packagesRevision")) != revisions


def of_status(session: str, status: Mapping[str, Any]) -> SessionCheck | None:
    """What a session's status says; None where it says nothing that holds for other sessions."""
    found = next((item for item in status.get("conditions") or () if item.get("type") == CONDITION), None)
    if found is None or found.get("reason") not in ("Valid", "Invalid"):
        return None
    verdict = Verdict(found.get("status") == "True", found["reason"], found.get("message", ""))
    return SessionCheck(session, status.get("flowRevision") or "", status.get("packagesRevision") or "", verdict)


def of_environment(
    resolution: Resolved | Unresolved, status: Mapping[str, Any], old: Mapping[str, Condition], check: SessionCheck | None
) -> Verdict | None:
    """What the environment says: the last word of a session that has this very content, kept when the session is gone. None: as before."""
    if isinstance(resolution, Unresolved):
        return Verdict(False, "Invalid", resolution.message) if resolution.reason == "FlowInvalid" else None
    if resolution.files is None:
        return NO_FLOW
    revisions = (resolution.flow_revision, resolution.packages_revision)
    if check is not None and (check.flow_revision, check.packages_revision) == revisions:
        verdict = check.verdict
        return verdict if verdict.status else Verdict(False, verdict.reason, f"session {check.session!r}: {verdict.message}")
    ready = old.get("Ready")
    known = CONDITION in old and ready is not None and ready.status == "True"
    same = (status.get("flowRevision"), status.get("packagesRevision")) == revisions
    return None if known and same and old[CONDITION].reason != NO_FLOW.reason else NOT_CHECKED


def _verdict(check: CheckView, pod: str) -> Verdict:
    if check.verdict == "Valid":
        return Verdict(True, "Valid", f"no problems found{f' in {check.nodes} nodes' if check.nodes > 1 else ''}")
    if check.verdict == "Invalid":
        more = f"; and {check.count - SHOWN} more" if check.count > SHOWN else ""
        first = "; ".join(_sentence(problem) for problem in check.problems[:SHOWN])
        return Verdict(False, "Invalid", f"{first}{more}; check again by: kubectl exec {pod} -- flow check")
    if check.verdict == "NoFlow":
        return Verdict(None, "NoFlow", "the flow folder holds no flow any more: its file was removed in the session")
    return Verdict(None, "NotChecked", f"the flow could not be checked: {check.reason or 'its agent does not say why'}")


def _sentence(problem: FlowProblem) -> str:
    place = f"{problem.file}{f' line {problem.line}' if problem.line else ''}" if problem.file else ""
    node = f"node {problem.node!r}" if problem.node else ""
    where = ", ".join(part for part in (place, node) if part)
    return f"{where}: {problem.message}" if where else problem.message
