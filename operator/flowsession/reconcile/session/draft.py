"""A session's plan in the making."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from flowsession.api.session import Phase
from flowsession.manifests import session_pod
from flowsession.model import stalled
from flowsession.model.agent_views import AHEAD_SECONDS, AgentView
from flowsession.model.call_limits import callable_at
from flowsession.model.draft import PodDraft
from flowsession.model.plan import AgentCall, AnnotatePod, Create, Event, FetchEdits, Plan
from flowsession.model.resolved import Resolved
from flowsession.model.views import PodView
from flowsession.reconcile import identity
from flowsession.reconcile.session.snapshot import SessionSnapshot

FIRST_SECONDS = 0.5
"""Maximum seconds until a session's first status: an empty STATUS looks like a dead operator. A longer start takes one more write."""

PROGRESS_SECONDS = 2.0
"""Seconds for which mere progress is not written. A session that is Ready by then takes two writes, one that installs longer three."""

BACKLOG_STEP = 20
"""With a backlog of twice this many, the delay of mere progress doubles, with three times as many it triples, and so on up to
MOST_PROGRESS_SECONDS: such writes would delay sessions that are about to be Ready."""
MOST_PROGRESS_SECONDS = 20.0

UNREACHABLE = frozenset({"AgentUnreachable", "KeyLost"})
"""Reasons of Ready=Unknown: the session may be in use, but its agent can't be asked."""


@dataclass(frozen=True)
class Live:
    """What the stages get once the session has a pod."""

    pod: PodView
    environment: Resolved
    agent: AgentView | None
    """None: nothing is known about the agent in the pod's container yet."""


class Draft(PodDraft):
    """The draft of a session."""

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
        """Return when the pod was created, in seconds since 1970, as precisely as known."""
        return self.snapshot.pod_timestamps.get("Created", pod.created_at)

    def agent_of(self, pod: PodView) -> AgentView | None:
        """Return what is known about the agent in the pod's present container; a restarted container has another agent."""
        agent = self.snapshot.agent
        return agent if agent and pod.container and agent.restarts == pod.container.restarts else None

    def fresh_agent_of(self, pod: PodView) -> AgentView | None:
        """Return the same for callers that compare its times with now. Times in the future (a clock was set back) count as unknown."""
        agent, latest = self.agent_of(pod), self.now + AHEAD_SECONDS
        if agent is None or max(agent.asked_at, agent.state_at, agent.edits_at) <= latest:
            return agent
        return replace(
            agent,
            asked_at=agent.asked_at if agent.asked_at <= latest else 0.0,
            state=agent.state if agent.state_at <= latest else None,
            edits_at=agent.edits_at if agent.edits_at <= latest else 0.0,
            edits_asked_at=agent.edits_asked_at if agent.edits_at <= latest else 0.0,
        )

    def ask(self, agent: AgentView | None, call: AgentCall, *, not_before: float = 0.0, interrupts: bool = False) -> bool:
        """Plan a call of the agent, and return whether it is made now.

        While another call is planned or in flight, none is planned: that call's answer causes the next decision. `not_before` is the
        earliest time, in seconds since 1970. A call that `interrupts` does not wait for a long poll.
        """
        if self.call is not None or (agent and agent.calling and not (interrupts and agent.following)):
            return False
        due = max(callable_at(agent), not_before)
        if self.now < due:
            self.look_again(due)
            return False
        self.call = call
        return True

    def create(self, wanted: Mapping[str, Any] | Create, *, before_the_end: bool = False) -> None:
        """Create an object. `before_the_end`: even if this decision deletes the session."""
        super().create(wanted)
        if before_the_end:
            self._built_on.append(self._creates[-1])

    def look_for_edits(self, incarnation: int) -> None:
        """Read the edits that earlier sessions of this user and environment saved, for this incarnation."""
        snapshot = self.snapshot
        environment = snapshot.spec.environment_ref.name
        self._fetch_edits = FetchEdits(snapshot.namespace, environment, snapshot.environment_uid, snapshot.spec.user, incarnation)

    def only_progress(self, since: float) -> None:
        """Delay the write until PROGRESS_SECONDS after `since` (FIRST_SECONDS if the status is empty), or longer with a backlog: this
        decision found only expected progress."""
        seconds = PROGRESS_SECONDS if self.snapshot.status.get("phase") else FIRST_SECONDS
        self._progress_only_until = since + max(seconds, min(MOST_PROGRESS_SECONDS, seconds * self.snapshot.backlog / BACKLOG_STEP))

    def hold(self, until: float) -> None:
        """Delay all status writes until that moment: they should include what is about to become known."""
        self._held_until = until

    @property
    def deletes_the_pod(self) -> bool:
        """Return whether this decision deletes the session or one of its pods."""
        return any(deletion.kind in ("Pod", "ComputeSession") for deletion in self._deletes)

    def unreachable(self, reason: str, message: str) -> None:
        """Set Ready=Unknown: the session was ready, but its agent can no longer be asked."""
        if not self.was_unreachable or self.reason_before("Ready") != reason:
            self.event(warning=True, reason=reason, message=message)
        self.status["phase"] = Phase.FAILED.value
        self.set_condition("Ready", None, reason, message)

    def _sum_up(self) -> None:
        """Write what follows from the condition Ready: the reason for the column, and the condition Stalled."""
        reason = self.reason("Ready")
        if "phase" in self.status:
            self.put("reason", reason if reason and self.status["phase"] != Phase.RUNNING.value else None)
        starting = self.status.get("phase") == Phase.STARTING.value
        found = stalled.of_session(self._verdicts.get("Ready"), self.reason("EnvironmentResolved"), self.old, starting=starting)
        if found is not None:
            self.set_condition(stalled.CONDITION, found.status, found.reason, found.message)

    @property
    def was_unreachable(self) -> bool:
        """Return whether the status shows that the session was ready but its agent can no longer be asked."""
        ready = self.was("Ready")
        return ready is not None and ready.status == "Unknown" and ready.reason in UNREACHABLE

    @property
    def was_ready(self) -> bool:
        """Return whether the status shows that the session is ready, or was when its agent could last be asked."""
        ready = self.was("Ready")
        return self.was_unreachable or (ready is not None and ready.status == "True")

    def plan(self) -> Plan:
        """Return the plan that follows from all findings."""
        self._sum_up()
        return super().plan()

    def _plan(self, patch: Mapping[str, Any], events: tuple[Event, ...]) -> Plan:
        if any(deletion.kind == "ComputeSession" for deletion in self._deletes):
            patch = {}  # the write would make the resourceVersion of the delete stale
            self._creates = self._built_on  # anything else would use up the time for which the agent's answer is valid
        if self.now < self._held_until and not self._deletes:
            self.look_again(self._held_until)
            patch, events = {}, ()
        if patch and not events and "handledRequests" not in patch and self.now < self._progress_only_until:
            self.look_again(self._progress_only_until)
            patch = {}
        plan = super()._plan(patch, events)
        return replace(plan, fetch_edits=self._fetch_edits, annotate=None if self._deletes else self.annotate)
