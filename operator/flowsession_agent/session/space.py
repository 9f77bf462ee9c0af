"""Find which place of a session is full, since the kernel only reports that one is."""

from __future__ import annotations

import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterable

FULL = (errno.ENOSPC, errno.EDQUOT)
PLACES = ("/dev/shm", "/tmp")
"""Where programs write by default: semaphores of multiprocessing, which prompt flow's import makes too, and temporary files."""

ROOM_BYTES = 1024 * 1024


def is_short(error: BaseException) -> bool:
    """Return whether the error says that no space is left."""
    return isinstance(error, OSError) and error.errno in FULL


def roomy(*folders: str) -> bool:
    """Return whether these folders, and those that programs use by default, have room for some more files."""
    for place in [*PLACES, *folders]:
        try:
            found = os.statvfs(place)
        except OSError:
            continue
        if found.f_bavail * found.f_frsize < ROOM_BYTES:
            return False
    return True


def full(error: BaseException, places: Iterable[str] = PLACES) -> str:
    """Return the full folder: the one that the error names, else the first full one that programs use; empty if none is full now."""
    name = getattr(error, "filename", None)
    named = [os.path.dirname(name)] if isinstance(name, str) and os.path.isabs(name) else []
    for place in [*named, *places, os.environ.get("TMPDIR", ""), os.environ.get("HOME", "")]:
        try:
            if place and os.statvfs(place).f_bavail == 0:
                return place
        except OSError:
            continue
    return ""
