"""Saved edits of flow folders: finds those that a starting session gets back, and removes what is too old."""

import json
import logging
from dataclasses import replace
from typing import Any

from flowsession.api import GROUP
from flowsession.cluster import errors
from flowsession.cluster.gateway import KubernetesCluster
from flowsession.decide import times
from flowsession.decide.agentviews import SavedEdits
from flowsession.decide.configmaps import EDITS, selector
from flowsession.decide.plan import FetchEdits
from flowsession.decide.pod import ENVIRONMENT_LABEL, USER_LABEL, user_label
from flowsession.engine.cache import Cache
from flowsession.engine.keys import Key
from flowsession.engine.queue import Queue

log = logging.getLogger(__name__)

Metadata = dict[str, Any]

MOST_KEPT = 5
"""Saved edits of one user and environment that are kept besides each other: those that nobody took back."""

PRUNE_SECONDS = 3600.0
DAY = 86_400.0


class Edits:
    """The archives themselves are in memory only between a start and the agent's answer: each may have 1 MiB."""

    def __init__(self, cluster: KubernetesCluster, cache: Cache, queue: Queue[Key], *, retention_days: int) -> None:
        self._cluster = cluster
        self._cache = cache
        self._queue = queue
        self._retention = retention_days * DAY
        self._pruned_at = 0.0

    async def fetch(self, key: Key, uid: str, wanted: FetchEdits) -> None:
        """Takes the newest that this user saved of this very environment into the cache. Raises ClusterError."""
        saved = None
        try:
            labels = selector(EDITS, {ENVIRONMENT_LABEL: wanted.environment, USER_LABEL: user_label(wanted.user)})
            listed = [meta async for meta in self._cluster.metadata("ConfigMap", wanted.namespace, labels=labels)]
            found = [meta for meta in listed if _is_for(meta, wanted)]
            found.sort(key=_age, reverse=True)
            for old in found[MOST_KEPT:]:
                await self._remove(old)
            if found:
                saved = _read(await self._cluster.get("ConfigMap", wanted.namespace, found[0]["name"]))
        except errors.NamespaceTerminating:
            raise
        except (errors.Rejected, errors.NotFound) as error:
            log.warning("saved edits can't be read", extra={"key": f"{key.namespace}/{key.name}", "error": str(error)})
        self._cache.saved[uid] = (wanted.incarnation, saved)
        self._queue.add(key)

    async def prune(self) -> None:
        """Removes what is older than the retention, once an hour. Raises ClusterError."""
        now = self._cache.clock()
        if now - self._pruned_at < PRUNE_SECONDS:
            return
        self._pruned_at = now
        old = [
            meta
            async for meta in self._cluster.metadata("ConfigMap", labels=selector(EDITS, {}))
            if now - (times.parse(meta["creationTimestamp"]) or now) > self._retention
        ]
        for meta in old:
            await self._remove(meta)

    async def _remove(self, meta: Metadata) -> None:
        try:
            await self._cluster.delete("ConfigMap", meta["namespace"], meta["name"], uid=meta["uid"])
        except (errors.NotFound, errors.Conflict):
            return


def given(cache: Cache, key: Key) -> None:
    """The agent has them: the name alone is still of use."""
    entry = cache.sessions.get((key.namespace, key.name))
    known = cache.saved.get(entry.meta.uid) if entry else None
    if entry and known and known[1]:
        cache.saved[entry.meta.uid] = (known[0], replace(known[1], archive=""))


def _is_for(meta: Metadata, wanted: FetchEdits) -> bool:
    """Labels hold a hash of the user's name and the environment's name only; an environment made anew is another one."""
    owners = {owner["uid"] for owner in meta.get("ownerReferences", ())}
    return (meta.get("annotations") or {}).get(f"{GROUP}/user") == wanted.user and owners <= {wanted.environment_uid}


def _age(meta: Metadata) -> tuple[str, int]:
    """By creation, whose whole seconds leave ties to the resourceVersion."""
    version = meta["resourceVersion"]
    return meta["creationTimestamp"], int(version) if version.isdigit() else 0


def _read(body: dict[str, Any]) -> SavedEdits | None:
    archive = (body.get("binaryData") or {}).get("edits.tar.gz", "")
    try:
        about = json.loads((body.get("data") or {}).get("edits.json", "{}"))
        deleted = tuple(str(name) for name in about.get("deleted", ()))
        return SavedEdits(
            name=body["metadata"]["name"],
            saved_at=str(about.get("savedAt", "")),
            flow_revision=str(about.get("flowRevision", "")),
            deleted=deleted,
            archive=archive,
        )
    except (ValueError, AttributeError, TypeError):
        log.warning("saved edits are damaged", extra={"object": body["metadata"]["name"]})
        return None
