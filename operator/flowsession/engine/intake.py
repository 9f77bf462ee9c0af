"""The one way into the cache: what watches, lists and the answers to writes bring. An object that can't be read costs only itself."""

import logging
from dataclasses import dataclass
from typing import Any

from flowsession import metrics
from flowsession.engine.queue import Queue
from flowsession.engine.store.cache import Cache
from flowsession.engine.store.keys import Key
from flowsession.model.plan import Event

LONGEST_REASON = 300

SETTLE_SECONDS = 0.25
"""How long a decision waits that nobody waits for: one about an object whose change was an own write, whose plan has said all there was to
say, or about a pod that is Pending still. Whatever else happens to the object meanwhile is decided on at once, and together with it."""

log = logging.getLogger(__name__)


@dataclass
class _Unread:
    uid: str
    event: Event
    reported: bool = False


class Intake:
    """Whatever raises while an object is read or noted is counted, logged, and told to the object's owner in an Event."""

    def __init__(self, cache: Cache, queue: Queue[Key]) -> None:
        self._cache = cache
        self._queue = queue
        self._unread: dict[Key, _Unread] = {}

    def take(self, kind: str, body: Any, *, deleted: bool = False, by: Key | None = None) -> Key | None:
        """Take an object into the cache and enqueue the keys that it concerns; return its own key, None if it has no name.

        `by` is the key of the plan whose write it is the answer to.
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
            concerned = self._cache.forget(kind, key.namespace, key.name, uid) if deleted else self._cache.observe(kind, body)
        except Exception as error:
            metrics.unreadable.labels(kind).inc()
            self._note(key, uid, error)
            return key
        self._unread.pop(key, None)
        settling = concerned if kind == "Pod" and not deleted and self._pending(key) else {by}
        self._queue.add_all(concerned - settling)
        for one in concerned & settling:
            self._queue.add_after(one, SETTLE_SECONDS)
        return key

    def _pending(self, pod: Key) -> bool:
        entry = self._cache.pods.get((pod.namespace, pod.name))
        return entry is not None and entry.view.phase == "Pending" and entry.view.deleting_since is None

    def forget(self, key: Key) -> None:
        """Drop an object that a list no longer has."""
        self.take(key.kind, {"metadata": {"namespace": key.namespace, "name": key.name}}, deleted=True)

    def keys(self, kind: str) -> list[Key]:
        """Return the keys of a kind's unreadable objects."""
        return [key for key in self._unread if key.kind == kind]

    def unread(self, key: Key) -> bool:
        """Return whether the object's present state is unreadable: nothing is decided about it by its former state."""
        return key in self._unread

    def untold(self, key: Key) -> tuple[str, Event] | None:
        """Return, once, the uid of an unreadable object and the Event for its owner."""
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
