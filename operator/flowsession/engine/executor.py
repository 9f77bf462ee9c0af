"""Carries out a plan: at most one write for each object, every answer straight into the cache."""

import logging
from collections.abc import Mapping
from typing import Any

from flowsession.cluster import errors
from flowsession.cluster.gateway import KubernetesCluster
from flowsession.decide.choice import canonical
from flowsession.decide.placement import SIZE_LABEL
from flowsession.decide.plan import AnnotatePod, Create, Delete, DeletePackages, Fetch, PatchStatus, Plan, ReadEvents
from flowsession.decide.pod import ENVIRONMENT_LABEL, MANAGED_BY, MANAGER
from flowsession.decide.serve import packages_prefix
from flowsession.engine import objects
from flowsession.engine.agents import Agents
from flowsession.engine.cache import Cache
from flowsession.engine.keys import Key
from flowsession.engine.queue import Queue
from flowsession.engine.recorder import Recorder
from flowsession.engine.sizing import refused
from flowsession.engine.snapshot import owned_pods

log = logging.getLogger(__name__)

_ORDER = {"ConfigMap": 0, "Pod": 1}


class _PlanCutError(Exception):
    """Something that the rest of the plan builds on was refused: the next decision knows of it."""


class Executor:
    """The only one who writes. Raises ClusterError for what is to be tried again."""

    def __init__(self, cluster: KubernetesCluster, cache: Cache, queue: Queue[Key], agents: Agents, recorder: Recorder) -> None:
        self._cluster = cluster
        self._cache = cache
        self._queue = queue
        self._agents = agents
        self._recorder = recorder

    async def carry_out(self, key: Key, uid: str, plan: Plan) -> None:
        """What is new first, then the status, then what goes: a status that comes too late, because somebody has changed the object
        meanwhile, must not cost anybody a pod."""
        if plan.look_again_at is not None:
            self._queue.add_after(key, plan.look_again_at - self._cache.clock())
        if plan.call is not None:
            self._call(key, plan)
        await self._read(key, plan)
        if plan.clean is not None:
            await self._clean(plan.clean)
        try:
            for create in sorted(plan.creates, key=lambda c: _ORDER.get(c.manifest["kind"], 9)):
                await self._create(key, uid, create)
        except _PlanCutError:
            return
        if plan.status is not None and not await self._patch(plan.status):
            return
        own = [deletion for deletion in plan.deletes if deletion.uid == uid]
        for deletion in plan.deletes:
            if deletion not in own and not await self._delete(key, deletion):
                return
        if plan.marks is not None:
            await self._annotate(plan.marks)
        # Before the object's own end: nobody could tell of it afterwards.
        for event in plan.events:
            await self._recorder.record(key, uid, event)
        for deletion in own:
            await self._delete(key, deletion)

    def _call(self, key: Key, plan: Plan) -> None:
        entry = self._cache.sessions.get((key.namespace, key.name))
        if entry is None or plan.call is None:
            return
        if pods := owned_pods(self._cache, entry):
            self._agents.start(key, pods[-1], plan.call)

    async def _clean(self, clean: DeletePackages) -> None:
        labels = f"{MANAGED_BY}={MANAGER},{ENVIRONMENT_LABEL}={clean.environment}"
        await self._cluster.delete_all("ConfigMap", clean.namespace, labels=labels)
        for key in [
            key
            for key in self._cache.own_config_maps
            if key[0] == clean.namespace and key[1].startswith(packages_prefix(clean.environment))
        ]:
            del self._cache.own_config_maps[key]

    async def _fetch(self, fetch: Fetch) -> None:
        try:
            body = await self._cluster.get("ConfigMap", fetch.namespace, fetch.name)
        except errors.NotFound:
            self._bring_up(self._cache.missing_config_map(fetch.namespace, fetch.name))
        else:
            self._observe("ConfigMap", body)

    async def _read(self, key: Key, plan: Plan) -> None:
        for fetch in plan.fetches:
            await self._fetch(fetch)
        if plan.read_events is not None:
            await self._read_events(key, plan.read_events)

    async def _read_events(self, key: Key, wanted: ReadEvents) -> None:
        found = []
        async for items, _ in self._cluster.list("Event", namespace=wanted.namespace, fields=f"involvedObject.uid={wanted.uid}"):
            found += items
        self._cache.sizing.read_events(wanted.uid, found, self._cache.clock())
        self._queue.add(key)

    async def _annotate(self, wanted: AnnotatePod) -> None:
        """A pod that is gone, or is another one by now, needs no marks."""
        body = {"metadata": {"uid": wanted.uid, "annotations": dict(wanted.annotations)}}
        try:
            self._observe("Pod", await self._cluster.patch("Pod", wanted.namespace, wanted.name, body))
        except errors.NotFound:
            self._bring_up(self._cache.forget("Pod", wanted.namespace, wanted.name, wanted.uid))
        except errors.Conflict:
            await self._refresh("Pod", wanted.namespace, wanted.name)

    async def _create(self, key: Key, uid: str, create: Create) -> None:
        manifest = create.manifest
        kind, meta = manifest["kind"], manifest["metadata"]
        try:
            body = await self._cluster.create(dict(manifest))
        except errors.AlreadyExists:
            body = await self._cluster.get(kind, meta["namespace"], meta["name"])
            if not _ours(body, manifest):
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
            self._cache.own_config_maps[meta["namespace"], meta["name"]] = (_packages_in(manifest), self._cache.clock())
        else:
            self._cache.refusals.pop(uid, None)
        self._observe(kind, body)

    async def _delete(self, key: Key, deletion: Delete) -> bool:
        """Whether it goes, or is gone: not if it has changed meanwhile."""
        try:
            answer = await self._cluster.delete(
                deletion.kind,
                deletion.namespace,
                deletion.name,
                uid=deletion.uid,
                resource_version=deletion.resource_version,
                grace_seconds=deletion.grace_seconds,
            )
            if (answer.get("metadata") or {}).get("deletionTimestamp"):
                self._observe(deletion.kind, answer)
            else:
                self._bring_up(self._cache.forget(deletion.kind, deletion.namespace, deletion.name, deletion.uid))
        except errors.NotFound:
            self._bring_up(self._cache.forget(deletion.kind, deletion.namespace, deletion.name, deletion.uid))
        except errors.Conflict:
            await self._refresh(deletion.kind, deletion.namespace, deletion.name)
            self._queue.add(key)
            return False
        return True

    async def _patch(self, write: PatchStatus) -> bool:
        """Whether it was written: not if the object has changed meanwhile, or is gone."""
        try:
            body = await self._cluster.patch_status(
                write.kind, write.namespace, write.name, dict(write.status), resource_version=write.resource_version
            )
        except errors.NotFound:
            self._bring_up(self._cache.forget(write.kind, write.namespace, write.name))
            return False
        except errors.Conflict:
            await self._refresh(write.kind, write.namespace, write.name)
            self._queue.add(Key(write.kind, write.namespace, write.name))
            return False
        if write.kind == "FlowEnvironment":
            self._cache.written_at[write.namespace, write.name] = self._cache.clock()
        self._observe(write.kind, body)
        return True

    async def _refresh(self, kind: str, namespace: str, name: str) -> None:
        """Another one has written: what it wrote may still be on its way through the watch."""
        try:
            self._observe(kind, await self._cluster.get(kind, namespace, name))
        except errors.NotFound:
            self._bring_up(self._cache.forget(kind, namespace, name))

    def _refused_config_map(self, key: Key, manifest: Mapping[str, Any], words: str) -> _PlanCutError:
        meta = manifest["metadata"]
        self._cache.refused_config_maps[meta["namespace"], meta["name"]] = (words, self._cache.clock())
        self._queue.add(key)
        return _PlanCutError(words)

    def _refuse(self, key: Key, uid: str, reason: str, message: str, size: str = "") -> None:
        self._cache.refusals[uid] = refused(self._cache.refusals.get(uid), reason, message, size, self._cache.clock())
        self._queue.add(key)

    def _observe(self, kind: str, body: dict[str, Any]) -> None:
        try:
            self._bring_up(self._cache.observe(kind, body))
        except objects.Unreadable:
            log.exception("unreadable object", extra={"kind": kind, "name": body["metadata"].get("name")})

    def _bring_up(self, keys: set[Key]) -> None:
        for key in keys:
            self._queue.add(key)


def _ours(body: Mapping[str, Any], manifest: Mapping[str, Any]) -> bool:
    """Whether what stands under our name is what we would have made: same owner, or for shared things our own label."""
    wanted = {owner["uid"] for owner in manifest["metadata"].get("ownerReferences", ())}
    found = {owner["uid"] for owner in body["metadata"].get("ownerReferences", ())}
    labelled = (body["metadata"].get("labels") or {}).get(MANAGED_BY) == manifest["metadata"]["labels"][MANAGED_BY]
    return labelled and wanted <= found


def _packages_in(manifest: Mapping[str, Any]) -> int:
    table: str = (manifest.get("data") or {}).get("packages.txt", "")
    return max(0, table.count("\n") - 1)
