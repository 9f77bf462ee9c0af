"""Puts together, from the cache, all that a decision about one object depends on."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from flowsession.decide import resolution
from flowsession.decide.agentviews import AgentArchive
from flowsession.decide.environment import EnvironmentSnapshot
from flowsession.decide.resolution import Resolved, Unresolved
from flowsession.decide.serve import packages_prefix
from flowsession.decide.session import ENDING_SECONDS
from flowsession.decide.start import REFUSED_SECONDS
from flowsession.decide.views import PodView, SessionSnapshot
from flowsession.engine.cache import Cache
from flowsession.engine.keys import Name
from flowsession.engine.objects import EnvironmentEntry, SessionEntry
from flowsession.settings import Settings

KNOWN_SECONDS = 60.0
"""How long a ConfigMap that was created or found is taken to be there: they are not watched."""


@dataclass
class Snapshots:
    """The makers of snapshots, with what is the same for all of them."""

    cache: Cache
    settings: Settings
    public_keys: str
    archive: AgentArchive
    _resolutions: dict[Name, tuple[object, Resolved | Unresolved | None]] = field(default_factory=dict)

    def environment(self, key: Name) -> tuple[EnvironmentSnapshot, Resolved | Unresolved | None] | None:
        """An environment with what it resolves to; None if it is gone."""
        entry = self.cache.environments.get(key)
        if entry is None or entry.meta.deleting:
            self._resolutions.pop(key, None)
            return None
        snapshot = EnvironmentSnapshot(
            namespace=key[0],
            name=key[1],
            generation=entry.meta.generation,
            resource_version=entry.meta.resource_version,
            spec=entry.spec,
            status=entry.status,
            config_maps={
                name: view for name in resolution.needed_config_maps(entry.spec) if (view := self.cache.config_maps.get((key[0], name)))
            },
            sessions=len(self.cache.sessions_of(key)),
            has_lists=any(name.startswith(packages_prefix(key[1])) for name in self._known(key[0], self.cache.clock())),
            written_at=self.cache.written_at.get(key, 0.0),
        )
        return snapshot, self._resolve(key, entry)

    def session(self, key: Name, now: float, *, server_silent: bool = False) -> SessionSnapshot | None:
        """A session with all that surrounds it; None if it is gone."""
        entry = self.cache.sessions.get(key)
        pods = owned_pods(self.cache, entry) if entry else ()
        self.cache.sizing.note(key, entry, placed=any(pod.node for pod in pods))
        if entry is None:
            return None
        current = pods[-1] if pods else None
        environment_key = (key[0], entry.spec.environment_ref.name)
        environment = self.cache.environments.get(environment_key)
        saved = self.cache.saved.get(entry.meta.uid)
        if saved and saved[0] != (entry.status.get("incarnation") or 1):
            saved = None  # looked for before an earlier start
        return SessionSnapshot(
            namespace=key[0],
            name=key[1],
            uid=entry.meta.uid,
            resource_version=entry.meta.resource_version,
            generation=entry.meta.generation,
            created_at=entry.meta.created_at,
            deleting=entry.meta.deleting,
            spec=entry.spec,
            status=entry.status,
            requests=entry.requests,
            environment=self._resolve(environment_key, environment) if environment else _no_environment(environment_key),
            environment_uid=environment.meta.uid if environment else "",
            pods=pods,
            agent=self.cache.agents.get(current.uid) if current else None,
            refusal=self.cache.sizing.still_holds(self.cache.refusals.get(entry.meta.uid), key[0]),
            elder=self._elder(entry, environment_key),
            marks=self.cache.marks.get(current.uid, {}) if current else {},
            namespace_ending=now - self.cache.ending_namespaces.get(key[0], float("-inf")) < ENDING_SECONDS,
            offers=self.cache.sizing.offers(),
            quotas=self.cache.sizing.quotas_of(key[0]),
            minimum_compute=environment.spec.minimum_compute if environment else None,
            scaling=self.cache.sizing.events.get(current.uid) if current else None,
            public_keys=self.public_keys,
            agent_archive=self.archive,
            refused_config_maps={
                name: words
                for (where, name), (words, at) in self.cache.refused_config_maps.items()
                if where == key[0] and now - at < REFUSED_SECONDS
            },
            known_config_maps=self._known(key[0], now),
            server_silent=server_silent,
            saved=saved[1] if saved else None,
            saved_known=saved is not None,
            settings=self.settings,
        )

    def _resolve(self, key: Name, entry: EnvironmentEntry) -> Resolved | Unresolved | None:
        """Resolving parses files, so it is done once for each state of the environment and its sources."""
        needed = resolution.needed_config_maps(entry.spec)
        views = {name: view for name in needed if (view := self.cache.config_maps.get((key[0], name)))}
        depends_on = (entry.meta.uid, entry.meta.generation, tuple((name, view.files) for name, view in views.items()))
        known = self._resolutions.get(key)
        if known is None or known[0] != depends_on:
            known = (depends_on, resolution.resolve(entry.spec, views, self.settings))
            self._resolutions[key] = known
        return known[1]

    def _elder(self, entry: SessionEntry, environment: Name) -> str:
        mine = (entry.meta.created_at, entry.meta.uid)
        rivals = [
            other
            for other in self.cache.sessions_of(environment)
            if other.spec.user == entry.spec.user and not other.meta.deleting and (other.meta.created_at, other.meta.uid) < mine
        ]
        return min(rivals, key=lambda other: (other.meta.created_at, other.meta.uid)).meta.name if rivals else ""

    def _known(self, namespace: str, now: float) -> Mapping[str, int]:
        own = self.cache.own_config_maps
        for stale in [name for name, (_, seen) in own.items() if now - seen > KNOWN_SECONDS]:
            del own[stale]
        return {name: count for (where, name), (count, _) in own.items() if where == namespace}


def owned_pods(cache: Cache, session: SessionEntry) -> tuple[PodView, ...]:
    """The pods that this very session owns, among all that carry its name; the newest last."""
    pods = cache.pods_of((session.meta.namespace, session.meta.name))
    return tuple(sorted((pod.view for pod in pods if pod.owner_uid == session.meta.uid), key=lambda pod: pod.created_at))


def _no_environment(key: Name) -> Unresolved:
    return Unresolved(
        "EnvironmentNotFound", f"there is no FlowEnvironment {key[1]!r} in namespace {key[0]!r}; create it, and the session starts"
    )
