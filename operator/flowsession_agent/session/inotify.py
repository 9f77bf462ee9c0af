"""inotify(7), the kernel's events of opened and changed files, by ctypes: Python has no binding for it."""

from __future__ import annotations

import os
import struct
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ctypes
    from typing import Callable

    Take = Callable[[int, str], None]
    """Receives the event's mask, and the name in a watched directory (empty: the watched file itself)."""

MODIFY, ATTRIB, CLOSE_WRITE, OPEN = 0x2, 0x4, 0x8, 0x20
MOVED_FROM, MOVED_TO, CREATE, DELETE = 0x40, 0x80, 0x100, 0x200
DELETE_SELF, MOVE_SELF, UNMOUNT, OVERFLOW, IGNORED = 0x400, 0x800, 0x2000, 0x4000, 0x8000
ONLY_DIRECTORY, DONT_FOLLOW, UNLINKED_EXCLUDED, IS_DIRECTORY = 0x1000000, 0x2000000, 0x4000000, 0x40000000

HEAD = struct.Struct("iIII")
READ_BYTES = 64 * 1024
EVENTS_LIMIT = 500
"""Events that one call hands over one by one. The names of files don't matter if more than that have changed since the last call."""


class Inotify:
    """One instance for the agent, opened by the first watch: a user ID has few on a node (`fs.inotify.max_user_instances`, often 128).

    `lock` is held while events are handed over. Their receivers share it.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._takers: dict[int, Take] = {}
        self._library: ctypes.CDLL | None = None
        self._descriptor = -1

    def watch(self, path: str, mask: int, take: Take) -> int:
        """Hand each event of `path` to `take` from now on. Return the watch's number. Raises OSError, also if inotify is unavailable."""
        with self.lock:
            library = self._library or self._open()
            number = _checked(library.inotify_add_watch(self._descriptor, os.fsencode(path), mask))
            self._takers[number] = take
            return number

    def forget(self, number: int) -> None:
        """End a watch, which may have ended by itself."""
        with self.lock:
            if self._library is not None and self._takers.pop(number, None) is not None:
                self._library.inotify_rm_watch(self._descriptor, number)

    def pump(self) -> None:
        """Hand over the events since the last call. If there are too many, each receiver gets one with the mask OVERFLOW for the rest."""
        with self.lock:
            left, lost = EVENTS_LIMIT, False
            while data := self._read():
                while data and left:
                    number, mask, _, length = HEAD.unpack_from(data)
                    name = os.fsdecode(data[HEAD.size : HEAD.size + length].rstrip(b"\0"))
                    data = data[HEAD.size + length :]
                    left -= 1
                    lost = lost or bool(mask & OVERFLOW)
                    take = self._takers.pop(number, None) if mask & IGNORED else self._takers.get(number)
                    if take is not None:
                        take(mask, name)
                lost = lost or bool(data)
            for take in list(self._takers.values()) if lost else ():
                take(OVERFLOW, "")

    def close(self) -> None:
        """Close the instance."""
        with self.lock:
            if self._library is not None:
                os.close(self._descriptor)
            self._takers, self._library, self._descriptor = {}, None, -1

    def _open(self) -> ctypes.CDLL:
        try:
            import ctypes

            library = ctypes.CDLL(None, use_errno=True)
            self._descriptor = _checked(library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        except (ImportError, AttributeError) as error:  # a Python without ctypes, a C library without inotify
            raise OSError(str(error)) from error
        self._library = library
        return library

    def _read(self) -> bytes:
        if self._library is None:
            return b""
        try:
            return os.read(self._descriptor, READ_BYTES)
        except BlockingIOError:
            return b""


def _checked(answer: int) -> int:
    import ctypes

    if answer < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return answer
