"""Facts that are valid only for a while, kept by namespace so that no lookup goes through all namespaces."""

from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

from flowsession.engine.store.keys import Name

V = TypeVar("V")


class Recent(Generic[V]):
    """Values by namespace and name, each with the time when it was noted."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._values: dict[str, dict[str, tuple[V, float]]] = {}

    def __len__(self) -> int:
        return sum(len(names) for names in self._values.values())

    def note(self, name: Name, value: V, *, at: float | None = None) -> None:
        """Note a value, as of now unless `at` is given."""
        self._values.setdefault(name[0], {})[name[1]] = (value, self._clock() if at is None else at)

    def drop(self, name: Name) -> None:
        """Drop a name, if it is known."""
        names = self._values.get(name[0])
        if names is not None and names.pop(name[1], None) is not None and not names:
            del self._values[name[0]]

    def of(self, namespace: str, *, seconds: float) -> Mapping[str, V]:
        """Return what was noted in a namespace within the last `seconds`, looked up lazily."""
        return _Lately(self._values.get(namespace, {}), self._clock() - seconds)

    def names(self) -> set[Name]:
        """Return all names that are kept."""
        return {(namespace, name) for namespace, names in self._values.items() for name in names}

    def prune(self, seconds: float) -> None:
        """Drop what was noted `seconds` ago or earlier, or has a time at least that far in the future."""
        now = self._clock()
        for namespace, names in list(self._values.items()):
            for name in [name for name, (_, at) in names.items() if abs(now - at) >= seconds]:
                self.drop((namespace, name))


class _Lately(Mapping[str, V]):
    def __init__(self, values: Mapping[str, tuple[V, float]], since: float) -> None:
        self._values = values
        self._since = since

    def __getitem__(self, name: str) -> V:
        value, at = self._values[name]
        if at <= self._since:
            raise KeyError(name)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter([name for name, (_, at) in self._values.items() if at > self._since])

    def __len__(self) -> int:
        return sum(at > self._since for _, at in self._values.values())
