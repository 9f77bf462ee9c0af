"""ConfigMaps that environments name. Only their content matters, and it is kept only while an environment names them."""

from collections.abc import Callable, Iterator, Mapping

from flowsession.api.mutations import SOURCE_LABEL
from flowsession.engine.store import objects
from flowsession.engine.store.keys import Key, Name
from flowsession.engine.store.objects import Object
from flowsession.reconcile.environment.sources import ConfigMapView


class ConfigMaps(Mapping[Name, ConfigMapView]):
    """By namespace and name. Those with the label of sources are watched; the others are read on demand and periodically."""

    def __init__(self, clock: Callable[[], float], users: Callable[[Name], set[Key]], concerned: Callable[[Name], set[Key]]) -> None:
        self._clock = clock
        self._users = users
        """Returns the environments that name a ConfigMap."""
        self._concerned = concerned
        """Returns these environments and their sessions."""
        self._views: dict[Name, ConfigMapView] = {}

    def __getitem__(self, name: Name) -> ConfigMapView:
        return self._views[name]

    def __iter__(self) -> Iterator[Name]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)

    def observe(self, body: Object) -> set[Key]:
        """Store a ConfigMap; return the keys that it concerns. One that no environment names is not kept, since each may hold 1 MiB and
        anybody may label one; it is read as soon as an environment names it."""
        raw = body["metadata"]
        name = (raw["namespace"], raw["name"])
        users = self._users(name)
        if not users:
            self._views.pop(name, None)
            return set()
        known, now = self._views.get(name), self._clock()
        watched = (raw.get("labels") or {}).get(SOURCE_LABEL) == "true"
        fresh, author = objects.files(body), objects.author(body)
        if known and known.files == fresh and known.author == author:
            self._views[name] = ConfigMapView(name[1], known.files, now, watched, author)
            return users if known.watched != watched else set()
        self._views[name] = ConfigMapView(name[1], fresh, now, watched, author)
        return self._concerned(name)

    def missing(self, name: Name) -> set[Key]:
        """Record that a ConfigMap is missing; return the keys that this concerns."""
        users = self._users(name)
        if not users:
            return set()
        before = self._views.get(name)
        self._views[name] = ConfigMapView(name[1], None, self._clock(), watched=False)
        return users if before is not None and before.files is None else self._concerned(name)

    def forget(self, name: Name, _uid: str = "") -> set[Key]:
        """Drop a ConfigMap that is gone or has lost its label; reading it again shows which."""
        self._views.pop(name, None)
        return self._concerned(name)

    def drop_unused(self, namespace: str, names: tuple[str, ...]) -> None:
        """Drop those of the given ConfigMaps that no environment names any more."""
        for name in names:
            if not self._users((namespace, name)):
                self._views.pop((namespace, name), None)

    def names(self) -> list[Name]:
        """Return the names of watched ConfigMaps."""
        return [name for name, view in self._views.items() if view.watched]

    def version(self, _: Name) -> str:
        """Return "0": contents are compared, not versions."""
        return "0"

    def uid(self, _: Name) -> str:
        """Return an empty uid: nothing is decided about ConfigMaps."""
        return ""
