"""A three-way merge of texts, by lines: what only one side has changed is taken, what both have is for people."""

import difflib
from collections.abc import Iterator, Sequence

MOST_LINES = 5_000
"""Lines of a text that is merged: comparing takes the square of them at worst."""


def merged(base: bytes, mine: bytes, theirs: bytes) -> bytes | None:
    """Return the text with the changes of both; None where they touch, and for what is no text."""
    if b"\0" in base + mine + theirs:
        return None
    lines = [text.splitlines(keepends=True) for text in (base, mine, theirs)]
    if max(map(len, lines)) > MOST_LINES:
        return None
    result: list[bytes] = []
    for old, left, right in _regions(*lines):
        if left != old and right not in (old, left):
            return None
        result += right if left == old else left
    return b"".join(result)


def _regions(base: Sequence[bytes], mine: Sequence[bytes], theirs: Sequence[bytes]) -> Iterator[tuple[Sequence[bytes], ...]]:
    """The three texts cut into regions, in turn those that are the same in all and those that lie between."""
    base_at = mine_at = theirs_at = 0
    for start, length, mine_start, theirs_start in _common(base, mine, theirs):
        yield base[base_at:start], mine[mine_at:mine_start], theirs[theirs_at:theirs_start]
        base_at, mine_at, theirs_at = start + length, mine_start + length, theirs_start + length
        same = base[start:base_at]
        yield same, same, same
    yield base[base_at:], mine[mine_at:], theirs[theirs_at:]


def _common(base: Sequence[bytes], mine: Sequence[bytes], theirs: Sequence[bytes]) -> Iterator[tuple[int, int, int, int]]:
    """What all three have: where it begins in the base, how many lines it has, and where it begins in the others."""
    left = difflib.SequenceMatcher(None, base, mine, autojunk=False).get_matching_blocks()
    right = difflib.SequenceMatcher(None, base, theirs, autojunk=False).get_matching_blocks()
    i = j = 0
    while i < len(left) and j < len(right):
        start, end = max(left[i].a, right[j].a), min(left[i].a + left[i].size, right[j].a + right[j].size)
        if start < end:
            yield start, end - start, left[i].b + start - left[i].a, right[j].b + start - right[j].a
        if left[i].a + left[i].size < right[j].a + right[j].size:
            i += 1
        else:
            j += 1
