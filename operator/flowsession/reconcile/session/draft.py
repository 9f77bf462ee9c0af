"""A session's plan in the making: the stages of a decision write into it, and it becomes one status patch at the end."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from flowsession.api.session import Phase
from flowsession.manifests import session_pod
from flowsession.model import stalled
from flowsession.model.agent_views import AHEAD_SECONDS, AgentView
from flowsession.model.draft import PodDraft
from flowsession.model.patience import askable_at
from flowsession.model.plan import AgentCall, AnnotatePod, Create, Event, FetchEdits, Plan
from flowsession.model.resolved import Resolved
from flowsession.model.views import PodView
from flowsession.reconcile import identity
from flowsession.reconcile.session.snapshot import SessionSnapshot

FIRST_SECONDS = 0.5
"""How long the first word about a session may wait: an empty STATUS reads as a dead operator. It costs a longer start one write."""

PROGRESS_SECONDS = 2.0
"""How long mere progress may wait before it is written: what is Ready within it costs two writes in all, what installs longer three."""

QUEUED_STEP = 20
"""Every so many objects that wait for a decision make mere progress wait as long again: what people wait for is Ready, and writes that
nobody waits for would hold that up."""
MOST_PROGRESS_SECONDS = 20.0

UNREACHABLE = frozenset({"AgentUnreachable", "KeyLost"})
"""Reasons of Ready=Unknown: the session may be in use, and nobody can tell."""


@dataclass(frozen=True)
class Live:
    """What the stages know once a pod runs: proved by the one that follows the pod."""

    pod: PodView
    environment: Resolved
    agent: AgentView | None
    """None: nothing is known yet of the agent in its container."""


class Draft(PodDraft):
    """The draft of a session: about its agent and its pod too."""

    KIND = "ComputeSession"
    PROBLEMS = ("EnvironmentResolved", "ComputeAllocated", "PackagesInstalled", "Ready", "EditsInPlace")
    NO_PROBLEM = frozenset(
        {"Resolving", "Starting", "Installing", "Waiting", "Suspended", "ScalingUp", "InstanceStopped", "InstanceStarting"}
        | {identity.PENDING}
    )

    def __init__(self, snapshot: SessionSnapshot, now: float) -> None:
        super().__init__(snapshot, now, snapshot.requests)
        self.snapshot = snapshot
        self.annotate: AnnotatePod | None = None
        self._fetch_edits: FetchEdits | None = None
        self._built_on: list[Create] = []
        self._progress_only_until = 0.0
        self._held_until = 0.0

    def pod_name(self) -> str:
        """Return the name of the present incarnation's pod."""
        return session_pod.name_of(self.snapshot.name, self.snapshot.uid, self.incarnation)

    def began(self, pod: PodView) -> float:
        """When the pod was created, as finely as it is known."""
        return self.snapshot.pod_timestamps.get("Created", pod.created_at)

    def agent_of(self, pod: PodView) -> AgentView | None:
        """What is known of the agent in this very container: a restarted one is another agent."""
        agent = self.snapshot.agent
        return agent if agent and pod.container and agent.restarts == pod.container.restarts else None

    def lately_of(self, pod: PodView) -> AgentView | None:
        """The same for those who go by how old its words are: what it said in the future, by a clock that was set back, is not known."""
        agent, latest = self.agent_of(pod), self.now + AHEAD_SECONDS
        if agent is None or max(agent.asked_at, agent.state_at, agent.edits_at) <= latest:
            return agent
        return replace(
            agent,
            asked_at=agent.asked_at if agent.asked_at <= latest else 0.0,
            state=agent.state if agent.state_at <= latest else None,
            edits_at=agent.edits_at if agent.edits_at <= latest else 0.0,
        )

    def ask(self, agent: AgentView | None, call: AgentCall, *, not_before: float = 0.0, interrupts: bool = False) -> bool:
        """Has the agent called unless a call is under way or planned, whose answer brings this session up again; whether it is called now.

        It is so at `not_before`, in seconds since 1970, at the earliest. A call that `interrupts` does not wait for a long poll's answer.
        """
        if self.call is not None or (agent and agent.calling and not (interrupts and agent.following)):
            return False
        due = max(askable_at(agent), not_before)
        if self.now < due:
            self.look_again(due)
            return False
        self.call = call
        return True

    def create(self, wanted: Mapping[str, Any] | Create, *, before_the_end: bool = False) -> None:
        """Create an object; one that the session's own end builds on is created even then."""
        super().create(wanted)
        if before_the_end:
            self._built_on.append(self._creates[-1])

    def look_for_edits(self, incarnation: int) -> None:
        """Asks for what earlier sessions of this user and environment have saved, for this start."""
        snapshot = self.snapshot
        environment = snapshot.spec.environment_ref.name
        self._fetch_edits = FetchEdits(snapshot.namespace, environment, snapshot.environment_uid, snapshot.spec.user, incarnation)

    def only_progress(self, since: float) -> None:
        """What this decision found is progress as expected: it needs no write before PROGRESS_SECONDS have passed since then, or
        FIRST_SECONDS where the status says nothing yet."""
        seconds = PROGRESS_SECONDS if self.snapshot.status.get("phase") else FIRST_SECONDS
        self._progress_only_until = since + max(seconds, min(MOST_PROGRESS_SECONDS, seconds * self.snapshot.queued / QUEUED_STEP))

    def hold(self, until: float) -> None:
        """What this decision found is written together with what is about to come, or at that moment."""
        self._held_until = until

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
        """Return what follows from all that was found."""
        self._sum_up()
        return super().plan()

    def _plan(self, patch: Mapping[str, Any], events: tuple[Event, ...]) -> Plan:
        if any(deletion.kind == "ComputeSession" for deletion in self._deletes):
            patch = {}  # it would make the delete's own resourceVersion stale
            self._creates = self._built_on  # all else would cost the time in which the agent's answer is good
        if self.now < self._held_until and not self._deletes:
            self.look_again(self._held_until)
            patch, events = {}, ()
        if patch and not events and "handledRequests" not in patch and self.now < self._progress_only_until:
            self.look_again(self._progress_only_until)
            patch = {}
        plan = super()._plan(patch, events)
        return replace(plan, fetch_edits=self._fetch_edits, annotate=None if self._deletes else self.annotate)
