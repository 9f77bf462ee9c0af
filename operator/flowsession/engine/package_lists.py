"""Lists of packages in ConfigMaps: removes those that no session's status names any more."""

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
"""What is younger may be about to be named."""


class PackageLists:
    """An environment has one for each of its requirements and images of late. One that no session names stays for an hour, since the next
    session of its environment starts sooner with it: its agent need not list what is installed."""

    def __init__(self, cluster: KubernetesCluster, cache: Cache) -> None:
        self._cluster = cluster
        self._cache = cache
        self._pruned_at = 0.0

    async def prune(self) -> None:
        """Remove the old ones, once an hour. Raises ClusterError."""
        now = self._cache.clock()
        if abs(now - self._pruned_at) < PRUNE_SECONDS:
            return
        self._pruned_at = now
        listed = [meta async for meta in self._cluster.metadata("ConfigMap", labels=selector(PACKAGES, {}))]
        for meta in listed:
            old = now - (times.parse(meta["creationTimestamp"]) or now) > YOUNGEST_SECONDS
            # Asked anew for each: a session may have come to name it while others were being removed.
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
