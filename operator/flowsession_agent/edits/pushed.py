"""Keeps the pushed files next to the flow folder, so that people can see what they have changed."""

from __future__ import annotations

import json
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Mapping

LARGEST = 256 * 1024
"""Bytes of the largest file kept: nobody reads the diff of a larger one."""
MOST = 8 * 1024 * 1024


def keep(path: str, files: Mapping[str, bytes]) -> None:
    """Write the files to `path`: a line of JSON with names and sizes, then the contents. If that fails, no diffs can be shown."""
    left, kept = MOST, {}
    for name, content in files.items():
        if len(content) <= min(LARGEST, left):
            kept[name] = content
            left -= len(content)
    index = json.dumps([[name, len(content)] for name, content in kept.items()])
    temporary = f"{path}.tmp"
    try:
        with open(temporary, "wb") as file:
            file.write(index.encode() + b"\n" + b"".join(kept.values()))
        os.replace(temporary, path)
    except OSError:
        for leftover in (temporary, path):
            if os.path.lexists(leftover):
                os.unlink(leftover)


def read(path: str) -> dict[str, bytes]:
    """Return the files that were kept; empty if they can't be read."""
    try:
        with open(path, "rb") as file:
            index = json.loads(file.readline())
            return {str(name): file.read(int(size)) for name, size in index}
    except (OSError, ValueError, TypeError):
        return {}
