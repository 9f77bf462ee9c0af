"""Fingerprints of what the operator pushed into the flow folder: whatever differs from it is the session's own edit."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterator, Mapping

NOT_KNOWN = ""
"""Fingerprint of a file pushed by an agent that recorded only names: whatever is there counts as pushed."""


class Baseline:
    """The fingerprints of the push in place, and of the next one while it is in progress or was cut off."""

    def __init__(self, pushed: Mapping[str, str], pushing: Mapping[str, str] | None) -> None:
        self._pushed = pushed
        self._pushing = pushing

    def __iter__(self) -> Iterator[str]:
        return iter({**self._pushed, **(self._pushing or {})})

    def __contains__(self, name: str) -> bool:
        return name in self._pushed or name in (self._pushing or ())

    def fits(self, name: str, found: str) -> bool:
        """Return whether a file with the fingerprint `found` is as one of the pushes left it."""
        known = {pushes[name] for pushes in (self._pushed, self._pushing or {}) if name in pushes}
        return found in known or NOT_KNOWN in known

    def fits_size(self, name: str, size: int) -> bool:
        """Return whether a file of `size` bytes could be as pushed. If not, it need not be read."""
        known = [pushes[name] for pushes in (self._pushed, self._pushing or {}) if name in pushes]
        return any(each.partition(":")[0] == str(size) for each in known)

    def must_be_there(self, name: str) -> bool:
        """Return whether a missing file was removed by the session, and not by a push that removed it or has yet to write it."""
        return name in self._pushed and (self._pushing is None or name in self._pushing)

    def unchanged(self, name: str, wanted: str) -> bool:
        """Return whether a push of a file with the fingerprint `wanted` changes nothing about it, so that the session's version stays."""
        return self._pushed.get(name) == wanted and (self._pushing is None or self._pushing.get(name) == wanted)
