"""Conditions by the Kubernetes API conventions: set one, keep its transition time while its status stays."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flowsession.api.base import Condition
from flowsession.model import times

LONGEST_MESSAGE = 2000
"""Characters of a condition's message; the API allows 32,768, but people read it in a terminal."""


@dataclass(frozen=True)
class Verdict:
    """What a condition shall say. `status` None stands for Unknown."""

    status: bool | None
    reason: str
    message: str


def read(status: Mapping[str, Any]) -> dict[str, Condition]:
    """The conditions of a status, by type."""
    return {item["type"]: Condition.model_validate(item) for item in status.get("conditions") or ()}


def judged(old: Mapping[str, Condition], verdicts: Mapping[str, Verdict], *, generation: int, now: float) -> list[dict[str, Any]]:
    """The new list of conditions, on the wire's form: those judged now, and the others as they were."""
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
    """The text, cut with an ellipsis where it is longer than the limit."""
    return text if len(text) <= limit else text[: limit - 3] + "..."
