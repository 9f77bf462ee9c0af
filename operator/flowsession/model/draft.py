"""A plan in the making, for any kind: the stages of a decision write into the draft, which becomes one plan with one status patch."""

from collections.abc import Mapping
from enum import StrEnum
from functools import cached_property
from typing import Any, ClassVar, Protocol

from flowsession.api.base import Condition
from flowsession.model import conditions
from flowsession.model.conditions import Verdict
from flowsession.model.plan import AgentCall, Create, Delete, Event, PatchStatus, Plan, ReadEvents, RunCall
from flowsession.model.views import PodView


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return the merge patch from `old` to `new`; empty if they are equal."""
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


class Subject(Protocol):
    """What the snapshot of every kind knows about its object."""

    @property
    def namespace(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def resource_version(self) -> str: ...
    @property
    def generation(self) -> int: ...
    @property
    def status(self) -> Mapping[str, Any]: ...


class SubjectWithPod(Subject, Protocol):
    """The same for an object that has a pod, one incarnation after another."""

    @property
    def uid(self) -> str: ...
    @property
    def pods(self) -> tuple[PodView, ...]: ...


class Draft:
    """Collects what a decision finds. Only this class and its subclasses know how a status becomes a patch."""

    KIND: ClassVar[str]
    PROBLEMS: ClassVar[tuple[str, ...]] = ()
    """Conditions whose problems become Events, the specific ones first: Ready repeats their messages."""
    NO_PROBLEM: ClassVar[frozenset[str]] = frozenset()
    """Reasons of these conditions that are not problems."""

    def __init__(self, subject: Subject, now: float, requests: Mapping[str, str]) -> None:
        self.now = now
        self.requests = requests
        """The request annotations, by what they ask for."""
        self.before = subject.status
        """The status as it was."""
        self.status: dict[str, Any] = dict(subject.status)
        self.old = conditions.read(subject.status)
        self.call: AgentCall | None = None
        self.run_call: RunCall | None = None
        self.read_events: ReadEvents | None = None
        self.wants_accounts = False
        """Whether the decision depends on the namespace's ServiceAccounts, which are not known."""
        self.valid_until: float | None = None
        """Time after which the status must not be written, in seconds since 1970, if it acts on an agent's answer; None: no limit."""
        self._subject = subject
        self._verdicts: dict[str, Verdict] = {}
        self._creates: list[Create] = []
        self._deletes: list[Delete] = []
        self._events: list[Event] = []
        self._look_again_at = float("inf")
        self._waiting: tuple[frozenset[str], float] = (frozenset(), 0.0)

    def set_condition(self, condition: str, status: bool | None, reason: str, message: str) -> None:
        """Set a condition; the last call for a condition wins."""
        self._verdicts[condition] = Verdict(status, reason, message)

    def put(self, field: str, value: Any) -> None:
        """Set a field of the status; None removes it."""
        if value is None:
            self.status.pop(field, None)
        else:
            self.status[field] = value

    def create(self, wanted: Mapping[str, Any] | Create) -> None:
        """Create an object."""
        self._creates.append(wanted if isinstance(wanted, Create) else Create(wanted))

    def delete(self, deletion: Delete) -> None:
        """Delete an object."""
        self._deletes.append(deletion)

    def event(self, *, warning: bool, reason: str, message: str) -> None:
        """Write an Event in addition to those that follow from conditions."""
        self._events.append(Event(warning, reason, message))

    def look_again(self, at: float) -> None:
        """Decide again at this time, in seconds since 1970, if nothing happens before."""
        self._look_again_at = min(self._look_again_at, at)

    def may_wait(self, *fields: str, until: float) -> None:
        """Delay the write to `until` if only these fields change: more changes are about to follow, or the fields change constantly."""
        self._waiting = (frozenset(fields), until)

    def was(self, condition: str) -> Condition | None:
        """Return the condition as the status has it."""
        return self.old.get(condition)

    def reason_before(self, condition: str) -> str:
        """Return the condition's reason as the status has it; empty if the condition is missing."""
        before = self.was(condition)
        return before.reason if before else ""

    def message(self, condition: str) -> str:
        """Return the message that this decision gave the condition so far."""
        verdict = self._verdicts.get(condition)
        return verdict.message if verdict else ""

    def reason(self, condition: str) -> str:
        """Return the condition's reason: this decision's, else the status's; empty if the condition is missing."""
        verdict = self._verdicts.get(condition)
        return verdict.reason if verdict else self.reason_before(condition)

    def plan(self) -> Plan:
        """Return the plan that follows from the draft."""
        return self._plan(self._patch(), (*self._problems(), *self._events))

    def _plan(self, patch: Mapping[str, Any], events: tuple[Event, ...]) -> Plan:
        subject, (fields, until) = self._subject, self._waiting
        if patch and set(patch) <= fields and self.now < until:
            self.look_again(until)
            patch = {}
        write = PatchStatus(self.KIND, subject.namespace, subject.name, subject.resource_version, patch, self.valid_until)
        return Plan(
            creates=tuple(self._creates),
            deletes=tuple(self._deletes),
            status=write if patch else None,
            call=self.call,
            run_call=self.run_call,
            events=events,
            read_events=self.read_events,
            wants_accounts=self.wants_accounts,
            look_again_at=None if self._look_again_at == float("inf") else self._look_again_at,
        )

    def _patch(self) -> dict[str, Any]:
        """Return the merge patch from the present status to the drafted one."""
        if self._verdicts:
            generation = self._subject.generation
            self.status["observedGeneration"] = generation
            self.status["conditions"] = conditions.updated(self.old, self._verdicts, generation=generation, now=self.now)
        return difference(self.before, self.status)

    def _problems(self) -> list[Event]:
        """Return a Warning for each condition of PROBLEMS that has a new problem, each message once."""
        events: dict[str, Event] = {}
        for condition in self.PROBLEMS:
            verdict, before = self._verdicts.get(condition), self.was(condition)
            if verdict is None or verdict.status is not False or verdict.reason in self.NO_PROBLEM:
                continue
            if before is None or before.status != "False" or before.reason != verdict.reason:
                events.setdefault(verdict.message, Event(True, verdict.reason, verdict.message))
        return list(events.values())


class PodDraft(Draft):
    """The draft of a session or an instance: an object that has one pod at a time."""

    def __init__(self, subject: SubjectWithPod, now: float, requests: Mapping[str, str]) -> None:
        super().__init__(subject, now, requests)
        self._owner = subject

    @property
    def incarnation(self) -> int:
        """Number of the present incarnation, from 1."""
        return int(self.before.get("incarnation") or 1)

    def pod_name(self) -> str:
        """Return the name of the present incarnation's pod."""
        raise NotImplementedError

    @cached_property
    def pod(self) -> PodView | None:
        """The present incarnation's pod; None if it is missing or being deleted."""
        name = self.pod_name()
        return next((pod for pod in self._owner.pods if pod.name == name and pod.deleting_since is None), None)

    def not_ready(self, phase: StrEnum, reason: str, message: str) -> None:
        """Set the phase and Ready=False."""
        self.status["phase"] = phase.value
        self.set_condition("Ready", False, reason, message)
