"""Conditions by the Kubernetes API conventions: a condition keeps its transition time while its status stays."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flowsession.api.base import Condition
from flowsession.model import times

LONGEST_MESSAGE = 2000
"""Characters of a condition's message; the API allows 32,768, but people read it in a terminal."""


@dataclass(frozen=True)
class Verdict:
    """A condition to be set. `status` None means Unknown."""

    status: bool | None
    reason: str
    message: str


def read(status: Mapping[str, Any]) -> dict[str, Condition]:
    """Return the conditions of a status, by type."""
    return {item["type"]: Condition.model_validate(item) for item in status.get("conditions") or ()}


def updated(old: Mapping[str, Condition], verdicts: Mapping[str, Verdict], *, generation: int, now: float) -> list[dict[str, Any]]:
    """Return the new list of conditions in wire form: those judged now, and the others as they were."""
    merged = dict(old)
    for kind, verdict in verdicts.items():
        status = {True: "True", False: "False", None: "Unknown"}[verdict.status]
        before = old.get(kind)
        unchanged = before is not None and before.status == status
        merged[kind] = Condition(
            type=kind,
            status=status,
            reason=verdict.reason,
            message=clip(verdict.message),
            last_transition_time=before.last_transition_time if before and unchanged else times.stamp(now),
            observed_generation=generation,
        )
    return [condition.to_wire() for condition in merged.values()]


def clip(text: str, limit: int = LONGEST_MESSAGE) -> str:
    """Return the text, cut to the limit with an ellipsis."""
    return text if len(text) <= limit else text[: limit - 3] + "..."
