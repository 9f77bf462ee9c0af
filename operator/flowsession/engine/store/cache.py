"""What is known of the cluster: fed by watches, by LISTs and by the answer to every write (so that own writes are never seen late)."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from flowsession.api.mutations import SOURCE_LABEL
from flowsession.engine.store import objects, pod_timestamps
from flowsession.engine.store.departed import DepartedSessions
from flowsession.engine.store.flow_check_index import Checks
from flowsession.engine.store.image_index import Imaging
from flowsession.engine.store.index import Index
from flowsession.engine.store.keys import Key, Name, newer
from flowsession.engine.store.objects import EnvironmentEntry, Object, PodEntry, SessionEntry
from flowsession.engine.store.resolvers import Resolvers
from flowsession.engine.store.sizing import Sizing
from flowsession.model.agent_views import AgentView, Hint, SavedEdits
from flowsession.reconcile.environment.sources import ConfigMapView
from flowsession.reconcile.session.snapshot import Refusal

LATELY_SECONDS = 300.0
"""How long what was lately heard is kept: longer than anybody asks for it."""


@dataclass
class Cache:
    """All of it in memory, one thread. Every method that learns something returns the keys that it concerns."""

    clock: Callable[[], float]
    pod_gone: Callable[[str], None] = lambda _: None
    """Told the uid of every pod that is forgotten."""
    sessions: dict[Name, SessionEntry] = field(default_factory=dict)
    environments: dict[Name, EnvironmentEntry] = field(default_factory=dict)
    pods: dict[Name, PodEntry] = field(default_factory=dict)
    config_maps: dict[Name, ConfigMapView] = field(default_factory=dict)
    agents: dict[str, AgentView] = field(default_factory=dict)
    marks: dict[str, dict[str, float]] = field(default_factory=dict)
    """By the pod's uid, as the agents: when its steps were seen."""
    refusals: dict[str, Refusal] = field(default_factory=dict)
    """By the session's uid."""
    own_config_maps: dict[Name, tuple[int, float]] = field(default_factory=dict)
    """ConfigMaps that were lately created or found: number of packages, and when that was."""
    refused_config_maps: dict[Name, tuple[str, float]] = field(default_factory=dict)
    """ConfigMaps that the API server lately refused, with its words, and when that was."""
    saved: dict[str, tuple[int, SavedEdits | None]] = field(default_factory=dict)
    """By the session's uid: the edits that were found for its start with this incarnation."""
    hints: dict[str, Hint] = field(default_factory=dict)
    """By the pod's uid: what its agent has last said by itself."""
    departed: DepartedSessions = field(default_factory=DepartedSessions)
    pod_names: dict[str, Name] = field(default_factory=dict)
    """By the pod's uid."""
    written_at: dict[Name, float] = field(default_factory=dict)
    """When an environment's status was last written."""
    checks: Checks = field(default_factory=Checks)
    ending_namespaces: dict[str, float] = field(default_factory=dict)
    """Namespaces that refuse writes because they end, and when that was last heard."""
    sizing: Sizing = field(default_factory=Sizing)
    """VM sizes, nodes, quotas and instances."""
    imaging: Imaging = field(default_factory=Imaging)
    resolvers: Resolvers = field(default_factory=Resolvers)
    _sessions_of: Index = field(default_factory=Index)
    _pods_of: Index = field(default_factory=Index)
    _users_of: Index = field(default_factory=Index)

    def observe(self, kind: str, body: Object) -> set[Key]:
        """Takes in an object if it is news. Raises objects.Unreadable."""
        match kind:
            case "ComputeSession":
                return self._observe_session(objects.session(body))
            case "FlowEnvironment":
                return self._observe_environment(objects.environment(body))
            case "Pod":
                return self._observe_pod(objects.pod(body))
            case "ConfigMap":
                return self._observe_config_map(body)
        return self.sizing.observe(kind, body, self.clock())

    def forget(self, kind: str, namespace: str, name: str, uid: str = "") -> set[Key]:
        """Drops an object that is gone; with a uid only that very one."""
        key = (namespace, name)
        match kind:
            case "ComputeSession":
                return self._forget_session(key, uid)
            case "FlowEnvironment":
                return self._forget_environment(key, uid)
            case "Pod":
                return self._forget_pod(key, uid)
            case "ConfigMap":
                # Gone, or only its label is: it is read again, and that tells.
                self.config_maps.pop(key, None)
                return self._concerned_by_config_map(key)
        return self.sizing.forget(kind, key, uid)

    def sessions_of(self, environment: Name) -> list[SessionEntry]:
        """The sessions of an environment."""
        return [self.sessions[environment[0], name] for name in self._sessions_of.of(environment)]

    def pods_of(self, session: Name) -> list[PodEntry]:
        """The pods that carry a session's name, whoever owns them."""
        return [self.pods[session[0], name] for name in self._pods_of.of(session)]

    def missing_config_map(self, namespace: str, name: str) -> set[Key]:
        """Takes in that a ConfigMap was asked for and is not there."""
        if not self._users_of.has((namespace, name)):
            return set()
        before = self.config_maps.get((namespace, name))
        self.config_maps[namespace, name] = ConfigMapView(name, None, self.clock(), watched=False)
        if before is not None and before.files is None:
            return {Key("FlowEnvironment", namespace, user) for user in self._users_of.of((namespace, name))}
        return self._concerned_by_config_map((namespace, name))

    def names(self, kind: str) -> Iterable[Name]:
        """The names of all cached objects of a kind."""
        found: dict[str, Iterable[Name]] = {"ComputeSession": self.sessions, "FlowEnvironment": self.environments, "Pod": self.pods}
        if kind == "ConfigMap":
            return [key for key, view in self.config_maps.items() if view.watched]
        return list(found[kind]) if kind in found else self.sizing.names(kind)

    def version(self, key: Key) -> str:
        """The resourceVersion that is known of an object; "0" if it is not known."""
        name = (key.namespace, key.name)
        match key.kind:
            case "ComputeSession" if name in self.sessions:
                return self.sessions[name].meta.resource_version
            case "FlowEnvironment" if name in self.environments:
                return self.environments[name].meta.resource_version
            case "Pod" if name in self.pods:
                return self.pods[name].view.resource_version
        return self.sizing.version(key.kind, name)

    def uid(self, key: Key) -> str:
        """The uid of a decided object; empty if it is not known."""
        name = (key.namespace, key.name)
        tables: dict[str, Any] = {"ComputeSession": self.sessions, "FlowEnvironment": self.environments}
        tables |= {"ComputeInstance": self.sizing.instances.entries, "VMSize": self.sizing.sizes}
        found = tables.get(key.kind, {}).get(key.name if key.kind == "VMSize" else name)
        return found.meta.uid if found else ""

    def prune(self) -> None:
        """Drops what outlives its object because it was noted after the object had gone, and what was heard long ago."""
        pods = {entry.view.uid for entry in self.pods.values()}
        sessions = {entry.meta.uid for entry in self.sessions.values()}
        owners = sessions | {entry.meta.uid for entry in self.environments.values()} | self.sizing.instances.uids()
        self.agents = {uid: view for uid, view in self.agents.items() if uid in pods}
        self.marks = {uid: marks for uid, marks in self.marks.items() if uid in pods}
        self.hints = {uid: hint for uid, hint in self.hints.items() if uid in pods}
        self.refusals = {uid: refusal for uid, refusal in self.refusals.items() if uid in owners}
        self.saved = {uid: found for uid, found in self.saved.items() if uid in sessions}
        self.written_at = {name: at for name, at in self.written_at.items() if name in self.environments}
        self.own_config_maps = {name: found for name, found in self.own_config_maps.items() if self._lately(found[1])}
        self.imaging.prune({entry.meta.uid for entry in self.environments.values()}, self.own_config_maps)
        self.refused_config_maps = {name: found for name, found in self.refused_config_maps.items() if self._lately(found[1])}
        self.ending_namespaces = {name: at for name, at in self.ending_namespaces.items() if self._lately(at)}

    def _lately(self, at: float) -> bool:
        return abs(self.clock() - at) < LATELY_SECONDS

    def _observe_session(self, entry: SessionEntry) -> set[Key]:
        key = (entry.meta.namespace, entry.meta.name)
        known = self.sessions.get(key)
        if known and not newer(entry.meta.resource_version, known.meta.resource_version):
            return set()
        if known and known.meta.uid != entry.meta.uid:
            self._forget_session(key, known.meta.uid)
            known = None
        self.sessions[key] = entry
        environment = entry.spec.environment_ref.name
        self._sessions_of.add((key[0], environment), key[1])
        concerned = {Key("ComputeSession", *key)} | self.sizing.instances.note_session(known, entry) | self.checks.note(known, entry)
        concerned |= self.imaging.note_session(known, entry, self.environments.get((key[0], environment)))
        if known is None:
            # A new session may be the elder of two that were created in the same second.
            rivals = (other for other in self.sessions_of((key[0], environment)) if other.spec.user == entry.spec.user)
            concerned |= {Key("ComputeSession", key[0], other.meta.name) for other in rivals}
        return concerned

    def _forget_session(self, key: Name, uid: str) -> set[Key]:
        entry = self.sessions.get(key)
        if entry is None or (uid and entry.meta.uid != uid):
            return set()
        del self.sessions[key]
        environment = (key[0], entry.spec.environment_ref.name)
        self._sessions_of.discard(environment, key[1])
        self.checks.forget(environment, unless=self._sessions_of.has(environment))
        self.refusals.pop(entry.meta.uid, None)
        self.saved.pop(entry.meta.uid, None)
        owner = self.environments.get(environment)
        left = self.departed.note(entry, owner.meta.uid if owner else "", self.pods_of(key), self.clock())
        return left | {Key("FlowEnvironment", *environment), Key("ComputeSession", *key)} | self.sizing.instances.note_session(entry, None)

    def _observe_environment(self, entry: EnvironmentEntry) -> set[Key]:
        key = (entry.meta.namespace, entry.meta.name)
        known = self.environments.get(key)
        if known and not newer(entry.meta.resource_version, known.meta.resource_version):
            return set()
        self._index_users(known, remove=True)
        self.environments[key] = entry
        self._index_users(entry)
        self._drop_unused(known)
        was, is_now = (one and (one.meta.uid, one.meta.generation, one.read_before, one.image, one.changed_by) for one in (known, entry))
        return {Key("FlowEnvironment", *key)} if was == is_now else self._concerned_by_environment(key)

    def _forget_environment(self, key: Name, uid: str) -> set[Key]:
        entry = self.environments.get(key)
        if entry is None or (uid and entry.meta.uid != uid):
            return set()
        self._index_users(entry, remove=True)
        self._drop_unused(entry)
        del self.environments[key]
        self.written_at.pop(key, None)
        self.refusals.pop(entry.meta.uid, None)
        return self._concerned_by_environment(key)

    def _drop_unused(self, entry: EnvironmentEntry | None) -> None:
        """A ConfigMap that nobody looks at any more is read anew when somebody does."""
        if entry is None:
            return
        for name in entry.config_maps:
            if not self._users_of.has((entry.meta.namespace, name)):
                self.config_maps.pop((entry.meta.namespace, name), None)

    def _index_users(self, entry: EnvironmentEntry | None, *, remove: bool = False) -> None:
        """Which environments look at which ConfigMaps."""
        if entry is None:
            return
        change = self._users_of.discard if remove else self._users_of.add
        for name in entry.config_maps:
            change((entry.meta.namespace, name), entry.meta.name)

    def _observe_pod(self, entry: PodEntry) -> set[Key]:
        view = entry.view
        key = (view.namespace, view.name)
        known = self.pods.get(key)
        if known and not newer(view.resource_version, known.view.resource_version):
            return set()
        if known and known.view.uid != view.uid:
            self._forget_pod(key, known.view.uid)
        if known and known.session != entry.session:
            self._pods_of.discard((view.namespace, known.session), view.name)  # somebody has relabelled it
        self.pods[key] = entry
        self._pods_of.add((view.namespace, entry.session), view.name)
        pod_timestamps.note(self.marks.setdefault(view.uid, {}), view, self.clock(), news=known is not None)
        session = self.sessions.get((view.namespace, entry.session))
        environment = self.environments.get((view.namespace, session.spec.environment_ref.name)) if session else None
        self.pod_names[view.uid] = key
        concerned = self.departed.concerned(entry)
        concerned |= self.sizing.instances.note_pod(known, entry) | self.imaging.note_pod(entry, environment)
        return concerned | self.resolvers.note(known, entry)

    def _forget_pod(self, key: Name, uid: str) -> set[Key]:
        entry = self.pods.get(key)
        if entry is None or (uid and entry.view.uid != uid):
            return set()
        del self.pods[key]
        self._pods_of.discard((key[0], entry.session), key[1])
        self.agents.pop(entry.view.uid, None)
        self.marks.pop(entry.view.uid, None)
        self.hints.pop(entry.view.uid, None)
        self.pod_names.pop(entry.view.uid, None)
        self.departed.forget(entry.view.uid)
        self.pod_gone(entry.view.uid)
        self.sizing.events.pop(entry.view.uid, None)
        return self.sizing.instances.note_pod(entry, None) | self.resolvers.note(entry, None)

    def _observe_config_map(self, body: Object) -> set[Key]:
        raw = body["metadata"]
        key = (raw["namespace"], raw["name"])
        known, now = self.config_maps.get(key), self.clock()
        watched = (raw.get("labels") or {}).get(SOURCE_LABEL) == "true"
        if not self._users_of.has(key):
            # Each may hold 1 MiB, and anybody may label one: only what an environment names is kept, and read when one begins to.
            self.config_maps.pop(key, None)
            return set()
        fresh, author = objects.files(body), objects.author(body)
        if known and known.files == fresh and known.author == author:
            self.config_maps[key] = ConfigMapView(key[1], known.files, now, watched, author)
            return {Key("FlowEnvironment", key[0], user) for user in self._users_of.of(key)} if known.watched != watched else set()
        self.config_maps[key] = ConfigMapView(key[1], fresh, now, watched, author)
        return self._concerned_by_config_map(key)

    def _concerned_by_config_map(self, key: Name) -> set[Key]:
        return {k for user in self._users_of.of(key) for k in self._concerned_by_environment((key[0], user))}

    def _concerned_by_environment(self, key: Name) -> set[Key]:
        return {Key("FlowEnvironment", *key)} | {Key("ComputeSession", key[0], name) for name in self._sessions_of.of(key)}
