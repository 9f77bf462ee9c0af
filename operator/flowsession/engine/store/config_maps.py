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
        """Takes in one that an environment names, and returns the keys that its news concerns. Each may hold 1 MiB, and anybody may label
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
        """Takes in that one was asked for and is not there."""
        users = self._users(name)
        if not users:
            return set()
        before = self._views.get(name)
        self._views[name] = ConfigMapView(name[1], None, self._clock(), watched=False)
        return users if before is not None and before.files is None else self._concerned(name)

    def forget(self, name: Name, _uid: str = "") -> set[Key]:
        """It is gone, or only its label is: it is read again, and that tells."""
        self._views.pop(name, None)
        return self._concerned(name)

    def drop_unused(self, namespace: str, names: tuple[str, ...]) -> None:
        """Drops those of these that nobody looks at any more."""
        for name in names:
            if not self._users((namespace, name)):
                self._views.pop((namespace, name), None)

    def names(self) -> list[Name]:
        """The names of those that are watched."""
        return [name for name, view in self._views.items() if view.watched]

    def version(self, _: Name) -> str:
        """Their content is compared, not their versions."""
        return "0"

    def uid(self, _: Name) -> str:
        """Nothing is decided about them."""
        return ""
