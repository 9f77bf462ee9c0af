"""Sessions that are gone while their pods still exist: what is needed to save the edits made there."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from flowsession.engine.store.keys import Key
from flowsession.engine.store.objects import PodEntry, SessionEntry
from flowsession.model.agent_views import AgentView
from flowsession.model.views import PodView

WAITED_SECONDS = 60.0
"""Maximum seconds for which a new session waits for its predecessor's edits."""


@dataclass(frozen=True)
class Departed:
    """The last known state of a session."""

    session: SessionEntry
    environment_uid: str
    at: float
    edits: Mapping[str, Any]
    """The `edits` of its status, or what they would be by now."""


@dataclass
class DepartedSessions:
    """By their pods' uids. Only sessions that this operator knew itself, or whose pods have an operator's seal: whoever creates a pod can
    write anything else on it about its user."""

    _of_pod: dict[str, Departed] = field(default_factory=dict)
    _pods: dict[tuple[str, str, str], set[str]] = field(default_factory=dict)
    """By namespace, environment and user."""

    def __len__(self) -> int:
        return len(self._of_pod)

    def note(self, session: SessionEntry, environment_uid: str, pods: Iterable[PodEntry], now: float) -> set[Key]:
        """Record a deleted session; return the keys of its pods that may hold edits."""
        found = set()
        for pod in pods:
            if pod.owner_uid == session.meta.uid and pod.view.container is not None:
                self._of_pod[pod.view.uid] = Departed(session, environment_uid, now, dict(session.status.get("edits") or {}))
                self._pods.setdefault(_whose(session), set()).add(pod.view.uid)
                found.add(Key("Pod", pod.view.namespace, pod.view.name))
        return found

    def of(self, pod_uid: str) -> Departed | None:
        """Return the deleted session of a pod, or None."""
        return self._of_pod.get(pod_uid)

    def concerned(self, pod: PodView) -> set[Key]:
        """Return the key of a pod whose session is deleted."""
        return {Key("Pod", pod.namespace, pod.name)} if pod.uid in self._of_pod else set()

    def remember(self, pod_uid: str, edits: Mapping[str, Any]) -> None:
        """Record the `edits` that the status of a pod's session would have after a save."""
        if known := self._of_pod.get(pod_uid):
            self._of_pod[pod_uid] = replace(known, edits=edits)

    def forget(self, pod_uid: str) -> None:
        """Drop a pod that is gone too."""
        if known := self._of_pod.pop(pod_uid, None):
            whose = _whose(known.session)
            self._pods[whose].discard(pod_uid)
            if not self._pods[whose]:
                del self._pods[whose]

    def precede(self, session: SessionEntry, agents: Mapping[str, AgentView], now: float) -> bool:
        """Return whether edits of this session's user and environment may still be saved from a pod that is ending."""
        return any(self._may_save(uid, agents.get(uid), now) for uid in self._pods.get(_whose(session), ()))

    def _may_save(self, uid: str, agent: AgentView | None, now: float) -> bool:
        left = self._of_pod[uid].at
        asked = agent is not None and agent.state is not None and agent.asked_at > left
        settled = agent is not None and agent.state is not None and agent.settled != "" and agent.settled == agent.state.edits.revision
        return not (asked and settled) and now - left < WAITED_SECONDS


def _whose(session: SessionEntry) -> tuple[str, str, str]:
    return *session.environment, session.spec.user
