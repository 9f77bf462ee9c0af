"""Deletes ConfigMaps with lists of packages that no session's status names any more."""

import logging
from typing import Any

from flowsession.cluster import errors
from flowsession.cluster.gateway import KubernetesCluster
from flowsession.engine.store.cache import Cache
from flowsession.engine.store.keys import Name
from flowsession.manifests.config_maps import PACKAGES, selector
from flowsession.model import times

log = logging.getLogger(__name__)

PRUNE_SECONDS = 3600.0
YOUNGEST_SECONDS = 3600.0
"""Minimum age of a list that is deleted, in seconds: a session may be about to name a younger one."""


class PackageLists:
    """Prunes lists of packages. An environment has one for each of its recent requirements and images. A list that no session names is kept
    for an hour: with it, the environment's next session starts sooner, since its agent need not list what is installed."""

    def __init__(self, cluster: KubernetesCluster, cache: Cache) -> None:
        self._cluster = cluster
        self._cache = cache
        self._pruned_at = 0.0

    async def prune(self) -> None:
        """Delete old lists that no session names, once an hour. Raises ClusterError."""
        now = self._cache.clock()
        if abs(now - self._pruned_at) < PRUNE_SECONDS:
            return
        self._pruned_at = now
        listed = [meta async for meta in self._cluster.metadata("ConfigMap", labels=selector(PACKAGES, {}))]
        for meta in listed:
            old = now - (times.parse(meta["creationTimestamp"]) or now) > YOUNGEST_SECONDS
            # Computed for each list: a session may have begun to name it while others were being deleted.
            if old and (meta["namespace"], meta["name"]) not in self._in_use():
                await self._remove(meta)

    def _in_use(self) -> set[Name]:
        named = {
            (entry.meta.namespace, (entry.status.get("packages") or {}).get("configMapName", "")) for entry in self._cache.sessions.values()
        }
        return named | self._cache.own_config_maps.names()

    async def _remove(self, meta: dict[str, Any]) -> None:
        try:
            await self._cluster.delete("ConfigMap", meta["namespace"], meta["name"], uid=meta["uid"])
        except (errors.NotFound, errors.Conflict):
            return
