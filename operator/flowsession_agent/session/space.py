"""Which place of a session is full, where the kernel says only that one is."""

from __future__ import annotations

import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterable

FULL = (errno.ENOSPC, errno.EDQUOT)
PLACES = ("/dev/shm", "/tmp")
"""Where programs write without being asked: semaphores of multiprocessing, which prompt flow's import makes too, and temporary files."""

ROOM_BYTES = 1024 * 1024


def is_short(error: BaseException) -> bool:
    """Return whether the error says that no space is left."""
    return isinstance(error, OSError) and error.errno in FULL


def roomy(*folders: str) -> bool:
    """Return whether these folders, and those that programs use without being asked, have room for some files more."""
    for place in [*PLACES, *folders]:
        try:
            found = os.statvfs(place)
        except OSError:
            continue
        if found.f_bavail * found.f_frsize < ROOM_BYTES:
            return False
    return True


def full(error: BaseException, places: Iterable[str] = PLACES) -> str:
    """Return the folder that has no space left: the one that the error names, else the first full one of those that programs use; empty
    where none is full any more."""
    name = getattr(error, "filename", None)
    named = [os.path.dirname(name)] if isinstance(name, str) and os.path.isabs(name) else []
    for place in [*named, *places, os.environ.get("TMPDIR", ""), os.environ.get("HOME", "")]:
        try:
            if place and os.statvfs(place).f_bavail == 0:
                return place
        except OSError:
            continue
    return ""
