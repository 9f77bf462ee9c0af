"""What the engine's tables and its queue go by: the names of objects."""

from dataclasses import dataclass

Name = tuple[str, str]
"""Namespace and name; the namespace of a cluster-wide object is empty."""


@dataclass(frozen=True)
class Key:
    """What is decided about: one object."""

    kind: str
    namespace: str
    name: str


def newer(version: str, known: str) -> bool:
    """Return whether a resourceVersion is later than another of the same kind; they may be compared as numbers (KEP-5504)."""
    if version.isdigit() and known.isdigit():
        return int(version) > int(known)
    return version != known
