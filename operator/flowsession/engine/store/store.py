"""A store of all known objects of one kind. The newest version wins, and indexes find related objects without a scan."""

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from typing import Generic, Protocol, TypeVar

from flowsession.engine.store.keys import Key, Name, newer
from flowsession.engine.store.objects import Meta, Object


class Stored(Protocol):
    """What a store holds."""

    @property
    def meta(self) -> Meta: ...


E = TypeVar("E", bound=Stored)


class Index(Generic[E]):
    """Names of objects by the target that they belong to, maintained by their store. A target without objects takes no room."""

    def __init__(self, targets: Callable[[E], Iterable[Hashable]]) -> None:
        self._targets = targets
        self._names: dict[Hashable, set[Name]] = {}

    def __len__(self) -> int:
        return len(self._names)

    def of(self, target: Hashable) -> Collection[Name]:
        """Return the names of the objects that belong to the target."""
        return self._names.get(target, ())

    def change(self, name: Name, known: E | None, entry: E | None) -> None:
        """Record that an object was added, changed or deleted."""
        before = frozenset(self._targets(known)) if known is not None else frozenset()
        after = frozenset(self._targets(entry)) if entry is not None else frozenset()
        for target in before - after:
            names = self._names[target]
            names.discard(name)
            if not names:
                del self._names[target]
        for target in after - before:
            self._names.setdefault(target, set()).add(name)


class Store(Mapping[Name, E]):
    """The objects by namespace and name. Not thread-safe."""

    def __init__(
        self,
        read: Callable[[Object], E],
        changed: Callable[[E | None, E | None], set[Key]],
        *indexes: Index[E],
    ) -> None:
        self._read = read
        self._changed = changed
        self._indexes = indexes
        self._entries: dict[Name, E] = {}

    def __getitem__(self, name: Name) -> E:
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[Name]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def all(self, names: Iterable[Name]) -> list[E]:
        """Return the objects of these names, all of which are known."""
        return [self._entries[name] for name in names]

    def observe(self, body: Object) -> set[Key]:
        """Store an object if it is newer than the known one; return the keys that it concerns. Raises objects.Unreadable.

        In a burst, most watch events only repeat own writes, so an object is parsed only if it is newer.
        """
        meta = body["metadata"]
        known = self._entries.get((meta.get("namespace", ""), meta["name"]))
        if known is not None and not newer(meta.get("resourceVersion", "0"), known.meta.resource_version):
            return set()
        entry = self._read(body)
        name = entry.meta.key
        if known is None or known.meta.uid == entry.meta.uid:
            return self._change(name, known, entry)
        return self._change(name, known, None) | self._change(name, None, entry)

    def forget(self, name: Name, uid: str = "") -> set[Key]:
        """Drop an object that is gone; with a uid, only if the known one has it. Return the keys that this concerns."""
        known = self._entries.get(name)
        if known is None or (uid and known.meta.uid != uid):
            return set()
        return self._change(name, known, None)

    def names(self) -> list[Name]:
        """Return the names of all known objects."""
        return list(self._entries)

    def version(self, name: Name) -> str:
        """Return the known resourceVersion of an object; "0" if it is unknown."""
        known = self._entries.get(name)
        return known.meta.resource_version if known else "0"

    def uid(self, name: Name) -> str:
        """Return the uid of an object; empty if it is unknown."""
        known = self._entries.get(name)
        return known.meta.uid if known else ""

    def uids(self) -> set[str]:
        """Return the uids of all known objects."""
        return {entry.meta.uid for entry in self._entries.values()}

    def _change(self, name: Name, known: E | None, entry: E | None) -> set[Key]:
        if entry is not None:
            self._entries[name] = entry
        else:
            del self._entries[name]
        for index in self._indexes:
            index.change(name, known, entry)
        return self._changed(known, entry)
