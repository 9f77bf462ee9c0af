"""The cache of the cluster: fed by watches, by LISTs and by the response to every write, so that own writes are never seen late."""

from collections.abc import Callable, Iterable
from typing import Protocol

from flowsession.engine.store import objects, pod_timestamps
from flowsession.engine.store.config_maps import ConfigMaps
from flowsession.engine.store.departed import DepartedSessions
from flowsession.engine.store.flow_check_index import Checks
from flowsession.engine.store.image_index import Imaging
from flowsession.engine.store.journal import Journal
from flowsession.engine.store.keys import Key, Name, newer
from flowsession.engine.store.objects import EnvironmentEntry, Object, PodEntry, RunEntry, SessionEntry
from flowsession.engine.store.recent import Recent
from flowsession.engine.store.resolvers import Resolvers
from flowsession.engine.store.runs import Runs
from flowsession.engine.store.sizing import Sizing
from flowsession.engine.store.store import Index, Store
from flowsession.model.agent_views import AgentView, Hint, SavedEdits
from flowsession.model.views import Refusal

LATELY_SECONDS = 300.0
"""Seconds for which facts of limited validity are kept: longer than any decision uses them."""


class Kind(Protocol):
    """The known objects of one kind."""

    def observe(self, body: Object, /) -> set[Key]: ...

    def forget(self, name: Name, uid: str = "", /) -> set[Key]: ...

    def names(self) -> list[Name]: ...

    def version(self, name: Name, /) -> str: ...

    def uid(self, name: Name, /) -> str: ...


class Cache:
    """All in memory and not thread-safe. Methods that record a change return the keys that it concerns."""

    def __init__(self, clock: Callable[[], float], sizing: Sizing | None = None) -> None:
        self.clock = clock
        self.pod_gone: Callable[[str], None] = lambda _: None
        """Called with the uid of every pod that is dropped."""
        self.sizing = sizing or Sizing(clock=clock)
        """VM sizes, nodes, quotas and instances."""
        self.runs = Runs()
        """Runs over data."""
        self.resolvers = Resolvers()
        self.imaging = Imaging()
        self.checks = Checks()
        self.departed = DepartedSessions()
        self.journal = Journal()
        self.sizing.instances.changed = lambda known, entry: self.journal.note(known, entry, clock())

        self._by_environment: Index[SessionEntry] = Index(lambda session: [session.environment])
        self._by_user: Index[SessionEntry] = Index(lambda session: [(*session.environment, session.spec.user)])
        self._without_phase: Index[SessionEntry] = Index(lambda session: [] if session.status.get("phase") else [True])
        self._by_session: Index[PodEntry] = Index(lambda pod: [(pod.view.namespace, pod.session)])
        self._by_config_map: Index[EnvironmentEntry] = Index(lambda entry: [(entry.meta.namespace, name) for name in entry.config_maps])
        self.config_maps = ConfigMaps(clock, self._users_of, self._concerned_by_config_map)
        self.environments: Store[EnvironmentEntry] = Store(objects.environment, self._environment_changed, self._by_config_map)
        self.sessions: Store[SessionEntry] = Store(
            objects.session,
            self._session_changed,
            self._by_environment,
            self._by_user,
            self._without_phase,
            self.sizing.instances.sessions,
            self.sizing.wishes,
        )
        self.pods: Store[PodEntry] = Store(
            objects.pod, self._pod_changed, self._by_session, self.sizing.instances.pods, self.resolvers.pods
        )
        self._kinds: dict[str, Kind] = {
            "ComputeSession": self.sessions,
            "FlowEnvironment": self.environments,
            "Pod": self.pods,
            "ConfigMap": self.config_maps,
            "VMSize": self.sizing.sizes,
            "ResourceQuota": self.sizing.quotas,
            "ComputeInstance": self.sizing.instances.entries,
            "FlowRun": self.runs.entries,
        }

        self.agents: dict[str, AgentView] = {}
        self.pod_timestamps: dict[str, dict[str, float]] = {}
        """By the pod's uid, like `agents`: when its steps were seen."""
        self.hints: dict[str, Hint] = {}
        """By the pod's uid: the news that its agent last announced by itself."""
        self.pod_names: dict[str, Name] = {}
        """By the pod's uid."""
        self.refusals: dict[str, Refusal] = {}
        """By the session's uid."""
        self.saved: dict[str, tuple[int, SavedEdits | None]] = {}
        """By the session's uid: an incarnation, and the edits that were found for its start."""
        self.written_at: dict[Name, float] = {}
        """When an environment's status was last written."""
        self.own_config_maps: Recent[int] = Recent(clock)
        """ConfigMaps that were recently created or found, with their number of packages."""
        self.promptflow: Recent[str] = Recent(clock)
        """Prompt flow's version in the image, for those that are lists of packages; empty: none."""
        self.refused_config_maps: Recent[str] = Recent(clock)
        """ConfigMaps that the API server recently refused, with its message."""
        self.gone: Recent[str] = Recent(clock)
        """By namespace and uid: objects that were recently gone, with the resourceVersion at which they were; empty: for good.

        A response, or a page of a LIST, that was under way meanwhile still has the object."""
        self.ending_namespaces: dict[str, float] = {}
        """Namespaces that refuse writes because they are terminating, and when one was last refused."""

    def observe(self, kind: str, body: Object) -> set[Key]:
        """Store an object if it is newer than the known one, and not gone. Raises objects.Unreadable."""
        return self._kinds[kind].observe(body) if kind in self._kinds and not self._is_gone(body["metadata"]) else set()

    def forget(self, kind: str, namespace: str, name: str, uid: str = "", version: str = "") -> set[Key]:
        """Drop an object that is gone; with a uid, only if the known one has it.

        What arrives later about this uid is ignored; with `version`, the resourceVersion at which it was gone, only what is not newer: an
        object can also be gone from a watch for want of a label. A ConfigMap without it is still in use, and read.
        """
        if uid and kind != "ConfigMap":
            self.gone.note((namespace, uid), version)
        return self._kinds[kind].forget((namespace, name), uid) if kind in self._kinds else set()

    def names(self, kind: str) -> Iterable[Name]:
        """Return the names of all cached objects of a kind."""
        return self._kinds[kind].names()

    def version(self, key: Key) -> str:
        """Return the known resourceVersion of an object, or "0" if it is unknown."""
        return self._kinds[key.kind].version((key.namespace, key.name))

    def uid(self, key: Key) -> str:
        """Return the uid of an object, or an empty string if it is unknown."""
        return self._kinds[key.kind].uid((key.namespace, key.name))

    def count_of(self, environment: Name) -> int:
        """Return how many sessions an environment has."""
        return len(self._by_environment.of(environment))

    def without_phase(self) -> int:
        """Return how many sessions still have no phase: in a burst, those that are about to start."""
        return len(self._without_phase.of(True))

    def rivals(self, session: SessionEntry) -> list[SessionEntry]:
        """Return the sessions of the same user and environment, including this one: only one of these may have a pod."""
        return self.sessions.all(self._by_user.of((*session.environment, session.spec.user)))

    def sessions_for(self, run: RunEntry) -> list[SessionEntry]:
        """Return the sessions that a run may be in, oldest first: the one that it names, else those of its user and environment."""
        if run.spec.session_ref is not None:
            named = self.sessions.get((run.meta.namespace, run.spec.session_ref.name))
            return [named] if named else []
        return sorted(self.sessions.all(self._by_user.of(run.group)), key=lambda session: (session.meta.created_at, session.meta.uid))

    def pods_of(self, session: Name) -> list[PodEntry]:
        """Return the pods with a session's name, whoever owns them."""
        return self.pods.all(self._by_session.of(session))

    def prune(self) -> None:
        """Drop what was noted after its object was gone, and what was noted too long ago."""
        pods, sessions, environments = self.pods.uids(), self.sessions.uids(), self.environments.uids()
        owners = sessions | environments | self.sizing.instances.entries.uids() | self.runs.entries.uids()
        self.agents = {uid: view for uid, view in self.agents.items() if uid in pods}
        self.pod_timestamps = {uid: pod_timestamps for uid, pod_timestamps in self.pod_timestamps.items() if uid in pods}
        self.hints = {uid: hint for uid, hint in self.hints.items() if uid in pods}
        self.refusals = {uid: refusal for uid, refusal in self.refusals.items() if uid in owners}
        self.saved = {uid: found for uid, found in self.saved.items() if uid in sessions}
        self.written_at = {name: at for name, at in self.written_at.items() if name in self.environments}
        self.imaging.prune(environments)
        self.runs.prune()
        for recent in (self.own_config_maps, self.promptflow, self.refused_config_maps, self.gone):
            recent.prune(LATELY_SECONDS)
        self.ending_namespaces = {name: at for name, at in self.ending_namespaces.items() if abs(self.clock() - at) < LATELY_SECONDS}

    def _is_gone(self, meta: Object) -> bool:
        version = self.gone.of(meta.get("namespace", ""), seconds=LATELY_SECONDS).get(meta.get("uid", ""))
        return version is not None and not (version and newer(meta.get("resourceVersion", "0"), version))

    def _session_changed(self, known: SessionEntry | None, entry: SessionEntry | None) -> set[Key]:
        self.journal.note(known, entry, self.clock())
        concerned = self.sizing.instances.session_changed(known, entry) | self.runs.concerned_by_session(entry or known)
        if entry is None:
            return concerned | (self._session_gone(known) if known else set())
        key = entry.meta.key
        concerned |= {Key("ComputeSession", *key)} | self.checks.note(known, entry)
        concerned |= self.imaging.session_changed(known, entry, self.environments.get(entry.environment))
        if known is None:
            # A new session may be the older of two that were created in the same second.
            concerned |= {Key("ComputeSession", *rival.meta.key) for rival in self.rivals(entry)}
            self.imaging.note_pods(entry, self.pods_of(key))
        return concerned

    def _session_gone(self, entry: SessionEntry) -> set[Key]:
        key, environment = entry.meta.key, entry.environment
        self.checks.forget(environment, unless=self.count_of(environment) > 0)
        self.refusals.pop(entry.meta.uid, None)
        self.saved.pop(entry.meta.uid, None)
        self.imaging.session_changed(entry, None, None)
        pods = self.pods_of(key)
        for pod in pods:
            self.imaging.forget_pod(pod.view.uid)
        owner = self.environments.get(environment)
        left = self.departed.note(entry, owner.meta.uid if owner else "", pods, self.clock())
        return left | {Key("FlowEnvironment", *environment), Key("ComputeSession", *key)}

    def _environment_changed(self, known: EnvironmentEntry | None, entry: EnvironmentEntry | None) -> set[Key]:
        key = next(one.meta.key for one in (entry, known) if one)
        if known is not None:
            self.config_maps.drop_unused(key[0], known.config_maps)
        if entry is None and known is not None:
            self.written_at.pop(key, None)
            self.refusals.pop(known.meta.uid, None)
        was, is_now = (one and (one.meta.generation, one.last_reading, one.image, one.changed_by) for one in (known, entry))
        return {Key("FlowEnvironment", *key)} if was == is_now else self.concerned_by_environment(key)

    def _pod_changed(self, known: PodEntry | None, entry: PodEntry | None) -> set[Key]:
        concerned = self.sizing.instances.pod_changed(known, entry) | self.resolvers.pod_changed(known, entry)
        concerned |= self.runs.concerned_by_pod(entry or known)
        if entry is None:
            if known is not None:
                self._pod_gone(known.view.uid)
            return concerned
        view = entry.view
        self.pod_names[view.uid] = entry.meta.key
        pod_timestamps.note(self.pod_timestamps.setdefault(view.uid, {}), view, self.clock(), news=known is not None)
        session = self.sessions.get((view.namespace, entry.session))
        environment = self.environments.get(session.environment) if session else None
        return concerned | self.departed.concerned(view) | self.imaging.note_pod(entry, session, environment)

    def _pod_gone(self, uid: str) -> None:
        self.agents.pop(uid, None)
        self.pod_timestamps.pop(uid, None)
        self.hints.pop(uid, None)
        self.pod_names.pop(uid, None)
        self.imaging.forget_pod(uid)
        self.departed.forget(uid)
        self.pod_gone(uid)
        self.sizing.events.pop(uid, None)

    def _users_of(self, config_map: Name) -> set[Key]:
        return {Key("FlowEnvironment", *user) for user in self._by_config_map.of(config_map)}

    def _concerned_by_config_map(self, config_map: Name) -> set[Key]:
        return {key for user in self._by_config_map.of(config_map) for key in self.concerned_by_environment(user)}

    def concerned_by_environment(self, key: Name) -> set[Key]:
        """Return the keys of an environment, its sessions, and the runs that wait for it."""
        sessions = {Key("ComputeSession", *session) for session in self._by_environment.of(key)}
        return {Key("FlowEnvironment", *key)} | sessions | self.runs.concerned_by_environment(key)
