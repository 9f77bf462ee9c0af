"""What the operator pushed into the flow folder, as fingerprints: whatever differs from it is an edit of the session's own."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterator, Mapping

NOT_KNOWN = ""
"""The fingerprint of a file that an agent pushed that kept names only: whatever lies there counts as pushed."""


class Baseline:
    """The fingerprints of the push in place and, while one is under way or was cut off, of the next one."""

    def __init__(self, pushed: Mapping[str, str], pushing: Mapping[str, str] | None) -> None:
        self._pushed = pushed
        self._pushing = pushing

    def __iter__(self) -> Iterator[str]:
        return iter({**self._pushed, **(self._pushing or {})})

    def __contains__(self, name: str) -> bool:
        return name in self._pushed or name in (self._pushing or ())

    def fits(self, name: str, found: str) -> bool:
        """Return whether a file with the fingerprint `found` is as some push left it."""
        known = {pushes[name] for pushes in (self._pushed, self._pushing or {}) if name in pushes}
        return found in known or NOT_KNOWN in known

    def fits_size(self, name: str, size: int) -> bool:
        """Return whether a file of `size` bytes could be as pushed; if not, there is no need to read it."""
        known = [pushes[name] for pushes in (self._pushed, self._pushing or {}) if name in pushes]
        return any(each.partition(":")[0] == str(size) for each in known)

    def must_be_there(self, name: str) -> bool:
        """Return whether the session removed the file if it is missing, rather than a push that has yet to write it or took it away."""
        return name in self._pushed and (self._pushing is None or name in self._pushing)

    def unchanged(self, name: str, wanted: str) -> bool:
        """Whether a push of a file with the fingerprint `wanted` changes nothing about it, so that what the session made of it stays."""
        return self._pushed.get(name) == wanted and (self._pushing is None or self._pushing.get(name) == wanted)
