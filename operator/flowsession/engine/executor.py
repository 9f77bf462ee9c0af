"""Carries out a plan: at most one write per object, and every response goes straight into the cache."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from flowsession.cluster import errors
from flowsession.cluster.gateway import KubernetesCluster
from flowsession.engine import manifests
from flowsession.engine.agents import Agents
from flowsession.engine.allowance import Allowance
from flowsession.engine.edits import Edits
from flowsession.engine.queue import Queue
from flowsession.engine.reader import Reader
from flowsession.engine.recorder import Recorder
from flowsession.engine.registry_checks import ImageChecks
from flowsession.engine.run_calls import RunCalls
from flowsession.engine.snapshots import owned_pods
from flowsession.engine.store.cache import Cache
from flowsession.engine.store.keys import Key
from flowsession.engine.store.sizing import refused
from flowsession.manifests.config_maps import PROMPTFLOW_ANNOTATION
from flowsession.manifests.placement import SIZE_LABEL
from flowsession.model.plan import AnnotatePod, Create, Delete, Event, PatchStatus, Plan, ReadSource, Sealed
from flowsession.reconcile.size.choice import canonical

log = logging.getLogger(__name__)

_ORDER = {"ConfigMap": 0, "Pod": 1}

STATUSES_AT_ONCE = 40.0
SECONDS_PER_STATUS = 5.0
"""Status writes allowed about one session: a burst, then one per interval. A start takes 2 or 3, an active session a few per minute."""

LISTS_AT_ONCE = 10.0
SECONDS_PER_LIST = 20.0
"""The same for a session's ConfigMaps: lists of packages and saved edits. A busy session saves edits twice a minute."""

REPORTED_SECONDS = 60.0
"""Seconds for which a retry does not repeat the Events of a plan that failed or came too late."""


BUSY = 16
"""Queue length from which Normal Events are deferred: an Event costs the API server half as much as a status."""

CLAIMED = frozenset({"IdleSoon"})
"""Reasons of Events that the status claims were written."""


class _PlanCutError(Exception):
    """A write that the rest of the plan depends on was refused; the next decision knows of it."""


class Executor:
    """Makes all calls and writes that plans ask for. Raises ClusterError for what is to be retried."""

    def __init__(
        self,
        cluster: KubernetesCluster,
        cache: Cache,
        queue: Queue[Key],
        agents: Agents,
        run_calls: RunCalls,
        recorder: Recorder,
        reader: Reader,
        checks: ImageChecks,
        edits: Edits,
    ) -> None:
        self._cluster = cluster
        self._cache = cache
        self._queue = queue
        self._agents = agents
        self._run_calls = run_calls
        self._recorder = recorder
        self._reader = reader
        self._checks = checks
        self._edits = edits
        self._statuses = Allowance(STATUSES_AT_ONCE, SECONDS_PER_STATUS)
        self._lists = Allowance(LISTS_AT_ONCE, SECONDS_PER_LIST)
        self._reported: dict[str, tuple[float, frozenset[str]]] = {}
        """By uid: when Events were written for a plan that then failed or came too late, and their reasons."""

    async def carry_out(self, key: Key, uid: str, plan: Plan) -> None:
        """Carry out a plan: creations, then the status, then deletions, so that a status write that conflicts with another change of the
        object never costs a pod. Before the object's own deletion, only what it depends on is created, since agents' answers expire."""
        if plan.look_again_at is not None:
            self._queue.add_after(key, plan.look_again_at - self._cache.clock())
        try:
            own = [deletion for deletion in plan.deletes if deletion.uid == uid]
            await (self._end(key, uid, plan, own) if own else self._go_on(key, uid, plan))
        except errors.TooLate as error:
            log.info("to be decided again", extra={"key": f"{key.namespace}/{key.name}", "error": str(error)})
            self._queue.add(key)

    async def _go_on(self, key: Key, uid: str, plan: Plan) -> None:
        if plan.call is not None:
            self._call(key, plan)
        if plan.run_call is not None and (pod := self._cache.pods.get((key.namespace, plan.run_call.pod))):
            self._run_calls.start(key, uid, pod.view, plan.run_call)
        if plan.question is not None:
            self._checks.start(key, uid, plan.question)
        await self._reader.read(key, plan)
        if not await self._create_all(key, uid, plan):
            return
        if plan.fetch_edits is not None:
            await self._reader.edits(key, uid, plan.fetch_edits)
        if not await self._write_status(key, uid, plan):
            return
        for deletion in plan.deletes:
            if not await self._delete(key, deletion):
                return
        if plan.remember is not None:
            self._cache.departed.remember(uid, plan.remember)
        if plan.annotate is not None:
            await self._annotate(plan.annotate)

    async def _write_status(self, key: Key, uid: str, plan: Plan) -> bool:
        """Write the status and the Events; return whether the rest of the plan may proceed.

        CLAIMED Events are written before the status: if it came first, a kill in between would leave its claim untrue forever. The other
        Events follow the status, so that none is written if the object is gone or has changed.
        """
        if plan.status is None and not plan.events:
            return True
        if plan.status is not None and not self._may(key, uid, self._statuses):
            return False
        if not await self._write_events(key, uid, [event for event in plan.events if event.reason in CLAIMED], late=False):
            raise errors.Unavailable("an Event that the status builds on could not be written; both are tried again")
        if plan.status is not None and not await self._patch(plan.status):
            return False
        self._reported.pop(uid, None)
        await self._write_events(key, uid, [event for event in plan.events if event.reason not in CLAIMED], now=len(self._queue) < BUSY)
        self._reported.pop(uid, None)
        return True

    async def _write_events(self, key: Key, uid: str, events: Sequence[Event], *, late: bool = True, now: bool = True) -> bool:
        """Write a plan's Events; return whether all are written. One lately written for a plan that failed after it is not repeated.

        With `late`, an Event that the API server does not accept for now is left to the recorder and counts as written. Unless `now`,
        so is every Event that is not a warning.
        """
        if not events:
            return True
        at = self._cache.clock()
        self._reported = {known: reported for known, reported in self._reported.items() if at - reported[0] < REPORTED_SECONDS}
        _, before = self._reported.get(uid, (at, frozenset()))
        for event in events:
            if event.reason in before or (not now and not event.warning and self._recorder.defer(key, uid, event)):
                continue
            if not await self._recorder.record(key, uid, event, late=late) and not late:
                return False
        self._reported[uid] = (at, frozenset(event.reason for event in events))
        return True

    def _may(self, key: Key, uid: str, allowance: Allowance) -> bool:
        """Return whether the session may have one more write now, else enqueue it for later: an agent's reports must not fill etcd."""
        pause = allowance.wait(uid, self._cache.clock()) if key.kind == "ComputeSession" else 0.0
        if pause:
            self._queue.add_after(key, pause)
        return not pause

    async def _create_all(self, key: Key, uid: str, plan: Plan) -> bool:
        """Create the plan's objects; return whether the rest of the plan may proceed."""
        if any(create.manifest["kind"] == "ConfigMap" for create in plan.creates) and not self._may(key, uid, self._lists):
            return False
        try:
            for create in sorted(plan.creates, key=lambda c: _ORDER.get(c.manifest["kind"], 9)):
                await self._create(key, uid, create)
        except _PlanCutError:
            return False
        return True

    async def _end(self, key: Key, uid: str, plan: Plan, own: list[Delete]) -> None:
        """Write the Events about the object's end, then delete it, since they can't be written afterwards. A deletion that came too late is
        retried without repeating the Events, else it might come too late every time."""
        if not await self._create_all(key, uid, plan):
            return
        await self._write_events(key, uid, plan.events)
        self._cache.journal.ends[uid] = own[0].why
        for deletion in [*own, *(deletion for deletion in plan.deletes if deletion not in own)]:
            if not await self._delete(key, deletion):
                break  # a raised TooLate skips the cleanup below
        self._reported.pop(uid, None)
        self._cache.journal.ends.pop(uid, None)

    def _call(self, key: Key, plan: Plan) -> None:
        if isinstance(plan.call, ReadSource):
            if reader := self._cache.pods.get((key.namespace, plan.call.pod)):
                self._agents.start(key, reader.view, plan.call)
            return
        if key.kind == "Pod" and plan.call is not None:
            if left := self._cache.pods.get((key.namespace, key.name)):
                self._agents.start(key, left.view, plan.call)
            return
        entry = self._cache.sessions.get((key.namespace, key.name))
        if entry is None or plan.call is None:
            return
        if pods := owned_pods(self._cache, entry):
            self._agents.start(key, pods[-1], plan.call)

    async def _annotate(self, wanted: AnnotatePod) -> None:
        """Annotate a pod, unless it is gone or another one has its name."""
        body = {"metadata": {"uid": wanted.uid, "annotations": dict(wanted.annotations)}}
        try:
            self._reader.observe("Pod", await self._cluster.patch("Pod", wanted.namespace, wanted.name, body))
        except errors.NotFound:
            self._queue.add_all(self._cache.forget("Pod", wanted.namespace, wanted.name, wanted.uid))
        except errors.Conflict:
            await self._reader.refresh("Pod", wanted.namespace, wanted.name)

    async def _create(self, key: Key, uid: str, create: Create) -> None:
        manifest = self._edits.seal(create.manifest, create.sealed) if create.sealed else self._edits.mark(create.manifest)
        kind, meta = manifest["kind"], manifest["metadata"]
        try:
            body = await self._cluster.create(dict(manifest))
        except errors.AlreadyExists:
            body = await self._cluster.get(kind, meta["namespace"], meta["name"])
            if not manifests.ours(body, manifest) or (create.sealed and not self._edits.wrote(body)):
                if kind == "ConfigMap":
                    raise self._refused_config_map(key, manifest, "another object has this name") from None
                self._refuse(
                    key, uid, "PodFailed", f"{kind} {meta['name']!r} exists already and is not this session's; delete or rename it"
                )
                return
        except errors.NamespaceTerminating:
            self._cache.ending_namespaces[meta["namespace"]] = self._cache.clock()
            return
        except errors.Rejected as error:
            if kind == "ConfigMap":
                raise self._refused_config_map(key, manifest, str(error)) from error
            reason = "QuotaExceeded" if isinstance(error, errors.QuotaExceeded) else "PodRefused"
            self._refuse(key, uid, reason, str(error), canonical(meta["labels"].get(SIZE_LABEL, "")))
            return
        if kind == "ConfigMap":
            self._cache.own_config_maps.note((meta["namespace"], meta["name"]), manifests.packages_in(manifest))
            if (version := (meta.get("annotations") or {}).get(PROMPTFLOW_ANNOTATION)) is not None:
                self._cache.promptflow.note((meta["namespace"], meta["name"]), version)
            self._drop_packages(key)
            if create.sealed:
                self._drop_edits(create.sealed)
        else:
            self._cache.refusals.pop(uid, None)
        self._reader.observe(kind, body, by=key)

    def _drop_packages(self, key: Key) -> None:
        """Drop the list of packages that a ConfigMap holds now: with thousands of sessions, such lists are most of what agents report."""
        entry = self._cache.sessions.get((key.namespace, key.name)) if key.kind == "ComputeSession" else None
        for pod in owned_pods(self._cache, entry) if entry else ():
            if (view := self._cache.agents.get(pod.uid)) and view.packages:
                self._cache.agents[pod.uid] = replace(view, packages=None)

    def _drop_edits(self, sealed: Sealed) -> None:
        """Drop the edits that a ConfigMap holds now, and note their revision as saved, so that this does not depend on the status."""
        if view := self._cache.agents.get(sealed.pod_uid):
            self._cache.agents[sealed.pod_uid] = replace(view, edits=None, saved=sealed.revision if sealed.archive else view.saved)

    async def _delete(self, key: Key, deletion: Delete) -> bool:
        """Delete an object; return False if it has changed meanwhile."""
        if deletion.kind == "ConfigMap":
            self._cache.own_config_maps.drop((deletion.namespace, deletion.name))
        try:
            answer = await self._cluster.delete(
                deletion.kind,
                deletion.namespace,
                deletion.name,
                uid=deletion.uid,
                resource_version=deletion.resource_version,
                grace_seconds=deletion.grace_seconds,
                valid_until=deletion.valid_until,
            )
            if (answer.get("metadata") or {}).get("deletionTimestamp"):
                self._reader.observe(deletion.kind, answer)
            else:
                self._queue.add_all(self._cache.forget(deletion.kind, deletion.namespace, deletion.name, deletion.uid))
        except errors.NotFound:
            self._queue.add_all(self._cache.forget(deletion.kind, deletion.namespace, deletion.name, deletion.uid))
        except errors.Conflict:
            await self._reader.refresh(deletion.kind, deletion.namespace, deletion.name)
            self._queue.add(key)
            return False
        return True

    async def _patch(self, write: PatchStatus) -> bool:
        """Write a status; return False if the object has changed meanwhile or is gone."""
        try:
            body = await self._cluster.patch_status(
                write.kind,
                write.namespace,
                write.name,
                dict(write.status),
                resource_version=write.resource_version,
                valid_until=write.valid_until,
            )
        except errors.NotFound:
            self._queue.add_all(self._cache.forget(write.kind, write.namespace, write.name))
            return False
        except errors.Conflict:
            await self._reader.refresh(write.kind, write.namespace, write.name)
            self._queue.add(Key(write.kind, write.namespace, write.name))
            return False
        if write.kind == "FlowEnvironment":
            self._cache.written_at[write.namespace, write.name] = self._cache.clock()
        elif write.kind == "ComputeInstance":
            self._cache.sizing.instances.written_at[write.namespace, write.name] = self._cache.clock()
        elif write.kind == "FlowRun":
            self._cache.runs.written_at[write.namespace, write.name] = self._cache.clock()
        self._reader.observe(write.kind, body, by=Key(write.kind, write.namespace, write.name))
        return True

    def _refused_config_map(self, key: Key, manifest: Mapping[str, Any], words: str) -> _PlanCutError:
        meta = manifest["metadata"]
        self._cache.refused_config_maps.note((meta["namespace"], meta["name"]), words)
        self._queue.add(key)
        return _PlanCutError(words)

    def _refuse(self, key: Key, uid: str, reason: str, message: str, size: str = "") -> None:
        self._cache.refusals[uid] = refused(self._cache.refusals.get(uid), reason, message, size, self._cache.clock())
        self._queue.add(key)
