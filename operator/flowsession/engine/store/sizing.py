"""VM sizes, nodes, quotas and instances in the cache, and which sessions they concern."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable

from flowsession.engine.store import objects
from flowsession.engine.store.instances import Instances
from flowsession.engine.store.keys import Key, Name
from flowsession.engine.store.objects import Object, PodEntry, QuotaEntry, SessionEntry, SizeEntry
from flowsession.engine.store.store import Index, Store
from flowsession.model.sizes import Offer, Pool, QuotaView
from flowsession.model.views import Refusal, ScalingView
from flowsession.reconcile import scheduling
from flowsession.reconcile.size import choice
from flowsession.reconcile.size import offer as sizes
from flowsession.reconcile.size.offer import SizeSnapshot
from flowsession.settings import SizeSettings


class Sizing:
    """A part of the cache, like it not thread-safe. Methods that record a change return the keys that it concerns."""

    def __init__(self, settings: SizeSettings | None = None, clock: Callable[[], float] = time.time) -> None:
        self.settings = settings or SizeSettings()
        self._clock = clock
        self.sizes: Store[SizeEntry] = Store(objects.size, self._size_changed)
        self._quotas_of: Index[QuotaEntry] = Index(lambda entry: [entry.meta.namespace])
        self.quotas: Store[QuotaEntry] = Store(objects.quota, self._quota_changed, self._quotas_of)
        self.instances = Instances()
        self.pools: tuple[Pool, ...] = ()
        self.sessions: Counter[str] = Counter()
        """Number of sessions' pods by the Azure name of their size, as last counted."""
        self.events: dict[str, ScalingView] = {}
        """By the uid of a pod that waits for a node."""
        self.nodes_wanted = False
        """Whether a size was added or changed since the nodes were last listed."""
        self._offers: tuple[Offer, ...] | None = None
        self._grown_at: dict[str, float] = {}
        """By namespace: when a quota's room was last seen to grow."""
        self._unplaced: defaultdict[str, set[str]] = defaultdict(set)
        """By namespace: sessions that should have a pod on a node and have none."""
        self.wishes: Index[SessionEntry] = Index(lambda entry: filter(None, [choice.canonical(entry.spec.compute.vm_size)]))
        """Sessions by the object name of the VMSize that they ask for."""

    def offers(self) -> tuple[Offer, ...]:
        """Return every size as a session would get it now."""
        if self._offers is None:
            found = (sizes.offer(entry.meta.name, entry.spec, self.pools, self.settings) for entry in self.sizes.values())
            self._offers = tuple(sorted(found, key=lambda offer: offer.name))
        return self._offers

    def quotas_of(self, namespace: str) -> tuple[QuotaView, ...]:
        """Return the quotas of a namespace by name."""
        return tuple(entry.view for entry in self.quotas.all(sorted(self._quotas_of.of(namespace))))

    def still_holds(self, refusal: Refusal | None, namespace: str) -> Refusal | None:
        """Return the refusal, or None if its quota's room has grown since."""
        grown = refusal is not None and refusal.reason == "QuotaExceeded" and self._grown_at.get(namespace, 0.0) > refusal.at
        return None if grown else refusal

    def snapshot(self, name: str) -> SizeSnapshot | None:
        """Return a size with all that its status depends on; None if it is gone."""
        entry = self.sizes.get(("", name))
        if entry is None or entry.meta.deleting:
            return None
        offer = next(offer for offer in self.offers() if offer.name == name)
        count = self.sessions[entry.spec.azure_name]
        return SizeSnapshot(entry.meta.resource_version, entry.meta.generation, entry.status, offer, count, self.settings.autoscaler)

    def note(self, key: Name, session: SessionEntry | None, *, placed: bool) -> None:
        """Record whether a session waits for a node, so that it is enqueued when nodes change; None: the session is gone."""
        if session is not None and not placed and not session.status.get("suspended"):
            self._unplaced[key[0]].add(key[1])
        elif (waiting := self._unplaced.get(key[0])) is not None:
            waiting.discard(key[1])
            if not waiting:
                del self._unplaced[key[0]]

    def set_pools(self, pools: tuple[Pool, ...]) -> set[Key]:
        """Record the pools that a LIST of the nodes has shown."""
        before = {offer.name: offer for offer in self.offers()}
        self.pools, self._offers = pools, None
        changed = [offer for offer in self.offers() if before.get(offer.name) != offer]
        if not changed:
            return set()
        return {Key("VMSize", "", offer.name) for offer in changed} | self._waiting()

    def count(self, pods: Iterable[PodEntry]) -> set[Key]:
        """Count the sessions of each size; a changed count concerns only the size."""
        self.sessions = Counter(pod.view.vm_size for pod in pods if pod.view.vm_size and pod.view.deleting_since is None and not pod.anchor)
        return {
            Key("VMSize", *name)
            for name, entry in self.sizes.items()
            if entry.status.get("sessions") != self.sessions[entry.spec.azure_name]
        }

    def read_events(self, uid: str, events: Iterable[Object], now: float) -> None:
        """Record the Events of a pod that waits for a node."""
        for old in [pod for pod, view in self.events.items() if now - view.read_at > 2 * scheduling.LONGEST_PAUSE]:
            del self.events[old]
        self.events[uid] = scheduling.read(events, now)

    def _size_changed(self, known: SizeEntry | None, entry: SizeEntry | None) -> set[Key]:
        name = next(one.meta.name for one in (entry, known) if one)
        if known and entry and known.spec == entry.spec:
            return {Key("VMSize", "", name)}
        self._offers = None
        self.nodes_wanted = self.nodes_wanted or entry is not None
        return {Key("VMSize", "", name)} | {Key("ComputeSession", *wishing) for wishing in self.wishes.of(name)} | self._waiting()

    def _quota_changed(self, known: QuotaEntry | None, entry: QuotaEntry | None) -> set[Key]:
        namespace = next(one.meta.namespace for one in (entry, known) if one)
        if entry is None:
            self._grown_at.pop(namespace, None)
            return self._waiting(namespace)
        if known is not None and not _has_grown(known.view, entry.view):
            return set()
        self._grown_at[namespace] = self._clock()
        return self._waiting(namespace)

    def _waiting(self, namespace: str = "") -> set[Key]:
        """Return the keys of sessions and instances without a pod on a node, of one namespace or of all."""
        where = [namespace] if namespace else list(self._unplaced)
        return {Key("ComputeSession", each, name) for each in where for name in self._unplaced.get(each, ())} | self.instances.unplaced(
            namespace
        )


def refused(before: Refusal | None, reason: str, message: str, size: str, now: float) -> Refusal:
    """Return the refusal that follows `before` when a pod of this size (empty: none) is refused. The same size again starts a new round."""
    if before is None or before.reason != reason:
        return Refusal(reason, message, now, 1, {size: message})
    if size in before.sizes:
        return Refusal(reason, message, now, before.count + 1, {size: message})
    return Refusal(reason, message, now, before.count, {**before.sizes, size: message})


def _has_grown(old: QuotaView, new: QuotaView) -> bool:
    """Return whether a quota may have more room than before."""
    if old.scopes != new.scopes or old.hard.keys() != new.hard.keys():
        return True
    return any(new.hard[name] - new.used.get(name, 0) > old.hard[name] - old.used.get(name, 0) for name in new.hard)
