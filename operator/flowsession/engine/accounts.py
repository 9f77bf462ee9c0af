"""ServiceAccounts by namespace, listed when a decision depends on them: a watch of the whole cluster would nearly always be wasted."""

import asyncio
import time
from collections.abc import Callable
from weakref import WeakValueDictionary

from flowsession.cluster.gateway import KubernetesCluster
from flowsession.model.views import Account
from flowsession.reconcile import identity

FRESH_SECONDS = 2.0
"""Seconds for which a list is reused, so that many sessions starting at once in a namespace cause one LIST."""


class Accounts:
    """Lists one namespace at a time, metadata only, and keeps each list for FRESH_SECONDS."""

    def __init__(self, cluster: KubernetesCluster, clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster = cluster
        self._clock = clock
        self._lists: dict[str, tuple[float, tuple[Account, ...]]] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def lately(self, namespace: str) -> tuple[Account, ...] | None:
        """Return the namespace's ServiceAccounts if they were listed within FRESH_SECONDS, else None."""
        listed = self._lists.get(namespace)
        return listed[1] if listed and self._clock() - listed[0] < FRESH_SECONDS else None

    async def read(self, namespace: str) -> None:
        """List the namespace's ServiceAccounts, once for all concurrent callers. Raises ClusterError."""
        lock = self._locks.setdefault(namespace, asyncio.Lock())
        async with lock:
            if self.lately(namespace) is None:
                found = [identity.read(meta) async for meta in self._cluster.metadata("ServiceAccount", namespace)]
                self._lists = {where: listed for where, listed in self._lists.items() if self._clock() - listed[0] < FRESH_SECONDS}
                self._lists[namespace] = (self._clock(), tuple(found))
