"""A copy of the flow folder to check: what tools write at their import lands in it, and content that changes meanwhile doesn't confuse."""

from __future__ import annotations

import os
import shutil

LARGEST_COPY = 1024 * 1024
"""Bytes; larger files are linked to: they are data, and tools only read them."""

MOST_BYTES = 32 * 1024 * 1024
MOST_ENTRIES = 5000
LEFT_OUT = frozenset({"__pycache__", ".promptflow", ".git", ".runs"})


class Scratch:
    """Copies one folder into another one, up to the limits; links to the rest."""

    def __init__(self) -> None:
        self._bytes = 0
        self._entries = 0

    def copy(self, source: str, target: str) -> None:
        """Copy the folder. Raises OSError where there is no room; what vanishes meanwhile is left out."""
        os.makedirs(target, exist_ok=True)
        try:
            with os.scandir(source) as listing:
                entries = sorted(listing, key=lambda entry: (entry.is_dir(follow_symlinks=False), entry.name))
        except FileNotFoundError:
            return
        for entry in entries:
            self._entries += 1
            path = os.path.join(target, entry.name)
            try:
                if entry.name in LEFT_OUT:
                    continue
                if entry.is_dir(follow_symlinks=False) and self._entries < MOST_ENTRIES:
                    self.copy(entry.path, path)
                elif entry.is_file(follow_symlinks=False) and self._fits(entry.stat(follow_symlinks=False).st_size):
                    shutil.copyfile(entry.path, path)
                else:
                    os.symlink(os.path.realpath(entry.path), path)
            except FileNotFoundError:
                continue

    def _fits(self, size: int) -> bool:
        if size > LARGEST_COPY or self._bytes + size > MOST_BYTES or self._entries > MOST_ENTRIES:
            return False
        self._bytes += size
        return True
