"""What is known of VM sizes, of the nodes that have them, of quotas and instances, and which sessions that concerns."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from flowsession.engine.store import objects
from flowsession.engine.store.instances import Instances
from flowsession.engine.store.keys import Key, Name, newer
from flowsession.engine.store.objects import Object, PodEntry, SessionEntry, SizeEntry
from flowsession.reconcile import scheduling
from flowsession.reconcile.session.snapshot import Refusal, ScalingView
from flowsession.reconcile.size import choice, quota
from flowsession.reconcile.size import offer as sizes
from flowsession.reconcile.size.offer import Offer, Pool, SizeSnapshot
from flowsession.reconcile.size.quota import QuotaView
from flowsession.settings import SizeSettings


@dataclass
class Sizing:
    """A part of the cache, of one thread like it. What learns something returns the keys that it concerns."""

    settings: SizeSettings = field(default_factory=SizeSettings)
    sizes: dict[str, SizeEntry] = field(default_factory=dict)
    quotas: dict[Name, tuple[QuotaView, str, str]] = field(default_factory=dict)
    """With uid and resourceVersion."""
    pools: tuple[Pool, ...] = ()
    sessions: Counter[str] = field(default_factory=Counter)
    """Number of sessions' pods by Azure's name of their size, as last counted."""
    events: dict[str, ScalingView] = field(default_factory=dict)
    """By the uid of a pod that waits for a node."""
    instances: Instances = field(default_factory=Instances)
    nodes_wanted: bool = False
    """Whether a size has come or changed since the nodes were listed last."""
    _offers: tuple[Offer, ...] | None = None
    _grown_at: dict[str, float] = field(default_factory=dict)
    """By namespace: when a quota was last seen to have more room than before."""
    _quotas_of: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    _unplaced: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """By namespace: sessions that shall have a pod on a node and have none."""
    _wishes: dict[Name, str] = field(default_factory=dict)
    """Sessions that name a size, with the name of its object."""

    def observe(self, kind: str, body: Object, now: float) -> set[Key]:
        """Takes in an object if it is news. Raises objects.Unreadable."""
        match kind:
            case "VMSize":
                return self._observe_size(objects.size(body))
            case "ResourceQuota":
                return self._observe_quota(body, now)
            case "ComputeInstance":
                return self.instances.observe(body)
        return set()

    def forget(self, kind: str, key: Name, uid: str = "") -> set[Key]:
        """Drops an object that is gone; with a uid only that very one."""
        if kind == "VMSize" and key[1] in self.sizes and uid in ("", self.sizes[key[1]].meta.uid):
            del self.sizes[key[1]]
            self._offers = None
            return self._concerned_by_size(key[1])
        if kind == "ResourceQuota" and key in self.quotas and uid in ("", self.quotas[key][1]):
            del self.quotas[key]
            self._quotas_of[key[0]].discard(key[1])
            self._grown_at.pop(key[0], None)
            return self._waiting(key[0])
        return self.instances.forget(key, uid) if kind == "ComputeInstance" else set()

    def names(self, kind: str) -> list[Name]:
        """The names of all cached objects of a kind."""
        found = {"VMSize": [("", name) for name in self.sizes], "ResourceQuota": self.quotas, "ComputeInstance": self.instances.entries}
        return list(found.get(kind, ()))

    def version(self, kind: str, key: Name) -> str:
        """The resourceVersion that is known of an object; "0" if it is not known."""
        if kind == "VMSize" and key[1] in self.sizes:
            return self.sizes[key[1]].meta.resource_version
        if kind == "ComputeInstance" and key in self.instances.entries:
            return self.instances.entries[key].meta.resource_version
        return self.quotas[key][2] if kind == "ResourceQuota" and key in self.quotas else "0"

    def offers(self) -> tuple[Offer, ...]:
        """Every size, as a session would get it now."""
        if self._offers is None:
            found = (sizes.offer(entry.meta.name, entry.spec, self.pools, self.settings) for entry in self.sizes.values())
            self._offers = tuple(sorted(found, key=lambda offer: offer.name))
        return self._offers

    def quotas_of(self, namespace: str) -> tuple[QuotaView, ...]:
        """The quotas of a namespace, by name."""
        return tuple(self.quotas[namespace, name][0] for name in sorted(self._quotas_of.get(namespace, ())))

    def still_holds(self, refusal: Refusal | None, namespace: str) -> Refusal | None:
        """The refusal, unless it was for a quota that has got more room since."""
        grown = refusal is not None and refusal.reason == "QuotaExceeded" and self._grown_at.get(namespace, 0.0) > refusal.at
        return None if grown else refusal

    def snapshot(self, name: str) -> SizeSnapshot | None:
        """A size with all that its status tells of; None if it is gone."""
        entry = self.sizes.get(name)
        if entry is None or entry.meta.deleting:
            return None
        offer = next(offer for offer in self.offers() if offer.name == name)
        count = self.sessions[entry.spec.azure_name]
        return SizeSnapshot(entry.meta.resource_version, entry.meta.generation, entry.status, offer, count, self.settings.autoscaler)

    def note(self, key: Name, session: SessionEntry | None, *, placed: bool) -> None:
        """Remembers what a session waits for, so that it is brought up when that changes; None: the session is gone."""
        named = session.spec.compute.vm_size if session else ""
        if named:
            self._wishes[key] = choice.canonical(named)
        else:
            self._wishes.pop(key, None)
        if session is not None and not placed and not session.status.get("suspended"):
            self._unplaced[key[0]].add(key[1])
        elif (waiting := self._unplaced.get(key[0])) is not None:
            waiting.discard(key[1])
            if not waiting:
                del self._unplaced[key[0]]

    def set_pools(self, pools: tuple[Pool, ...]) -> set[Key]:
        """Takes in what a LIST of the nodes has shown."""
        before = {offer.name: offer for offer in self.offers()}
        self.pools, self._offers = pools, None
        changed = [offer for offer in self.offers() if before.get(offer.name) != offer]
        if not changed:
            return set()
        return {Key("VMSize", "", offer.name) for offer in changed} | self._waiting()

    def count(self, pods: Iterable[PodEntry]) -> set[Key]:
        """Counts the sessions of each size anew; what came of it wakes only the sizes themselves."""
        self.sessions = Counter(pod.view.vm_size for pod in pods if pod.view.vm_size and pod.view.deleting_since is None and not pod.anchor)
        return {
            Key("VMSize", "", name)
            for name, entry in self.sizes.items()
            if entry.status.get("sessions") != self.sessions[entry.spec.azure_name]
        }

    def read_events(self, uid: str, events: Iterable[Object], now: float) -> None:
        """Takes in the Events of a pod that waits for a node."""
        for old in [pod for pod, view in self.events.items() if now - view.read_at > 2 * scheduling.LONGEST_PAUSE]:
            del self.events[old]
        self.events[uid] = scheduling.read(events, now)

    def _observe_size(self, entry: SizeEntry) -> set[Key]:
        known = self.sizes.get(entry.meta.name)
        if known and not newer(entry.meta.resource_version, known.meta.resource_version):
            return set()
        self.sizes[entry.meta.name] = entry
        if known and (known.meta.uid, known.spec) == (entry.meta.uid, entry.spec):
            return {Key("VMSize", "", entry.meta.name)}
        self._offers, self.nodes_wanted = None, True
        return self._concerned_by_size(entry.meta.name)

    def _observe_quota(self, body: Object, now: float) -> set[Key]:
        raw = body["metadata"]
        key: Name = (raw["namespace"], raw["name"])
        known = self.quotas.get(key)
        if known and not newer(raw.get("resourceVersion", "0"), known[2]):
            return set()
        try:
            view = quota.read(body)
        except ValueError as error:
            raise objects.Unreadable(str(error)) from error
        self.quotas[key] = (view, raw.get("uid", ""), raw.get("resourceVersion", "0"))
        self._quotas_of[key[0]].add(key[1])
        if known is not None and not _has_grown(known[0], view):
            return set()
        self._grown_at[key[0]] = now
        return self._waiting(key[0])

    def _concerned_by_size(self, name: str) -> set[Key]:
        wishing = {Key("ComputeSession", *key) for key, wished in self._wishes.items() if wished == name}
        return {Key("VMSize", "", name)} | wishing | self._waiting()

    def _waiting(self, namespace: str = "") -> set[Key]:
        """The sessions and instances without a pod on a node, of one namespace or of all."""
        where = [namespace] if namespace else list(self._unplaced)
        return {Key("ComputeSession", each, name) for each in where for name in self._unplaced.get(each, ())} | self.instances.unplaced(
            namespace
        )


def refused(before: Refusal | None, reason: str, message: str, size: str, now: float) -> Refusal:
    """The refusal of a pod of this size (empty: of none), after the one before. A size that is refused again begins another round."""
    if before is None or before.reason != reason:
        return Refusal(reason, message, now, 1, {size: message})
    if size in before.sizes:
        return Refusal(reason, message, now, before.count + 1, {size: message})
    return Refusal(reason, message, now, before.count, {**before.sizes, size: message})


def _has_grown(old: QuotaView, new: QuotaView) -> bool:
    """Whether there may be more room than before."""
    if old.scopes != new.scopes or old.hard.keys() != new.hard.keys():
        return True
    return any(new.hard[name] - new.used.get(name, 0) > old.hard[name] - old.used.get(name, 0) for name in new.hard)
