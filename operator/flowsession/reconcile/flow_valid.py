"""The condition FlowValid of sessions and environments."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flowsession.api.base import Condition
from flowsession.model.agent_views import CheckView, FlowProblem
from flowsession.model.conditions import Verdict
from flowsession.model.resolved import Resolved, Unresolved

CONDITION = "FlowValid"

SHOWN = 3
"""Number of problems that a condition lists; the others are only counted."""

NO_FLOW = Verdict(None, "NoFlow", "there is no flow folder, so there is nothing to check")

NOT_CHECKED = Verdict(None, "NotChecked", "no session has checked this flow folder with these packages yet; each does so when it has them")


@dataclass(frozen=True)
class SessionCheck:
    """A session's verdict on its flow folder and packages."""

    session: str
    flow_revision: str
    packages_revision: str
    verdict: Verdict


def of_status(session: str, status: Mapping[str, Any]) -> SessionCheck | None:
    """Return the verdict in a session's status, or None if it has no verdict that holds for other sessions."""
    found = next((item for item in status.get("conditions") or () if item.get("type") == CONDITION), None)
    if found is None or found.get("reason") not in ("Valid", "Invalid"):
        return None
    verdict = Verdict(found.get("status") == "True", found["reason"], found.get("message", ""))
    return SessionCheck(session, status.get("flowRevision") or "", status.get("packagesRevision") or "", verdict)


def of_environment(
    resolution: Resolved | Unresolved, status: Mapping[str, Any], old: Mapping[str, Condition], check: SessionCheck | None
) -> Verdict | None:
    """Return the environment's verdict: the last one of a session with exactly this content, even if that is deleted. None: no change."""
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


def verdict_of(check: CheckView, pod: str) -> Verdict:
    if check.verdict == "Valid":
        return Verdict(True, "Valid", f"no problems found{f' in {check.nodes} nodes' if check.nodes > 1 else ''}")
    if check.verdict == "Invalid":
        more = f"; and {check.count - SHOWN} more" if check.count > SHOWN else ""
        first = "; ".join(_sentence(problem) for problem in check.problems[:SHOWN])
        return Verdict(False, "Invalid", f"{first}{more}; check again by: kubectl exec {pod} -- flow check")
    if check.verdict == "NoFlow":
        return Verdict(None, "NoFlow", "the flow folder holds no flow any more: its file was removed in the session")
    return Verdict(None, "NotChecked", f"the flow could not be checked: {check.reason or 'no reason was given'}")


def _sentence(problem: FlowProblem) -> str:
    place = f"{problem.file}{f' line {problem.line}' if problem.line else ''}" if problem.file else ""
    node = f"node {problem.node!r}" if problem.node else ""
    where = ", ".join(part for part in (place, node) if part)
    return f"{where}: {problem.message}" if where else problem.message
