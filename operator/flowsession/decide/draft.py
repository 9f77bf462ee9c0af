"""A plan in the making: the stages of a decision write into it, and it becomes one status patch at the end."""

from typing import Any

from flowsession.api.base import Condition
from flowsession.api.session import Phase
from flowsession.decide import conditions, merge, times
from flowsession.decide.conditions import Verdict
from flowsession.decide.plan import AgentCall, AnnotatePod, Create, Delete, Event, FetchEdits, PatchStatus, Plan, ReadEvents
from flowsession.decide.views import SessionSnapshot

PROGRESS_SECONDS = 2.0
"""How long mere progress may wait before it is written: what is Ready within it costs two writes in all, what installs longer three."""

_TOLD = ("EnvironmentResolved", "ComputeAllocated", "PackagesInstalled", "Ready")
"""Conditions whose problems become Events, the specific ones first: Ready repeats their words."""

_NO_PROBLEM = frozenset({"Starting", "Installing", "Waiting", "Suspended", "ScalingUp"})


class Draft:
    """Collects what the stages find. Only this class knows how a status becomes a patch."""

    def __init__(self, snapshot: SessionSnapshot, now: float) -> None:
        self.snapshot = snapshot
        self.now = now
        self.status: dict[str, Any] = dict(snapshot.status)
        self.old = conditions.read(snapshot.status)
        self.call: AgentCall | None = None
        self._fetch_edits: FetchEdits | None = None
        self.marks: AnnotatePod | None = None
        self.read_events: ReadEvents | None = None
        self._verdicts: dict[str, Verdict] = {}
        self._creates: list[Create] = []
        self._built_on: list[Create] = []
        self._deletes: list[Delete] = []
        self._events: list[Event] = []
        self.valid_until: float | None = None
        """Until when the status may be written, in seconds since 1970, where it acts on an agent's word; None: for ever."""
        self._look_again_at = float("inf")
        self._progress_only_until = 0.0

    def judge(self, condition: str, status: bool | None, reason: str, message: str) -> None:
        """Sets a condition; a later word on the same one wins."""
        self._verdicts[condition] = Verdict(status, reason, message)

    def not_ready(self, phase: Phase, reason: str, message: str) -> None:
        """The session can't be used, for this reason."""
        self.status["phase"] = phase.value
        self.judge("Ready", False, reason, message)

    def put(self, field: str, value: Any) -> None:
        """Sets a field of the status; None removes it."""
        if value is None:
            self.status.pop(field, None)
        else:
            self.status[field] = value

    def create(self, manifest: dict[str, Any], *, before_the_end: bool = False) -> None:
        """Asks for an object; one that the session's own end builds on is created even then."""
        self._creates.append(Create(manifest))
        if before_the_end:
            self._built_on.append(Create(manifest))

    def delete(self, deletion: Delete) -> None:
        """Asks for an object's end."""
        self._deletes.append(deletion)

    def look_for_edits(self, incarnation: int) -> None:
        """Asks for what earlier sessions of this user and environment have saved, for this start."""
        snapshot = self.snapshot
        environment = snapshot.spec.environment_ref.name
        self._fetch_edits = FetchEdits(snapshot.namespace, environment, snapshot.environment_uid, snapshot.spec.user, incarnation)

    def tell(self, *, warning: bool, reason: str, message: str) -> None:
        """An Event besides those that follow from conditions."""
        self._events.append(Event(warning, reason, message))

    def look_again(self, at: float) -> None:
        """The key comes up again at this moment, if nothing happens before."""
        self._look_again_at = min(self._look_again_at, at)

    def only_progress(self, since: float) -> None:
        """What this decision found is progress as expected: it needs no write before PROGRESS_SECONDS have passed since then."""
        self._progress_only_until = since + PROGRESS_SECONDS

    def handled(self, request: str) -> str | None:
        """The value of a request annotation that was handled last."""
        value: str | None = self.status.get("handledRequests", {}).get(request)
        return value

    def was(self, condition: str) -> Condition | None:
        """The condition as the status has it."""
        return self.old.get(condition)

    def said(self, condition: str) -> str:
        """The message that this draft gave the condition so far."""
        verdict = self._verdicts.get(condition)
        return verdict.message if verdict else ""

    def reason(self, condition: str) -> str:
        """The condition's reason, as this draft gave it or as the status has it; empty if there is none."""
        known = self._verdicts.get(condition) or self.was(condition)
        return known.reason if known else ""

    @property
    def was_ready(self) -> bool:
        """Whether the status says Ready."""
        ready = self.was("Ready")
        return ready is not None and ready.status == "True"

    def plan(self) -> Plan:
        """What follows from all that was found."""
        generation = self.snapshot.generation
        if self._verdicts:
            self.status["observedGeneration"] = generation
            self.status["conditions"] = conditions.judged(self.old, self._verdicts, generation=generation, now=self.now)
        patch = merge.difference(self.snapshot.status, self.status)
        events = [*self._problems(), *self._events]
        if any(deletion.kind == "ComputeSession" for deletion in self._deletes):
            patch = {}  # it would make the delete's own resourceVersion stale
            self._creates = self._built_on  # all else would cost the time in which the agent's word is good
        if patch and not events and "handledRequests" not in patch and self.now < self._progress_only_until:
            self.look_again(self._progress_only_until)
            patch = {}
        write = PatchStatus(
            "ComputeSession", self.snapshot.namespace, self.snapshot.name, self.snapshot.resource_version, patch, self.valid_until
        )
        return Plan(
            creates=tuple(self._creates),
            deletes=tuple(self._deletes),
            status=write if patch else None,
            call=self.call,
            fetch_edits=self._fetch_edits,
            events=tuple(events),
            marks=None if self._deletes else self.marks,
            read_events=self.read_events,
            look_again_at=None if self._look_again_at == float("inf") else self._look_again_at,
        )

    def _problems(self) -> list[Event]:
        """A Warning for every condition that turned to a new problem, each sentence once."""
        events: dict[str, Event] = {}
        for condition in _TOLD:
            verdict, before = self._verdicts.get(condition), self.was(condition)
            if verdict is None or verdict.status is not False or verdict.reason in _NO_PROBLEM:
                continue
            if before is None or before.status != "False" or before.reason != verdict.reason:
                events.setdefault(verdict.message, Event(True, verdict.reason, verdict.message))
        return list(events.values())


def moment(text: str | None, default: float) -> float:
    """A status timestamp in seconds, or the default where there is none."""
    parsed = times.parse(text)
    return default if parsed is None else parsed
