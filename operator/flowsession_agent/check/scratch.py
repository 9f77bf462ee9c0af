"""Copies the flow folder for a check: tools write to the copy on import, and changes to the folder meanwhile don't affect the check."""

from __future__ import annotations

import os
import shutil

LARGEST_COPY = 1024 * 1024
"""Bytes. Larger files are linked instead: they are data, which tools only read."""

MOST_BYTES = 32 * 1024 * 1024
MOST_ENTRIES = 5000
LEFT_OUT = frozenset({"__pycache__", ".promptflow", ".git", ".runs"})


class Scratch:
    """Copies one folder into another, up to the limits, and links to the rest."""

    def __init__(self) -> None:
        self._bytes = 0
        self._entries = 0

    def copy(self, source: str, target: str) -> None:
        """Copy the folder, except files that vanish meanwhile. Raises OSError if no space is left."""
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
