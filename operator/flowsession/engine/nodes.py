"""Looks at the cluster's nodes now and then: a watch would bring every node's heartbeat, and sizes only ask what there is."""

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
"""How often the nodes are listed while there is a VMSize."""

COUNT_SECONDS = 10.0
"""How often the sessions of each size are counted; a count is written no more often than that."""

_Kind = tuple[frozenset[tuple[str, str]], frozenset[Taint]]


class Nodes:
    """Keeps the pools and counts of the cache's `sizing`. Without a VMSize it does nothing."""

    def __init__(self, cluster: KubernetesCluster, cache: Cache, queue: Queue[Key]) -> None:
        self._cluster = cluster
        self._cache = cache
        self._queue = queue
        self._listed_at = float("-inf")

    async def look_for_ever(self) -> None:
        """Count sessions and list nodes, each at its interval; a new or changed size has the nodes listed with the next count."""
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
                except Exception:  # what nobody thought of must not end the looking
                    log.exception("nodes could not be read")
            # In the same breath as the pools above, so that both come to one write.
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
    """Add nodes to the groups that sizes can't tell apart: same taints, same labels of the keys that any size selects by."""
    known: dict[str, Fraction] = {}
    for node in items:
        try:
            _gather_one(node, keys, resources, grouped, known)
        except Exception:  # one node that can't be read costs only itself
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
    """Return the groups as decisions see them."""
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
