"""Names of objects, which are the keys of the engine's stores and of its queue."""

from dataclasses import dataclass

Name = tuple[str, str]
"""Namespace and name; the namespace of a cluster-wide object is empty."""


@dataclass(frozen=True)
class Key:
    """One object that is decided about."""

    kind: str
    namespace: str
    name: str


def newer(version: str, known: str) -> bool:
    """Return whether a resourceVersion is later than another of the same kind; they may be compared as numbers (KEP-5504)."""
    if version.isdigit() and known.isdigit():
        return int(version) > int(known)
    return version != known
