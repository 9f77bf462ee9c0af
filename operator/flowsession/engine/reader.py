"""Reads from the API server what no watch delivers."""

from typing import Any

from flowsession.cluster import errors
from flowsession.cluster.gateway import KubernetesCluster
from flowsession.engine.edits import Edits
from flowsession.engine.intake import Intake
from flowsession.engine.queue import Queue
from flowsession.engine.store.cache import Cache
from flowsession.engine.store.keys import Key
from flowsession.model.plan import Fetch, FetchEdits, Plan, ReadEvents


class Reader:
    """Puts everything that it reads into the cache."""

    def __init__(self, cluster: KubernetesCluster, cache: Cache, queue: Queue[Key], edits: Edits, intake: Intake) -> None:
        self._cluster = cluster
        self._cache = cache
        self._queue = queue
        self._edits = edits
        self._intake = intake

    async def _fetch(self, fetch: Fetch) -> None:
        try:
            body = await self._cluster.get("ConfigMap", fetch.namespace, fetch.name)
        except errors.NotFound:
            self._queue.add_all(self._cache.config_maps.missing((fetch.namespace, fetch.name)))
        else:
            self.observe("ConfigMap", body)

    async def read(self, key: Key, plan: Plan) -> None:
        """Read the ConfigMaps and Events that a plan asks for. Raises ClusterError."""
        for fetch in plan.fetches:
            await self._fetch(fetch)
        if plan.read_events is not None:
            await self._read_events(key, plan.read_events)

    async def edits(self, key: Key, uid: str, wanted: FetchEdits) -> None:
        """Read the saved edits that a plan asks for. Raises ClusterError."""
        await self._edits.fetch(key, uid, wanted)

    async def refresh(self, kind: str, namespace: str, name: str) -> None:
        """Read an object that somebody else has changed, since the watch may not have delivered it yet."""
        try:
            self.observe(kind, await self._cluster.get(kind, namespace, name))
        except errors.NotFound:
            self._queue.add_all(self._cache.forget(kind, namespace, name))

    def observe(self, kind: str, body: dict[str, Any], *, by: Key | None = None) -> None:
        """Put an object into the cache and enqueue the keys that it concerns; `by` is the key whose plan wrote it."""
        self._intake.take(kind, body, by=by)

    async def _read_events(self, key: Key, wanted: ReadEvents) -> None:
        found = []
        async for items, _ in self._cluster.list("Event", namespace=wanted.namespace, fields=f"involvedObject.uid={wanted.uid}"):
            found += items
        self._cache.sizing.read_events(wanted.uid, found, self._cache.clock())
        self._queue.add(key)
