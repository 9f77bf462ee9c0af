"""What decisions see of a ComputeInstance and the sessions on it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flowsession.api.instance import ComputeInstanceSpec, InstanceIdleAction
from flowsession.model import times
from flowsession.model.agent_views import AHEAD_SECONDS, FRESH_SECONDS, AgentView
from flowsession.model.sizes import Offer, QuotaView
from flowsession.model.views import Account, PodView, Refusal, ScalingView
from flowsession.settings import Settings


@dataclass(frozen=True)
class HostedSession:
    """A session on an instance."""

    name: str
    pod: PodView | None
    """Its pod on the instance, even if it is being deleted."""
    agent: AgentView | None
    began: float
    """When it was created or last started, which counts as work."""
    worked: float
    """When work was last seen in it, in seconds since 1970; 0: never."""
    starts_until: float = 0.0
    """When the start in progress times out; it counts as work until then. 0: no start is in progress."""
    waits: bool = False
    """Whether it should have a pod but has none."""

    def is_idle_since(self, since: float, now: float) -> bool:
        """Return whether its agent was idle at a probe since then, or its pod does not run."""
        if self.pod is None or not self.pod.running:
            return True
        agent = self.agent
        if agent is None or agent.state is None or agent.failures or agent.state.busy:
            return False
        return since <= agent.state_at <= now + AHEAD_SECONDS

    def is_retired(self, now: float) -> bool:
        """Return whether its agent refuses new work, according to a fresh answer, or its pod does not run."""
        if self.pod is None or not self.pod.running:
            return True
        agent = self.agent
        if agent is None or agent.state is None or not agent.state.retired:
            return False
        return now - FRESH_SECONDS <= agent.state_at <= now + AHEAD_SECONDS


@dataclass(frozen=True)
class InstanceSnapshot:
    """All that a decision about a ComputeInstance depends on."""

    namespace: str
    name: str
    uid: str
    resource_version: str
    generation: int
    deleting: bool
    spec: ComputeInstanceSpec
    status: Mapping[str, Any]
    resume: str
    """Value of the annotation that requests a start."""
    pods: tuple[PodView, ...]
    """The anchors, newest last."""
    hosted: tuple[HostedSession, ...] = ()
    session_pods: int = 0
    """Number of sessions' pods on the instance, including pods of sessions whose specs no longer name it."""
    offers: tuple[Offer, ...] = ()
    quotas: tuple[QuotaView, ...] = ()
    refusal: Refusal | None = None
    scaling: ScalingView | None = None
    accounts: tuple[Account, ...] | None = None
    """The namespace's ServiceAccounts; None: not read recently enough."""
    unknown: str = ""
    """Names of its unknown annotations in this API's group."""
    namespace_ending: bool = False
    written_at: float = 0.0
    settings: Settings = field(default_factory=Settings)


def idle_at(spec: ComputeInstanceSpec, status: Mapping[str, Any], hosted: tuple[HostedSession, ...], now: float) -> float | None:
    """Return when the instance will have been idle for its timeout, as far as known, or None if idleness does not stop it."""
    started = times.parse(status.get("readyAt"))
    if spec.idle.action == InstanceIdleAction.NONE or started is None:
        return None
    used = max(started, last_activity(status, hosted, now) or 0.0) + spec.idle.timeout_seconds
    return max([used, *(session.starts_until for session in hosted)])


def last_activity(status: Mapping[str, Any], hosted: tuple[HostedSession, ...], now: float) -> float | None:
    """Return when work was last seen in any session on the instance, in seconds since 1970. A session's start counts as work."""
    seen = [times.parse(status.get("lastActivityAt")) or 0.0]
    seen += [at for session in hosted if session.pod is not None or session.waits for at in (session.began, session.worked)]
    return max([at for at in seen if at <= now + AHEAD_SECONDS], default=0.0) or None
