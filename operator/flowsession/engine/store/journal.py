"""Logs the lives of sessions and instances: one line at INFO for each start, failure and end, with user, reason and duration.

It follows changes of an object's status in the cache, so it costs no request and reports only what was written.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flowsession.engine.store.objects import InstanceEntry, SessionEntry
from flowsession.model import conditions, times
from flowsession.reconcile.instance.draft import Draft as InstanceDraft
from flowsession.reconcile.session.draft import UNREACHABLE
from flowsession.reconcile.session.draft import Draft as SessionDraft

log = logging.getLogger(__name__)

MESSAGE_CHARACTERS = 300
"""Maximum length of a status message in a line, in characters."""

Entry = SessionEntry | InstanceEntry
Fields = dict[str, Any]


@dataclass
class Journal:
    """Writes a line for each step of an object's life."""

    ends: dict[str, tuple[str, str]] = field(default_factory=dict)
    """By uid: why the operator itself is about to delete an object, as reason and message."""

    def note(self, before: Entry | None, after: Entry | None, now: float) -> None:
        """Log the steps of an object that changed or is gone. An object that is seen for the first time has none yet."""
        if before is not None and after is not None:
            for step, fields in steps(before, after, now):
                log.info("%s %s", _kind(after), step, extra=_who(after) | fields)
        elif before is not None:
            reason, message = self.ends.pop(before.meta.uid, ("Deleted", "somebody deleted it"))
            end = {"reason": reason, "said": message[:MESSAGE_CHARACTERS], "seconds": round(max(0.0, now - before.meta.created_at))}
            log.info("%s ended", _kind(before), extra=_who(before) | end)


def steps(before: Entry, after: Entry, now: float) -> list[tuple[str, Fields]]:
    """Return the steps that a change of an object's status shows: started, failed or stopped."""
    found = [("started", _start(after.status, now))] if _started(before.status, after.status) else []
    if (stopped := _stop(before.status, after.status, now)) is not None:
        return [*found, ("stopped", stopped)]
    if (failed := _failure(before, after, now)) is not None:
        found.append(("failed", failed))
    return found


def _kind(entry: Entry) -> str:
    return "session" if isinstance(entry, SessionEntry) else "instance"


def _who(entry: Entry) -> Fields:
    who: Fields = {"key": f"{entry.meta.namespace}/{entry.meta.name}", "user": entry.spec.user}
    if isinstance(entry, SessionEntry):
        who["environment"] = entry.spec.environment_ref.name
    return who


def _is_ready(status: Mapping[str, Any]) -> bool:
    ready = conditions.read(status).get("Ready")
    return ready is not None and ready.status == "True"


def _started(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    return _is_ready(after) and after.get("readyAt") is not None and after.get("readyAt") != before.get("readyAt")


def _start(status: Mapping[str, Any], now: float) -> Fields:
    stages = {stage["name"]: stage.get("seconds") for stage in status.get("stages") or ()}
    began = times.parse(status.get("startedAt"))
    whole = stages.pop("Ready", None) or max(0.0, now - (began or now))
    why = f"its start number {status['incarnation']}" if (status.get("incarnation") or 1) > 1 else "its first start"
    if restarts := status.get("containerRestarts"):
        why = f"its container was restarted ({restarts})"
    fields: Fields = {"why": why, "seconds": round(whole, 1), "pod": status.get("podName"), "node": status.get("nodeName")}
    return fields | ({"stages": stages} if stages else {})


def _stop(before: Mapping[str, Any], after: Mapping[str, Any], now: float) -> Fields | None:
    """Return the step of a suspended session or a stopped instance."""
    stopped = after.get("suspended") or after.get("stopped")
    if not stopped or (before.get("suspended") or before.get("stopped")):
        return None
    ready_at = times.parse(before.get("readyAt"))
    return {"reason": stopped.get("by"), **({} if ready_at is None else {"seconds": round(max(0.0, now - ready_at))})}


def _failure(before: Entry, after: Entry, now: float) -> Fields | None:
    """Return the first condition that turned to a new problem, the specific ones first: Ready repeats their messages."""
    kind_of_draft = SessionDraft if isinstance(after, SessionEntry) else InstanceDraft
    old, new = conditions.read(before.status), conditions.read(after.status)
    for kind in kind_of_draft.PROBLEMS:
        was, now_is = old.get(kind), new.get(kind)
        if now_is is None or now_is.reason in kind_of_draft.NO_PROBLEM:
            continue
        unreachable = kind == "Ready" and now_is.status == "Unknown" and now_is.reason in UNREACHABLE
        same = was is not None and (was.status, was.reason) == (now_is.status, now_is.reason)
        if (now_is.status == "False" or unreachable) and not same:
            began = times.parse(after.status.get("startedAt"))
            seconds = {} if began is None else {"seconds": round(max(0.0, now - began), 1)}
            return {"reason": now_is.reason, "said": now_is.message[:MESSAGE_CHARACTERS], **seconds}
    return None
