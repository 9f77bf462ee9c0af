"""The only way into the cache, for watches, LISTs and responses to writes. An unreadable object affects nothing but itself."""

import logging
from dataclasses import dataclass
from typing import Any

from flowsession import metrics
from flowsession.engine.queue import Queue
from flowsession.engine.store.cache import Cache
from flowsession.engine.store.keys import Key
from flowsession.engine.store.objects import PodEntry
from flowsession.model.plan import Event
from flowsession.reconcile.session.draft import PROGRESS_SECONDS

LONGEST_REASON = 300

SETTLE_SECONDS = 0.25
"""Seconds by which decisions that nothing waits for are delayed: after an own write, whose plan already covered the object, and about a pod
that is still Pending. Any other change of the object meanwhile is decided on at once, together with the delayed one."""

STARTING_SECONDS = PROGRESS_SECONDS
"""The same for a session whose own pod is about to start, as expected: its status would not say so earlier."""

log = logging.getLogger(__name__)


@dataclass
class _Unread:
    uid: str
    event: Event
    reported: bool = False


class Intake:
    """Puts objects into the cache. An error in this is counted, logged, and reported to the object's owner in an Event."""

    def __init__(self, cache: Cache, queue: Queue[Key]) -> None:
        self._cache = cache
        self._queue = queue
        self._unread: dict[Key, _Unread] = {}

    def take(self, kind: str, body: Any, *, deleted: bool = False, by: Key | None = None) -> Key | None:
        """Put an object into the cache and enqueue the keys that it concerns. Return its own key, or None if it has no name.

        `by` is the key whose plan wrote the object, if it is from a response to a write.
        """
        try:
            meta = body["metadata"]
            key, uid = Key(kind, str(meta.get("namespace") or ""), meta["name"]), str(meta.get("uid") or "")
            if not isinstance(key.name, str) or not key.name:
                raise TypeError("metadata.name is no name")
        except Exception:
            metrics.unreadable.labels(kind).inc()
            log.exception("an object has no name", extra={"kind": kind})
            return None
        try:
            if deleted:
                concerned = self._cache.forget(kind, key.namespace, key.name, uid, str(meta.get("resourceVersion") or ""))
            else:
                concerned = self._cache.observe(kind, body)
        except Exception as error:
            metrics.unreadable.labels(kind).inc()
            self._note(key, uid, error)
            return key
        self._unread.pop(key, None)
        pod = self._cache.pods.get((key.namespace, key.name)) if kind == "Pod" and not deleted else None
        for one in concerned:
            if pause := _pause(one, pod, by):
                self._queue.add_after(one, pause)
            else:
                self._queue.add(one)
        return key

    def forget(self, key: Key) -> None:
        """Drop an object that is no longer in a LIST."""
        self.take(key.kind, {"metadata": {"namespace": key.namespace, "name": key.name}}, deleted=True)

    def keys(self, kind: str) -> list[Key]:
        """Return the keys of a kind's unreadable objects."""
        return [key for key in self._unread if key.kind == kind]

    def unread(self, key: Key) -> bool:
        """Return whether the object's current state is unreadable. If so, no decision is made from its former state."""
        return key in self._unread

    def take_unreported(self, key: Key) -> tuple[str, Event] | None:
        """Return the uid of an unreadable object and the Event for its owner, once; after that None."""
        found = self._unread.get(key)
        if found is None or found.reported:
            return None
        found.reported = True
        return found.uid, found.event

    def _note(self, key: Key, uid: str, error: Exception) -> None:
        why = f"{type(error).__name__}: {error}"[:LONGEST_REASON]
        message = f"the operator can't read this {key.kind} and leaves it alone ({why}): correct or delete it; are the CRDs of its version?"
        event, known = Event(True, "Unreadable", message), self._unread.get(key)
        if known is not None and (known.uid, known.event) == (uid, event):
            return
        self._unread[key] = _Unread(uid, event)
        self._queue.add(key)
        log.error("object can't be read", exc_info=error, extra={"kind": key.kind, "object": f"{key.namespace}/{key.name}"})


def _pause(concerned: Key, pod: PodEntry | None, by: Key | None) -> float:
    """Return the seconds by which a decision is delayed: about what the change of a pod concerns, or what the plan of `by` has written."""
    if pod is not None and pod.view.pending:
        own = concerned == Key("ComputeSession", pod.view.namespace, pod.session)
        return STARTING_SECONDS if own and pod.view.starting_well else SETTLE_SECONDS
    return SETTLE_SECONDS if concerned == by else 0.0
