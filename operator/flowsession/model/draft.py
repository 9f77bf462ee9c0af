"""What a decision about an object notes down, whatever its kind: status, conditions, children, Events, and when to look again."""

from collections.abc import Mapping
from typing import Any

from flowsession.api.base import Condition
from flowsession.model import conditions
from flowsession.model.conditions import Verdict
from flowsession.model.plan import Create, Delete, Event, ReadEvents


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """What a merge patch must carry so that `old` becomes `new`; empty when they are equal."""
    patch: dict[str, Any] = {key: None for key in old if key not in new}
    for key, value in new.items():
        before = old.get(key)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            inner = difference(before, value)
            if inner:
                patch[key] = inner
        elif key not in old or before != value:
            patch[key] = value
    return patch


class Notes:
    """Collects what is found. Only this class and its heirs know how a status becomes a patch."""

    def __init__(self, status: Mapping[str, Any], generation: int, now: float, requests: Mapping[str, str]) -> None:
        self.now = now
        self.requests = requests
        """The request annotations, by what they ask for."""
        self.status: dict[str, Any] = dict(status)
        self.old = conditions.read(status)
        self.read_events: ReadEvents | None = None
        self.wants_accounts = False
        """Whether what is decided depends on the namespace's ServiceAccounts, and they are not known."""
        self.before = status
        """The status as it was."""
        self._generation = generation
        self._verdicts: dict[str, Verdict] = {}
        self._creates: list[Create] = []
        self._deletes: list[Delete] = []
        self._events: list[Event] = []
        self.valid_until: float | None = None
        """Until when the status may be written, in seconds since 1970, where it acts on an agent's word; None: for ever."""
        self._look_again_at = float("inf")

    def judge(self, condition: str, status: bool | None, reason: str, message: str) -> None:
        """Sets a condition; a later word on the same one wins."""
        self._verdicts[condition] = Verdict(status, reason, message)

    def put(self, field: str, value: Any) -> None:
        """Sets a field of the status; None removes it."""
        if value is None:
            self.status.pop(field, None)
        else:
            self.status[field] = value

    def delete(self, deletion: Delete) -> None:
        """Asks for an object's end."""
        self._deletes.append(deletion)

    def tell(self, *, warning: bool, reason: str, message: str) -> None:
        """An Event besides those that follow from conditions."""
        self._events.append(Event(warning, reason, message))

    def look_again(self, at: float) -> None:
        """The key comes up again at this moment, if nothing happens before."""
        self._look_again_at = min(self._look_again_at, at)

    def was(self, condition: str) -> Condition | None:
        """The condition as the status has it."""
        return self.old.get(condition)

    def reason_before(self, condition: str) -> str:
        """The condition's reason as the status has it; empty if there is none."""
        before = self.was(condition)
        return before.reason if before else ""

    def said(self, condition: str) -> str:
        """The message that was given to the condition so far."""
        verdict = self._verdicts.get(condition)
        return verdict.message if verdict else ""

    def reason(self, condition: str) -> str:
        """The condition's reason, as it was given or as the status has it; empty if there is none."""
        verdict = self._verdicts.get(condition)
        return verdict.reason if verdict else self.reason_before(condition)

    def _patch(self) -> dict[str, Any]:
        """What turns the status that there is into the one that was noted."""
        if self._verdicts:
            self.status["observedGeneration"] = self._generation
            self.status["conditions"] = conditions.judged(self.old, self._verdicts, generation=self._generation, now=self.now)
        return difference(self.before, self.status)

    def _problems(self, told: tuple[str, ...], no_problem: frozenset[str]) -> list[Event]:
        """A Warning for every condition of those that turned to a new problem, each sentence once."""
        events: dict[str, Event] = {}
        for condition in told:
            verdict, before = self._verdicts.get(condition), self.was(condition)
            if verdict is None or verdict.status is not False or verdict.reason in no_problem:
                continue
            if before is None or before.status != "False" or before.reason != verdict.reason:
                events.setdefault(verdict.message, Event(True, verdict.reason, verdict.message))
        return list(events.values())

    @property
    def _due(self) -> float | None:
        return None if self._look_again_at == float("inf") else self._look_again_at
