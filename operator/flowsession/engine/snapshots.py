"""Builds snapshots from the cache: all that a decision about one object depends on."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from flowsession.engine.accounts import Accounts
from flowsession.engine.resolutions import Resolutions
from flowsession.engine.store.cache import Cache
from flowsession.engine.store.keys import Name
from flowsession.engine.store.objects import EnvironmentEntry, Meta, RunEntry, SessionEntry
from flowsession.images import reference
from flowsession.model import times, words
from flowsession.model.agent_views import AgentArchive
from flowsession.model.plan import ENDING_SECONDS
from flowsession.model.resolved import Resolved, Unresolved
from flowsession.model.views import REFUSED_SECONDS, Authorship, InstanceView, PodView
from flowsession.reconcile.environment import image as images
from flowsession.reconcile.environment.snapshot import EnvironmentSnapshot, ImageFacts
from flowsession.reconcile.environment.sources import ConfigMapView
from flowsession.reconcile.instance.snapshot import HostedSession, InstanceSnapshot
from flowsession.reconcile.run.snapshot import Place, RunSnapshot
from flowsession.reconcile.session import authorship
from flowsession.reconcile.session.snapshot import SessionSnapshot
from flowsession.reconcile.size.choice import canonical
from flowsession.settings import Settings

log = logging.getLogger(__name__)

KNOWN_SECONDS = 60.0
"""Seconds for which a ConfigMap that was created or found is assumed to exist, since these are not watched."""


@dataclass
class Snapshots:
    """Builds the snapshots, and holds what they share."""

    cache: Cache
    settings: Settings
    public_keys: str
    archive: AgentArchive
    accounts: Accounts
    resolutions: Resolutions

    def environment(self, key: Name) -> tuple[EnvironmentSnapshot, Resolved | Unresolved | None] | None:
        """Return an environment and what it resolves to, or None if it is gone."""
        entry = self.cache.environments.get(key)
        if entry is None or entry.meta.deleting:
            self.resolutions.forget(key)
            return None
        resolved = self._resolve(key, entry)
        snapshot = EnvironmentSnapshot(
            namespace=key[0],
            name=key[1],
            generation=entry.meta.generation,
            resource_version=entry.meta.resource_version,
            spec=entry.spec,
            status=entry.status,
            config_maps=self._views(entry),
            sessions=self.cache.count_of(key),
            check=self.cache.checks.of(key),
            written_at=self.cache.written_at.get(key, 0.0),
            requests=entry.requests,
            image=self.cache.imaging.facts(entry, resolved.image) if isinstance(resolved, Resolved) else ImageFacts(),
            uid=entry.meta.uid,
            resolvers=self.cache.resolvers.of(entry, self.cache.pods, self.cache.agents),
            refusal=self.cache.refusals.get(entry.meta.uid),
            refused_config_maps=self._refused(key[0]),
            public_keys=self.public_keys,
            settings=self.settings,
        )
        return snapshot, resolved

    def session(self, key: Name, now: float, *, server_silent: bool = False, backlog: int = 0) -> SessionSnapshot | None:
        """Return a session and all that it depends on, or None if it is gone."""
        entry = self.cache.sessions.get(key)
        pods = owned_pods(self.cache, entry) if entry else ()
        self.cache.sizing.note(key, entry, placed=any(pod.node for pod in pods))
        if entry is None:
            return None
        current = pods[-1] if pods else None
        environment_key = entry.environment
        environment = self.cache.environments.get(environment_key)
        saved = self.cache.saved.get(entry.meta.uid)
        if saved and saved[0] != (entry.status.get("incarnation") or 1):
            saved = None  # fetched for an earlier start
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
            environment=self._wanted(environment_key, environment, entry.spec.base_image),
            environment_uid=environment.meta.uid if environment else "",
            pods=pods,
            agent=self.cache.agents.get(current.uid) if current else None,
            refusal=self.cache.sizing.still_holds(self.cache.refusals.get(entry.meta.uid), key[0]),
            older_session=self._older_session(entry),
            pod_timestamps=self.cache.pod_timestamps.get(current.uid, {}) if current else {},
            namespace_ending=self._ending(entry.meta, now),
            offers=self.cache.sizing.offers(),
            quotas=self.cache.sizing.quotas_of(key[0]),
            instances=self._instances(entry, current, now),
            other_instances=self._other_instances(entry),
            applied_by=entry.applied_by,
            authorship=self._authorship(environment) if environment else Authorship(),
            minimum_compute=environment.spec.minimum_compute if environment else None,
            scaling=self.cache.sizing.events.get(current.uid) if current else None,
            accounts=self.accounts.lately(key[0]),
            public_keys=self.public_keys,
            agent_archive=self.archive,
            refused_config_maps=self._refused(key[0]),
            known_config_maps=self._known(key[0]),
            known_promptflow=self.cache.promptflow.of(key[0], seconds=KNOWN_SECONDS),
            backlog=backlog,
            server_silent=server_silent,
            saved=saved[1] if saved else None,
            saved_known=saved is not None,
            hint=self.cache.hints.get(current.uid) if current else None,
            predecessor=self.cache.departed.precede(entry, self.cache.agents, now),
            settings=self.settings,
        )

    def departed(self, key: Name, now: float) -> SessionSnapshot | None:
        """Return the session, as last known, of a pod whose session is gone. None if `key` names no such pod."""
        pod = self.cache.pods.get(key)
        left = self.cache.departed.of(pod.view.uid) if pod else None
        if pod is None or left is None:
            return None
        entry = left.session
        environment = self.cache.environments.get(entry.environment)
        same = environment is not None and environment.meta.uid == left.environment_uid
        return SessionSnapshot(
            namespace=key[0],
            name=entry.meta.name,
            uid=entry.meta.uid,
            resource_version=entry.meta.resource_version,
            generation=entry.meta.generation,
            created_at=entry.meta.created_at,
            deleting=True,
            spec=entry.spec,
            status={**entry.status, "edits": left.edits},
            requests={},
            environment=None,
            environment_uid=left.environment_uid if same else "",
            pods=(pod.view,),
            agent=self.cache.agents.get(pod.view.uid),
            refusal=None,
            older_session="",
            namespace_ending=self._ending(entry.meta, now),
            refused_config_maps=self._refused(key[0]),
            known_config_maps=self._known(key[0]),
            hint=self.cache.hints.get(pod.view.uid),
            gone_at=left.at,
            settings=self.settings,
        )

    def instance(self, key: Name, now: float) -> InstanceSnapshot | None:
        """Return a ComputeInstance and all that it depends on, or None if it is gone."""
        cache = self.cache
        entry = cache.sizing.instances.entries.get(key)
        if entry is None:
            return None
        pods = cache.pods.all(cache.sizing.instances.pods.of(key))
        anchors = sorted((pod for pod in pods if pod.owner_uid == entry.meta.uid), key=lambda pod: pod.view.created_at)
        newest = anchors[-1].view.uid if anchors else ""
        return InstanceSnapshot(
            namespace=key[0],
            name=key[1],
            uid=entry.meta.uid,
            resource_version=entry.meta.resource_version,
            generation=entry.meta.generation,
            deleting=entry.meta.deleting,
            spec=entry.spec,
            status=entry.status,
            resume=entry.resume,
            unknown=entry.unknown,
            pods=tuple(pod.view for pod in anchors),
            hosted=hosted(cache, key),
            session_pods=sum(not pod.anchor for pod in pods),
            offers=cache.sizing.offers(),
            quotas=cache.sizing.quotas_of(key[0]),
            refusal=cache.sizing.still_holds(cache.refusals.get(entry.meta.uid), key[0]),
            scaling=cache.sizing.events.get(newest),
            accounts=self.accounts.lately(key[0]),
            namespace_ending=self._ending(entry.meta, now),
            written_at=cache.sizing.instances.written_at.get(key, 0.0),
            settings=self.settings,
        )

    def run(self, key: Name, now: float) -> RunSnapshot | None:
        """Return a FlowRun and the sessions that it may be in, or None if it is gone."""
        cache = self.cache
        entry = cache.runs.entries.get(key)
        if entry is None:
            return None
        pod = cache.pods.get((key[0], entry.status.get("podName") or ""))
        sessions = cache.sessions_for(entry)
        return RunSnapshot(
            namespace=key[0],
            name=key[1],
            uid=entry.meta.uid,
            resource_version=entry.meta.resource_version,
            generation=entry.meta.generation,
            created_at=entry.meta.created_at,
            deleting=entry.meta.deleting,
            spec=entry.spec,
            status=entry.status,
            yaml=entry.yaml,
            problem=entry.problem,
            sessions=tuple(self._place(session) for session in sessions if not session.meta.deleting),
            environment=self._of_guest(entry, sessions),
            pod=pod.view if pod else None,
            rivals=cache.runs.rivals(entry),
            refusal=refusal.message if (refusal := cache.refusals.get(entry.meta.uid)) and now < refusal.at + REFUSED_SECONDS else "",
            earlier=cache.runs.earlier(entry),
            view=cache.runs.view(entry.meta.uid, entry.status.get("podName") or ""),
            refused_config_maps=self._refused(key[0]),
            namespace_ending=self._ending(entry.meta, now),
            written_at=cache.runs.written_at.get(key, 0.0),
        )

    def _place(self, entry: SessionEntry) -> Place:
        conditions = {one.get("type"): one for one in entry.status.get("conditions") or ()}
        pod = next((pod for pod in reversed(owned_pods(self.cache, entry)) if pod.running and pod.deleting_since is None), None)
        ready = conditions.get("Ready", {}).get("status") == "True" and pod is not None
        return Place(
            session=entry.meta.name,
            user=entry.spec.user,
            environment=entry.spec.environment_ref.name,
            pod=pod.name if pod and ready else "",
            phase=str(entry.status.get("phase") or "Pending"),
            size=canonical(entry.status.get("vmSize") or entry.spec.compute.vm_size),
            instance=entry.spec.compute.instance_ref.name if entry.spec.compute.instance_ref else "",
            identity=entry.spec.identity,
            claims={claim.claim_name: not claim.read_only for claim in entry.spec.claims or ()},
            running=pod,
        )

    def _of_guest(self, run: RunEntry, sessions: Sequence[SessionEntry]) -> Resolved | Unresolved | None:
        """Return what a run's environment resolves to, if a session that the run may be in is of another environment."""
        key = run.group[:2]
        if all(session.environment == key for session in sessions):
            return None
        return self._wanted(key, self.cache.environments.get(key), "")

    def _instances(self, entry: SessionEntry, pod: PodView | None, now: float) -> dict[str, InstanceView]:
        ref = entry.spec.compute.instance_ref
        names = {ref.name if ref else "", pod.instance if pod else ""} - {""}
        where, cache = entry.meta.namespace, self.cache
        views = {name: cache.sizing.instances.view((where, name), cache.pods, lambda key: hosted(cache, key), now) for name in names}
        return {name: view for name, view in views.items() if view}

    def _other_instances(self, entry: SessionEntry) -> tuple[str, ...]:
        ref, where = entry.spec.compute.instance_ref, entry.meta.namespace
        if ref is None or (where, ref.name) in self.cache.sizing.instances.entries:
            return ()
        return self.cache.sizing.instances.of_user(where, entry.spec.user)

    def _resolve(self, key: Name, entry: EnvironmentEntry) -> Resolved | Unresolved | None:
        return self.resolutions.of(key, entry, self._views(entry))

    def _views(self, entry: EnvironmentEntry) -> dict[str, ConfigMapView]:
        where = entry.meta.namespace
        return {name: view for name in entry.config_maps if (view := self.cache.config_maps.get((where, name)))}

    def _wanted(self, key: Name, entry: EnvironmentEntry | None, own_image: str) -> Resolved | Unresolved | None:
        """Return what a session of the environment should have, with its own image if it names one."""
        if entry is None:
            return _no_environment(key, (name for where, name in self.cache.environments if where == key[0]))
        environment = self._resolve(key, entry)
        if not isinstance(environment, Resolved) or not own_image:
            return environment
        if refused := reference.refusal(own_image, "spec.baseImage", self.settings):
            return Unresolved(*refused, own=True)
        return images.with_own(environment, own_image)

    def _authorship(self, entry: EnvironmentEntry) -> Authorship:
        return authorship.of(entry.meta.uid, entry.spec, entry.changed_by, self._views(entry))

    def _older_session(self, entry: SessionEntry) -> str:
        if entry.for_run:
            return ""
        mine = (entry.meta.created_at, entry.meta.uid)
        others = (other for other in self.cache.rivals(entry) if not other.meta.deleting and not other.for_run)
        rivals = ((other.meta.created_at, other.meta.uid, other) for other in others)
        elders = [other for other in rivals if other[:2] < mine]
        return min(elders, key=lambda other: other[:2])[2].meta.name if elders else ""

    def _ending(self, meta: Meta, now: float) -> bool:
        """Return whether the object's namespace is terminating. An object created after that was noted is in a new one of the same name."""
        refused_at = self.cache.ending_namespaces.get(meta.namespace, float("-inf"))
        return now - refused_at < ENDING_SECONDS and meta.created_at <= refused_at

    def _refused(self, namespace: str) -> Mapping[str, str]:
        return self.cache.refused_config_maps.of(namespace, seconds=REFUSED_SECONDS)

    def _known(self, namespace: str) -> Mapping[str, int]:
        return self.cache.own_config_maps.of(namespace, seconds=KNOWN_SECONDS)


def owned_pods(cache: Cache, session: SessionEntry) -> tuple[PodView, ...]:
    """Return the pods that this session (by uid) owns, among all with its name; the newest last."""
    pods = cache.pods_of((session.meta.namespace, session.meta.name))
    return tuple(sorted((pod.view for pod in pods if pod.owner_uid == session.meta.uid), key=lambda pod: pod.created_at))


def hosted(cache: Cache, instance: Name) -> tuple[HostedSession, ...]:
    """Return the sessions that name an instance and are of its user."""
    named = cache.sessions.all(sorted(cache.sizing.instances.sessions.of(instance)))
    user = cache.sizing.instances.entries[instance].spec.user
    return tuple(_hosted(cache, session, instance[1]) for session in named if session.spec.user == user)


def _hosted(cache: Cache, session: SessionEntry, instance: str) -> HostedSession:
    status, spec = session.status, session.spec
    pods = owned_pods(cache, session)
    pod = next((pod for pod in reversed(pods) if pod.instance == instance), None)
    agent = cache.agents.get(pod.uid) if pod else None
    same = agent and pod and pod.container and agent.restarts == pod.container.restarts
    began = max(session.meta.created_at, times.parse(status.get("startedAt")) or 0.0)
    starting = began + spec.start_timeout_seconds if pod is not None and not status.get("readyAt") else 0.0
    worked = times.parse((status.get("lastActivity") or {}).get("at")) or 0.0
    waits = pod is None and not spec.suspend and not status.get("suspended") and status.get("phase") != "Failed"
    return HostedSession(session.meta.name, pod, agent if same else None, began, worked, starting, waits)


def _no_environment(key: Name, others: Iterable[str]) -> Unresolved:
    near = words.nearest(key[1], others)
    way = f"did you mean {near!r}? Create a session of that one, or this environment" if near else "create it"
    return Unresolved(
        "EnvironmentNotFound", f"there is no FlowEnvironment {key[1]!r} in namespace {key[0]!r}; {way}, and the session starts"
    )
