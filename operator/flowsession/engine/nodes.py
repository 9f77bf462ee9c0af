"""Lists the cluster's nodes periodically: a watch would deliver every node's heartbeat, and sizes only need what exists."""

import asyncio
import logging
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

from flowsession.api.quantity import parse
from flowsession.cluster import errors
from flowsession.cluster.gateway import KubernetesCluster
from flowsession.engine.queue import Queue
from flowsession.engine.store.cache import Cache
from flowsession.engine.store.keys import Key
from flowsession.model.sizes import Pool, Taint

log = logging.getLogger(__name__)

LIST_SECONDS = 60.0
"""Seconds between two LISTs of the nodes while a VMSize exists."""

COUNT_SECONDS = 10.0
"""Seconds between two counts of each size's sessions, and so at least between two writes of a count."""

_Kind = tuple[frozenset[tuple[str, str]], frozenset[Taint]]


class Nodes:
    """Updates the pools and counts in the cache's `sizing`. Does nothing without a VMSize."""

    def __init__(self, cluster: KubernetesCluster, cache: Cache, queue: Queue[Key]) -> None:
        self._cluster = cluster
        self._cache = cache
        self._queue = queue
        self._listed_at = float("-inf")

    async def look_forever(self) -> None:
        """Count sessions and list nodes, each at its interval. After a size was added or changed, list the nodes with the next count."""
        while True:
            await asyncio.sleep(COUNT_SECONDS)
            sizing = self._cache.sizing
            if not sizing.sizes:
                continue
            if sizing.nodes_wanted or self._cache.clock() - self._listed_at >= LIST_SECONDS:
                try:
                    await self.look()
                except errors.ClusterError as error:
                    log.warning("nodes could not be listed; they will be, with the next count", extra={"error": str(error)})
                except Exception:  # an unforeseen error must not end the loop
                    log.exception("nodes could not be read")
            # Right after the pools above, so that both lead to one write.
            self._queue.add_all(sizing.count(self._cache.pods.values()))

    async def look(self) -> None:
        """List the nodes if there is a VMSize. Raises ClusterError."""
        sizing = self._cache.sizing
        if not sizing.sizes:
            return
        sizing.nodes_wanted, asked_at = False, self._cache.clock()
        specs = [entry.spec for entry in sizing.sizes.values()]
        keys = {key for spec in specs for key in spec.node_selector or {}}
        resources = {resource for spec in specs for resource in spec.capacity}
        grouped: dict[_Kind, tuple[dict[str, Fraction], int]] = {}
        async for items, _ in self._cluster.list("Node"):
            gather(items, keys, resources, grouped)
        self._listed_at = asked_at
        self._queue.add_all(sizing.set_pools(pools(grouped)))


def gather(
    items: Iterable[dict[str, Any]], keys: set[str], resources: set[str], grouped: dict[_Kind, tuple[dict[str, Fraction], int]]
) -> None:
    """Add nodes to groups that are alike for every size: same taints, and same labels among the keys that any size selects by."""
    known: dict[str, Fraction] = {}
    for node in items:
        try:
            _gather_one(node, keys, resources, grouped, known)
        except Exception:  # an unreadable node affects nothing but itself
            log.exception("a node can't be read", extra={"node": str(node)[:200]})


def _gather_one(
    node: dict[str, Any],
    keys: set[str],
    resources: set[str],
    grouped: dict[_Kind, tuple[dict[str, Fraction], int]],
    known: dict[str, Fraction],
) -> None:
    labels = node["metadata"].get("labels") or {}
    taints = frozenset(
        Taint(taint["key"], taint.get("value") or "", taint["effect"]) for taint in (node.get("spec") or {}).get("taints") or ()
    )
    kind = (frozenset((key, labels[key]) for key in keys if key in labels), taints)
    gives = _allocatable((node.get("status") or {}).get("allocatable") or {}, resources, known)
    least, count = grouped.get(kind, ({}, 0))
    for resource, amount in gives.items():
        least[resource] = min(amount, least.get(resource, amount))
    grouped[kind] = (least, count + 1)


def pools(grouped: dict[_Kind, tuple[dict[str, Fraction], int]]) -> tuple[Pool, ...]:
    """Return the groups as pools, which decisions use."""
    return tuple(
        Pool(dict(labels), tuple(sorted(taints, key=lambda taint: (taint.key, taint.value, taint.effect))), least, count)
        for (labels, taints), (least, count) in sorted(
            grouped.items(), key=lambda item: (sorted(item[0][0]), str(sorted(map(str, item[0][1]))))
        )
    )


def _allocatable(quantities: dict[str, str], resources: set[str], known: dict[str, Fraction]) -> dict[str, Fraction]:
    """Return a node's allocatable resources; a quantity in `known` isn't parsed again, since the nodes of a pool are alike."""
    found = {}
    for resource in resources & quantities.keys():
        quantity = quantities[resource]
        try:
            found[resource] = known[quantity] if quantity in known else known.setdefault(quantity, parse(quantity))
        except ValueError:
            log.warning("a node's allocatable can't be read", extra={"resource": resource, "quantity": quantity})
    return found
