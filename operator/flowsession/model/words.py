"""Words for messages: counted things, and the known name that a misspelled one may mean."""

import difflib
from collections.abc import Iterable


def counted(count: int, thing: str) -> str:
    """Return "1 package", "2 packages"; the plural adds an s."""
    return f"{count} {thing}{'' if count == 1 else 's'}"


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the known name closest to this one; empty if none is close."""
    return next(iter(difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)), "")
