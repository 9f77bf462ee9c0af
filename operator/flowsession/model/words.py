"""Words for people: counted things, and what a misspelt name may have meant."""

import difflib
from collections.abc import Iterable


def counted(count: int, thing: str) -> str:
    """ "1 package", "2 packages"; the thing takes an s."""
    return f"{count} {thing}{'' if count == 1 else 's'}"


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that this one may have meant; empty if none is like it."""
    return next(iter(difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)), "")
