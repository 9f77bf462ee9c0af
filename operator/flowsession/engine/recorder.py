"""Writes Events: a repeated one only increases its count, and their rate is limited for each object."""

import asyncio
import logging
import time
from collections import OrderedDict
from typing import Any

from flowsession.api import API_VERSION
from flowsession.cluster import errors
from flowsession.cluster.gateway import KubernetesCluster
from flowsession.engine.allowance import Allowance
from flowsession.engine.store.keys import Key
from flowsession.model import times
from flowsession.model.plan import Event

log = logging.getLogger(__name__)

REMEMBERED = 4096
MOST_DEFERRED = REMEMBERED // 2
CORE_KINDS = frozenset({"Pod", "ConfigMap", "ResourceQuota"})
"""Kinds of API version v1."""
RETRY_SECONDS = 5.0
LONGEST_RETRY_SECONDS = 60.0
RETRIED_SECONDS = 600.0
"""Seconds: first and longest pause, and total time, of retries for an Event that the API server did not accept."""

BURST = 25
"""Events about one object that may be written at once; then one every REFILL_SECONDS, as in client-go's spam filter."""
REFILL_SECONDS = 300.0


def _about(key: Key, uid: str, event: Event) -> tuple[Key, str]:
    """Return the key and uid of the object that an Event is about."""
    return (key, uid) if event.about is None else (Key(event.about.kind, key.namespace, event.about.name), event.about.uid)


class Recorder:
    """Events are for people, not for the operator: one that can't be written delays nothing, and is retried for a while."""

    def __init__(self, cluster: KubernetesCluster, instance: str) -> None:
        self._cluster = cluster
        self._instance = instance
        self._written: OrderedDict[tuple[str, str, str], tuple[str, int]] = OrderedDict()
        self._buckets = Allowance(BURST, REFILL_SECONDS, REMEMBERED)
        self._unwritten: OrderedDict[tuple[str, str, str], tuple[float, Key, Event]] = OrderedDict()
        """Deferred and failed Events by uid, reason and message, each with when it was first tried or deferred."""
        self._some_left = asyncio.Event()
        """Set while there may be any, so that an operator at rest doesn't wake for them."""

    async def write_late_forever(self) -> None:
        """Write deferred and failed Events, forever."""
        pause = RETRY_SECONDS
        while True:
            if not self._unwritten:
                self._some_left.clear()
            await self._some_left.wait()
            await asyncio.sleep(pause)
            pause = RETRY_SECONDS if await self.write_late() else min(LONGEST_RETRY_SECONDS, 2 * pause)

    async def write_late(self) -> bool:
        """Try once to write deferred and failed Events; drop those that are too old. Return whether the API server accepts Events."""
        for same, (since, key, event) in list(self._unwritten.items()):
            self._unwritten.pop(same, None)
            if time.monotonic() - since < RETRIED_SECONDS:
                await self._record(key, same[0], event, since)
                if same in self._unwritten:
                    return False
        return True

    def defer(self, key: Key, uid: str, event: Event) -> bool:
        """Defer an Event until the operator is less busy; return False if too many are deferred already."""
        if len(self._unwritten) >= MOST_DEFERRED:
            return False
        key, uid = _about(key, uid, event)
        self._leave((uid, event.reason, event.message), time.monotonic(), key, event)
        return True

    async def record(self, key: Key, uid: str, event: Event, *, late: bool = True) -> bool:
        """Write an Event about an object, or increase the count of the same one. Return False if the API server did not accept it for
        now: it is then retried for a while, unless `late` is false and the caller does that."""
        key, uid = _about(key, uid, event)
        return await self._record(key, uid, event, time.monotonic() if late else None)

    async def _record(self, key: Key, uid: str, event: Event, since: float | None) -> bool:
        self._unwritten.pop((uid, event.reason, event.message), None)
        if not self._may(uid):
            return True
        now = times.stamp(time.time() - (0.0 if since is None else time.monotonic() - since))
        same = (uid, event.reason, event.message)
        try:
            if same in self._written:
                name, count = self._written[same]
                try:
                    await self._cluster.patch("Event", key.namespace or "default", name, {"count": count + 1, "lastTimestamp": now})
                    self._written[same] = (name, count + 1)
                    self._buckets.of(uid, time.monotonic()).left -= 1
                    return True
                except errors.NotFound:
                    del self._written[same]  # Events expire after an hour; this one is written anew
            created = await self._cluster.create(self._manifest(key, uid, event, now))
            self._written[same] = (created["metadata"]["name"], 1)
            # Only written Events count against the limit: an outage must not suppress the Events after it.
            self._buckets.of(uid, time.monotonic()).left -= 1
            while len(self._written) > REMEMBERED:
                self._written.popitem(last=False)
        except errors.ClusterError as error:
            self._written.pop(same, None)
            log.info("event not written", extra={"key": f"{key.namespace}/{key.name}", "error": str(error)})
            if not isinstance(error, errors.Unavailable | errors.Throttled):
                return True
            if since is not None:
                self._leave(same, since, key, event)
                while len(self._unwritten) > REMEMBERED:
                    self._unwritten.popitem(last=False)
            return False
        return True

    def _leave(self, same: tuple[str, str, str], since: float, key: Key, event: Event) -> None:
        self._unwritten[same] = (since, key, event)
        self._some_left.set()

    def _may(self, uid: str) -> bool:
        now = time.monotonic()
        return self._buckets.of(uid, now).refilled(now) >= 1

    def _manifest(self, key: Key, uid: str, event: Event, now: str) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{key.name}.{time.time_ns():x}", "namespace": key.namespace or "default"},
            "involvedObject": {
                "apiVersion": "v1" if key.kind in CORE_KINDS else API_VERSION,
                "kind": key.kind,
                "namespace": key.namespace,
                "name": key.name,
                "uid": uid,
            },
            "type": "Warning" if event.warning else "Normal",
            "reason": event.reason,
            "message": event.message[:1024],
            "source": {"component": "flowsession"},
            "reportingComponent": "flowsession.dev/operator",
            "reportingInstance": self._instance,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
