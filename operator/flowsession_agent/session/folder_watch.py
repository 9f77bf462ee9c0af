"""Find when a file of the flow folder last changed, and which, without counting the agent's own writes.

Uses inotify, which costs nothing while nothing changes, or scans the files now and then if inotify is unavailable. inotify reports changes
made on this node. On a claim that others mount too, changes made on other nodes are theirs.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
import time

from flowsession_agent.edits.scan import ENTRIES_LIMIT, IGNORED_FOLDERS, ignored
from flowsession_agent.session import inotify

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Iterator

    from flowsession_agent.session.inotify import Inotify

    Signature = tuple[int, int, int, int]

CHANGES = inotify.MODIFY | inotify.ATTRIB | inotify.MOVED_FROM | inotify.MOVED_TO | inotify.CREATE | inotify.DELETE
GONE = inotify.DELETE_SELF | inotify.MOVE_SELF | inotify.UNMOUNT | inotify.IGNORED
MASK = CHANGES | inotify.DELETE_SELF | inotify.MOVE_SELF | inotify.ONLY_DIRECTORY | inotify.UNLINKED_EXCLUDED
NO_FOLDER = (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ELOOP)
NAME_LENGTH = 100
COST_SHARE = 0.01
"""Share of a core that scanning the files may take if inotify is unavailable."""


class FolderWatch:
    """Watches one folder, which may be a symbolic link. `changed_at` is 0 until the first change, `changed` is a path below the folder."""

    def __init__(self, root: str, *, notices: Inotify | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._root = root
        self._notices = notices
        self._clock = clock
        self._lock = notices.lock if notices else threading.RLock()
        self._writing = 0
        self._began = self._stale = False
        self._watches: list[int] = []
        self._files: dict[str, Signature] = {}
        self._next_walk = 0.0
        self.changed_at = 0.0
        self.changed = ""

    def look(self, *, now: bool = False) -> float:
        """Return when the folder was last found changed, by the clock. The first call starts watching. `now`: don't put off a scan."""
        with self._lock:
            if not self._began:
                self._began = True
                self._start()
            elif self._notices is not None:
                self._notices.pump()
                if self._stale or not self._watches:
                    self._start()
            elif now or self._clock() >= self._next_walk:
                self._walk()
            return self.changed_at

    def edited(self, *, thorough: bool) -> tuple[float, str]:
        """Return the result of `look`, with a printable name of the last change."""
        return self.look(now=thorough), "".join(letter if letter.isprintable() else "?" for letter in self.changed[-NAME_LENGTH:])

    @contextlib.contextmanager
    def own(self) -> Iterator[None]:
        """Attribute changes in the folder to the agent while the block runs."""
        with self._lock:
            if self._began:
                self.look(now=True)
            self._writing += 1
        try:
            yield
        finally:
            with self._lock:
                if self._began:
                    self.look(now=True)
                self._writing -= 1

    def _start(self) -> None:
        """Watch all folders that exist now."""
        if self._notices is None:
            self._files = self._signatures()
            return
        self._end_watches()
        try:
            for folder, entry in _entries(self._root):
                if entry is None:
                    self._watch(self._notices, folder)
        except OSError as error:
            if error.errno in NO_FOLDER:  # retried at the next look
                return
            self._end_watches()  # the node's inotify watches are used up
            self._notices = None
            self._files = self._signatures()

    def _end_watches(self) -> None:
        if self._notices is not None:
            for number in self._watches:
                self._notices.forget(number)
        self._watches, self._stale = [], False

    def _watch(self, notices: Inotify, folder: str) -> None:
        path = os.path.join(self._root, folder)
        try:
            number = notices.watch(path, MASK | (inotify.DONT_FOLLOW if folder else 0), lambda mask, name: self._take(folder, mask, name))
        except OSError as error:
            if folder and error.errno in NO_FOLDER:  # gone since it was listed
                return
            raise
        self._watches.append(number)

    def _take(self, folder: str, mask: int, name: str) -> None:
        is_folder = bool(mask & inotify.IS_DIRECTORY)
        path = os.path.join(folder, name)
        if mask & (GONE | inotify.OVERFLOW):
            self._stale = True
        if mask & inotify.OVERFLOW:
            self._note(path)
        if not (mask & CHANGES and name) or _left_out(path, is_folder=is_folder):
            return
        if is_folder and mask & ~inotify.ATTRIB & CHANGES:
            self._stale = True  # a folder was added, removed or renamed: set all watches again
        self._note(path)

    def _walk(self) -> None:
        began = time.thread_time()
        before, self._files = self._files, self._signatures()
        differing = before.items() ^ self._files.items()
        if differing:
            self._note(max(differing, key=lambda item: item[1])[0])
        self._next_walk = self._clock() + (time.thread_time() - began) / COST_SHARE

    def _signatures(self) -> dict[str, Signature]:
        found = {}
        with contextlib.suppress(OSError):
            for folder, entry in _entries(self._root):
                with contextlib.suppress(OSError):
                    if entry is not None:
                        found[os.path.join(folder, entry.name)] = _signature(entry)
        return found

    def _note(self, path: str) -> None:
        if not self._writing:
            self.changed_at, self.changed = self._clock(), path


def _entries(root: str) -> Iterator[tuple[str, os.DirEntry[str] | None]]:
    """Yield each folder from `root` down with None, then with each of its entries, 5,000 at most. Raises OSError for `root` only."""
    waiting, left = [""], ENTRIES_LIMIT
    while waiting and left > 0:
        folder = waiting.pop()
        try:
            with os.scandir(os.path.join(root, folder)) as found:
                yield folder, None
                for entry in found:
                    is_folder = entry.is_dir(follow_symlinks=False)
                    path = os.path.join(folder, entry.name)
                    if _left_out(path, is_folder=is_folder):
                        continue
                    left -= 1
                    if is_folder:
                        waiting.append(path)
                    yield folder, entry
                    if left <= 0:
                        return
        except OSError:
            if not folder:
                raise


def _left_out(path: str, *, is_folder: bool) -> bool:
    return os.path.basename(path) in IGNORED_FOLDERS if is_folder else ignored(path)


def _signature(entry: os.DirEntry[str]) -> Signature:
    """Return what changes with a file. For a folder it is constant: its times also change with entries that are left out."""
    found = entry.stat(follow_symlinks=False)
    if stat.S_ISDIR(found.st_mode):
        return 0, 0, 0, 0
    return found.st_ctime_ns, found.st_mtime_ns, found.st_size, found.st_ino
