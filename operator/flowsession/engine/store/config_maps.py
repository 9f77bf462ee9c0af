"""The ConfigMaps that environments name: only their content counts, and only of those that somebody looks at is it kept."""

from collections.abc import Callable, Iterator, Mapping

from flowsession.api.mutations import SOURCE_LABEL
from flowsession.engine.store import objects
from flowsession.engine.store.keys import Key, Name
from flowsession.engine.store.objects import Object
from flowsession.reconcile.environment.sources import ConfigMapView


class ConfigMaps(Mapping[Name, ConfigMapView]):
    """By namespace and name. Those with the label of sources are watched; the others are read when they are asked for, and now and then."""

    def __init__(self, clock: Callable[[], float], users: Callable[[Name], set[Key]], concerned: Callable[[Name], set[Key]]) -> None:
        self._clock = clock
        self._users = users
        """The environments that look at one."""
        self._concerned = concerned
        """They, and their sessions."""
        self._views: dict[Name, ConfigMapView] = {}

    def __getitem__(self, name: Name) -> ConfigMapView:
        return self._views[name]

    def __iter__(self) -> Iterator[Name]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)

    def observe(self, body: Object) -> set[Key]:
        """Take in a ConfigMap that an environment names; return the keys it concerns. Each may hold 1 MiB, and anybody may label
        one: what nobody names is not kept, and is read when somebody begins to."""
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
        """Note that a ConfigMap is missing."""
        users = self._users(name)
        if not users:
            return set()
        before = self._views.get(name)
        self._views[name] = ConfigMapView(name[1], None, self._clock(), watched=False)
        return users if before is not None and before.files is None else self._concerned(name)

    def forget(self, name: Name, _uid: str = "") -> set[Key]:
        """Drop a ConfigMap that is gone or has lost its label; it is read again, which shows which."""
        self._views.pop(name, None)
        return self._concerned(name)

    def drop_unused(self, namespace: str, names: tuple[str, ...]) -> None:
        """Drop those of these ConfigMaps that no environment names any more."""
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
