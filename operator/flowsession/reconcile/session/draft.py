"""A session's plan in the making: the stages of a decision write into it, and it becomes one status patch at the end."""

from typing import Any

from flowsession.api.session import Phase
from flowsession.model import stalled
from flowsession.model.draft import Notes
from flowsession.model.plan import AgentCall, AnnotatePod, Create, FetchEdits, PatchStatus, Plan
from flowsession.reconcile import identity
from flowsession.reconcile.session.snapshot import SessionSnapshot

FIRST_SECONDS = 0.5
"""How long the first word about a session may wait: an empty STATUS reads as a dead operator. It costs a longer start one write."""

PROGRESS_SECONDS = 2.0
"""How long mere progress may wait before it is written: what is Ready within it costs two writes in all, what installs longer three."""

TOLD = ("EnvironmentResolved", "ComputeAllocated", "PackagesInstalled", "Ready", "EditsInPlace")
"""Conditions whose problems become Events, the specific ones first: Ready repeats their words."""

UNREACHABLE = frozenset({"AgentUnreachable", "KeyLost"})
"""Reasons of Ready=Unknown: the session may be in use, and nobody can tell."""

NO_PROBLEM = frozenset(
    {"Resolving", "Starting", "Installing", "Waiting", "Suspended", "ScalingUp", "InstanceStopped", "InstanceStarting", identity.PENDING}
)
"""Reasons of these conditions that are no problem of anybody's."""


class Draft(Notes):
    """Notes about a session, its agent and its pod."""

    def __init__(self, snapshot: SessionSnapshot, now: float) -> None:
        super().__init__(snapshot.status, snapshot.generation, now, snapshot.requests)
        self.snapshot = snapshot
        self.call: AgentCall | None = None
        self._fetch_edits: FetchEdits | None = None
        self.marks: AnnotatePod | None = None
        self._built_on: list[Create] = []
        self._progress_only_until = 0.0
        self._held_until = 0.0
        self._waiting = ("", 0.0)

    def not_ready(self, phase: Phase, reason: str, message: str) -> None:
        """The session can't be used, for this reason."""
        self.status["phase"] = phase.value
        self.judge("Ready", False, reason, message)

    def create(self, wanted: dict[str, Any] | Create, *, before_the_end: bool = False) -> None:
        """Asks for an object; one that the session's own end builds on is created even then."""
        create = wanted if isinstance(wanted, Create) else Create(wanted)
        self._creates.append(create)
        if before_the_end:
            self._built_on.append(create)

    def look_for_edits(self, incarnation: int) -> None:
        """Asks for what earlier sessions of this user and environment have saved, for this start."""
        snapshot = self.snapshot
        environment = snapshot.spec.environment_ref.name
        self._fetch_edits = FetchEdits(snapshot.namespace, environment, snapshot.environment_uid, snapshot.spec.user, incarnation)

    def only_progress(self, since: float) -> None:
        """What this decision found is progress as expected: it needs no write before PROGRESS_SECONDS have passed since then, or
        FIRST_SECONDS where the status says nothing yet."""
        self._progress_only_until = since + (PROGRESS_SECONDS if self.snapshot.status.get("phase") else FIRST_SECONDS)

    def hold(self, until: float) -> None:
        """What this decision found is written together with what is about to come, or at that moment."""
        self._held_until = until

    def may_wait(self, field: str, until: float) -> None:
        """A change of this field of the status alone needs no write before that moment: more is about to come."""
        self._waiting = (field, until)

    @property
    def takes_the_pod(self) -> bool:
        """Whether this decision ends the session or a pod of it."""
        return any(deletion.kind in ("Pod", "ComputeSession") for deletion in self._deletes)

    def unreachable(self, reason: str, message: str) -> None:
        """The session served when it was asked last, but its agent can't be asked any more, for this reason."""
        if not self.was_unreachable or self.reason_before("Ready") != reason:
            self.tell(warning=True, reason=reason, message=message)
        self.status["phase"] = Phase.FAILED.value
        self.judge("Ready", None, reason, message)

    def _sum_up(self) -> None:
        """What follows from the condition Ready alone: the reason for the column, and whether the session stalls."""
        reason = self.reason("Ready")
        if "phase" in self.status:
            self.put("reason", reason if reason and self.status["phase"] != Phase.RUNNING.value else None)
        starting = self.status.get("phase") == Phase.STARTING.value
        found = stalled.of_session(self._verdicts.get("Ready"), self.reason("EnvironmentResolved"), self.old, starting=starting)
        if found is not None:
            self.judge(stalled.CONDITION, found.status, found.reason, found.message)

    @property
    def was_unreachable(self) -> bool:
        """Whether the status says that it served and can't be asked any more."""
        ready = self.was("Ready")
        return ready is not None and ready.status == "Unknown" and ready.reason in UNREACHABLE

    @property
    def was_ready(self) -> bool:
        """Whether the status says Ready, or that it was and can't be asked any more."""
        ready = self.was("Ready")
        return self.was_unreachable or (ready is not None and ready.status == "True")

    def plan(self) -> Plan:
        """What follows from all that was found."""
        self._sum_up()
        patch = self._patch()
        events = [*self._problems(TOLD, NO_PROBLEM), *self._events]
        if any(deletion.kind == "ComputeSession" for deletion in self._deletes):
            patch = {}  # it would make the delete's own resourceVersion stale
            self._creates = self._built_on  # all else would cost the time in which the agent's word is good
        if self.now < self._held_until and not self._deletes:
            self.look_again(self._held_until)
            patch, events = {}, []
        if patch and not events and "handledRequests" not in patch and self.now < self._progress_only_until:
            self.look_again(self._progress_only_until)
            patch = {}
        if set(patch) == {self._waiting[0]} and self.now < self._waiting[1]:
            self.look_again(self._waiting[1])
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
            wants_accounts=self.wants_accounts,
            look_again_at=self._due,
        )
