"""Builds requests about runs, and reads the responses into views, with every text, number and list cut to a harmless size."""

from collections.abc import Mapping
from typing import Any

from flowsession.cluster.agent.answers import number, size_of, text, word
from flowsession.cluster.agent.transport import CALL_SECONDS, AgentError, Request
from flowsession.model.plan import BeginRun, CancelRun, FetchOutputs, FollowRun, RunCall
from flowsession.model.run_views import RunAnswer, RunFailure, RunReply
from flowsession_protocol import limits
from flowsession_protocol.messages import RUN_FAILURES, RUN_STATES

POLL_SECONDS = 30.0
BEGIN_SECONDS = 20.0
"""The request may carry data and the outputs of earlier runs, a megabyte each, and a flow folder."""
LARGEST_OUTPUTS = 2 * 1024 * 1024
"""Maximum bytes of a response with outputs."""
MOST_LINES = 1e9
MOST_TOKENS = 1e15


def request_of(call: RunCall, enclosed: Mapping[str, Any]) -> Request:
    """Return the HTTP request of a call; `enclosed`: further members of an order."""
    match call:
        case BeginRun(body=body):
            return Request("PUT", "/v1/runs", {**body, **enclosed}, timeout_seconds=BEGIN_SECONDS)
        case FollowRun(run=run, since=since):
            path = f"/v1/runs?id={run}&since={since}&wait={POLL_SECONDS:.0f}"
            return Request("GET", path, timeout_seconds=POLL_SECONDS + CALL_SECONDS)
        case CancelRun(run=run):
            return Request("DELETE", f"/v1/runs?id={run}")
        case FetchOutputs(run=run):
            return Request("GET", f"/v1/runs/outputs?id={run}", timeout_seconds=POLL_SECONDS, largest=LARGEST_OUTPUTS)


def reply(call: RunCall, status: int, document: dict[str, Any]) -> RunReply:
    """Return the outcome of a call. Raises AgentError for an unusable response."""
    if status in (400, 404, 409, 413):
        message = word(document.get("message"), 500) or f"HTTP {status}"
        return RunReply(refused=text(document.get("code"), 40) or "NotFound", message=message)
    if status != 200:
        raise AgentError(f"HTTP {status}: {word(document.get('message'), 300)}")
    if isinstance(call, FetchOutputs):
        archive = document.get("archive")
        size = size_of(archive)
        if not isinstance(archive, str) or not 0 < size <= limits.ARCHIVE_BYTES:
            return RunReply(refused="TooLarge", message=f"its agent sent {size:,} bytes; at most {limits.ARCHIVE_BYTES:,} are kept")
        return RunReply(archive=archive)
    return RunReply(answer=_answer(document))


def _answer(document: dict[str, Any]) -> RunAnswer:
    state, code, lines = document.get("state"), document.get("code"), document.get("lines")
    if state not in RUN_STATES:
        raise AgentError("its answer names no state of the run")
    counts = lines if isinstance(lines, dict) else {}
    failed = state == "Failed"
    return RunAnswer(
        state=str(state),
        version=int(number(document.get("version"))),
        total=int(number(counts.get("total"), limit=MOST_LINES)),
        completed=int(number(counts.get("completed"), limit=MOST_LINES)),
        failed=int(number(counts.get("failed"), limit=MOST_LINES)),
        code=(code if code in RUN_FAILURES else "RunFailed") if failed else "",
        message=word(document.get("message"), limits.PROBLEM),
        warnings=_warnings(document.get("warnings")),
        errors=_errors(document.get("errors")),
        metrics=_metrics(document.get("metrics")),
        tokens=_tokens(document.get("tokens")),
        log_tail=text(document.get("logTail"), limits.RUN_LOG_TAIL),
    )


def _warnings(value: object) -> tuple[str, ...]:
    return tuple(word(item, limits.PROBLEM) for item in value[: limits.RUN_ERRORS]) if isinstance(value, list) else ()


def _errors(value: object) -> tuple[RunFailure, ...]:
    items = [item for item in value[: limits.RUN_ERRORS] if isinstance(item, dict)] if isinstance(value, list) else []
    return tuple(
        RunFailure(
            message=word(item.get("message"), limits.PROBLEM),
            line=int(number(item["line"], limit=MOST_LINES)) if "line" in item else None,
            node=word(item.get("node"), limits.PROBLEM_PLACE),
        )
        for item in items
    )


def _metrics(value: object) -> dict[str, str]:
    items = list(value.items())[: limits.RUN_METRICS] if isinstance(value, dict) else []
    return {word(name, 100): word(found, 100) for name, found in items if word(name, 100)}


def _tokens(value: object) -> dict[str, int]:
    members = value if isinstance(value, dict) else {}
    return {name: int(number(members[name], limit=MOST_TOKENS)) for name in ("prompt", "completion", "total") if name in members}
