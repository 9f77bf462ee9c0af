"""Which objects belong to which: the names of those that refer to another one of their namespace."""

from collections.abc import Iterator

from flowsession.engine.store.keys import Name


class Index:
    """Sets of names by what they refer to; what nothing refers to any more takes no room."""

    def __init__(self) -> None:
        self._names: dict[Name, set[str]] = {}

    def __len__(self) -> int:
        return len(self._names)

    def add(self, target: Name, name: str) -> None:
        """Notes that the object of this name refers to the target."""
        self._names.setdefault(target, set()).add(name)

    def discard(self, target: Name, name: str) -> None:
        """Forgets that; it need not have been known."""
        names = self._names.get(target)
        if names is not None:
            names.discard(name)
            if not names:
                del self._names[target]

    def of(self, target: Name) -> Iterator[str]:
        """The names of those that refer to the target."""
        return iter(self._names.get(target, ()))

    def has(self, target: Name) -> bool:
        """Whether anything refers to the target."""
        return target in self._names
