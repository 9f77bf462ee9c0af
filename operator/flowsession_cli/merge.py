"""Three-way merge of texts by lines: changes of one side are taken, overlapping changes of both are left to people."""

import difflib
from collections.abc import Iterator, Sequence

MOST_LINES = 5_000
"""Most lines of a text to merge: comparing takes quadratic time at worst."""


def merged(base: bytes, mine: bytes, theirs: bytes) -> bytes | None:
    """Return the text with the changes of both sides, or None if the changes touch. None too for a binary or too long text."""
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
    """Cut the three texts into regions and yield them: in turn one that may differ and one that is equal in all three."""
    base_at = mine_at = theirs_at = 0
    for start, length, mine_start, theirs_start in _common(base, mine, theirs):
        yield base[base_at:start], mine[mine_at:mine_start], theirs[theirs_at:theirs_start]
        base_at, mine_at, theirs_at = start + length, mine_start + length, theirs_start + length
        same = base[start:base_at]
        yield same, same, same
    yield base[base_at:], mine[mine_at:], theirs[theirs_at:]


def _common(base: Sequence[bytes], mine: Sequence[bytes], theirs: Sequence[bytes]) -> Iterator[tuple[int, int, int, int]]:
    """Yield the blocks that all three texts share: start in the base, number of lines, and start in each of the others."""
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
