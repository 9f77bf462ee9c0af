"""Finds what in the flow folder differs from what was pushed, without following links or reading unchanged files twice."""

from __future__ import annotations

import itertools
import os
import stat
import time

from flowsession_agent.digests import fingerprint, sha256
from flowsession_agent.edits.left_out import Ignore, looks_secret
from flowsession_agent.session.baseline import NOT_KNOWN
from flowsession_agent.session.flow_folder import AGENTS_OWN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterable, Protocol

    from flowsession_agent.session.baseline import Baseline

    Signature = tuple[int, int, int, int]

    class LeavesOut(Protocol):
        """Returns whether a file or folder of this name is not an edit, and is not looked into."""

        def __call__(self, name: str, *, folder: bool) -> bool: ...


ENTRIES_LIMIT = 5_000
CONTENT_LIMIT = 64 * 1024 * 1024
"""Bytes of edits that are identified by content. No archive takes more, so beyond that, size and time are enough."""
IGNORED_FOLDERS = ("__pycache__", ".promptflow", "process_log")
SETTLED_NANOSECONDS = 100_000_000
"""Age below which a fingerprint is not reused: a file may change twice within one tick of the file system's clock (git calls it racy)."""
CHUNK = 64 * 1024
HOME_PREFIX = f"{AGENTS_OWN}home/"
"""Prefix of the paths of files in the session's home. No file of a flow folder has such a name."""
FILE, LINK, DELETED = "file", "link", "deleted"


class Edit:
    """One file that differs from what was pushed. `content`: a fingerprint, a link's target, or empty for a deletion; `size`: in bytes."""

    def __init__(self, path: str, kind: str, *, executable: bool = False, content: str = "", size: int = 0) -> None:
        self.path = path
        self.kind = kind
        self.executable = executable
        self.content = content
        self.size = size

    @property
    def shown(self) -> str:
        """The path as valid UTF-8, for people and JSON, marked if the file is deleted."""
        path = f"~/{self.path[len(HOME_PREFIX) :]}" if self.path.startswith(HOME_PREFIX) else self.path
        return printable(path) + (" (deleted)" if self.kind == DELETED else "")

    def same(self, other: Edit | None) -> bool:
        """Return whether both describe the same file."""
        return other is not None and self._members() == other._members()

    def _members(self) -> tuple[str, str, bool, str]:
        return self.path, self.kind, self.executable, self.content

    def line(self) -> bytes:
        """Return the bytes that this edit adds to the hash that makes the revision."""
        return "\0".join([*map(str, self._members()), ""]).encode(errors="surrogateescape") + b"\n"


class Snapshot:
    """The edits at one moment, sorted by path. `more`: the folder has more entries than were scanned; `problem`: what can't be read;
    `left_out`: what was changed but is not saved, and why."""

    def __init__(self, edits: Iterable[Edit], *, more: bool, problem: str, left_out: Iterable[str] = ()) -> None:
        self.edits = sorted(edits, key=lambda edit: edit.path)
        self.more = more
        self.problem = problem
        self.left_out = sorted(left_out)
        self.size = sum(edit.size for edit in self.edits)

    @property
    def revision(self) -> str:
        """16 hexadecimal digits that identify exactly these edits; empty without edits."""
        if not self.edits:
            return ""
        digest = sha256(b"more\n" if self.more else b"")
        for edit in self.edits:
            digest.update(edit.line())
        found: str = digest.hexdigest()[:16]
        return found


class Scanner:
    """Scans one folder repeatedly. Not thread-safe."""

    def __init__(self, root: str, *, leaves_out: LeavesOut | None = None) -> None:
        self._root = root
        self._leaves_out = leaves_out or _ignored_name
        self._ignore = Ignore(root)
        self._known: dict[str, tuple[Signature, str]] = {}
        self._seen: dict[str, tuple[Signature, str]] = {}
        self._budget = 0
        self._problem = ""

    def look(self, baseline: Baseline) -> Snapshot:
        """Return the present edits, by a scan of at most 5,000 entries of the folder, and of the pushed files."""
        self._seen, self._budget, self._problem = {}, CONTENT_LIMIT, ""
        self._ignore.begin()
        edits: list[Edit] = []
        left_out: list[str] = []
        pushed = set(baseline)
        pushed_folders = {name[: position + 1] for name in pushed for position, letter in enumerate(name) if letter == "/"}
        met: set[str] = set()
        left = ENTRIES_LIMIT
        waiting = [""]
        while waiting and left >= 0:
            folder = waiting.pop()
            entries, count = self._entries(folder, left + 1)
            left -= count
            for name, is_folder in entries:
                path = folder + name
                if path not in pushed and path + "/" not in pushed_folders and self._ignore.names(path, folder=is_folder):
                    left_out.append(f"{printable(path)}{'/' if is_folder else ''} ({self._ignore.name})")
                elif is_folder:
                    waiting.append(path + "/")
                else:
                    met.add(path)
                    self._take(path, self.entry(path, baseline), edits, left_out)
        more = left < 0
        for path in sorted(pushed - met):
            if ignored(path):
                continue
            there = more and self._is_there(path)  # the walk may have ended before it
            edit = self.entry(path, baseline) if there else Edit(path, DELETED) if baseline.must_be_there(path) else None
            self._take(path, edit, edits, left_out)
        self._known, self._seen = self._seen, {}
        return Snapshot(edits, more=more, problem=self._problem or self._ignore.problem, left_out=left_out)

    def _take(self, path: str, edit: Edit | None, edits: list[Edit], left_out: list[str]) -> None:
        if edit is not None and looks_secret(path):
            left_out.append(f"{edit.shown} (a name that secrets have)")
        elif edit is not None:
            edits.append(edit)

    def entry(self, path: str, baseline: Baseline) -> Edit | None:
        """Return the file at `path` as an edit; None if it is as pushed, gone, or neither file nor link."""
        whole = os.path.join(self._root, path)
        try:
            found = os.lstat(whole)
            if stat.S_ISLNK(found.st_mode):
                target = os.readlink(whole)
                return Edit(path, LINK, content=target, size=len(os.fsencode(target)))
            return self._file(path, whole, found, baseline) if stat.S_ISREG(found.st_mode) else None
        except (FileNotFoundError, NotADirectoryError):  # removed meanwhile
            return None
        except OSError as error:
            self._note(path, error)
            return None

    def _file(self, path: str, whole: str, found: os.stat_result, baseline: Baseline) -> Edit | None:
        executable, size = bool(found.st_mode & stat.S_IXUSR), found.st_size
        if not executable and baseline.fits(path, NOT_KNOWN):
            return None
        if baseline.fits_size(path, size):
            content = self._fingerprint(path, whole, found)
            if not executable and baseline.fits(path, content):
                return None
        else:
            self._budget -= size
            content = self._fingerprint(path, whole, found) if self._budget >= 0 else f"{size}:{found.st_mtime_ns}"
        return Edit(path, FILE, executable=executable, content=content, size=size)

    def _fingerprint(self, path: str, whole: str, found: os.stat_result) -> str:
        signature = _signature(found)
        known = self._known.get(path)
        if known is None or known[0] != signature:
            descriptor = os.open(whole, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with open(descriptor, "rb", buffering=0) as file:
                digest, size = sha256(), 0
                while size <= found.st_size:  # a growing file is read no further than its size at the start
                    data = file.read(CHUNK)
                    if not data:
                        break
                    digest.update(data)
                    size += len(data)
                steady = _signature(os.fstat(descriptor)) == signature
            known = signature, fingerprint(size, digest)
            if not steady or time.time_ns() - found.st_ctime_ns < SETTLED_NANOSECONDS:
                return known[1]
        self._seen[path] = known
        return known[1]

    def _entries(self, folder: str, most: int) -> tuple[list[tuple[str, bool]], int]:
        """Return the first `most` entries, sorted by name, each with whether it is a folder, and how many were looked at.

        Leaves out what Python and prompt flow write next to the flow's files, and what is neither file, link nor folder.
        """
        entries, count = [], 0
        try:
            with os.scandir(os.path.join(self._root, folder)) as found:
                for entry in itertools.islice(found, most):
                    count += 1
                    is_folder = entry.is_dir(follow_symlinks=False)
                    kept = is_folder or entry.is_symlink() or entry.is_file(follow_symlinks=False)
                    if kept and not self._leaves_out(entry.name, folder=is_folder):
                        entries.append((entry.name, is_folder))
        except FileNotFoundError:  # removed meanwhile
            return [], count
        except OSError as error:
            self._note(folder or "The flow folder", error)
        return sorted(entries), count

    def _is_there(self, path: str) -> bool:
        """Return whether a file or link is at `path`, reached without following a link."""
        parts = path.split("/")
        folders = [os.path.join(self._root, *parts[:count]) for count in range(1, len(parts))]
        try:
            mode = os.lstat(os.path.join(self._root, path)).st_mode
        except OSError:
            return False
        return (stat.S_ISREG(mode) or stat.S_ISLNK(mode)) and not any(map(os.path.islink, folders))

    def _note(self, path: str, error: OSError) -> None:
        self._problem = self._problem or f"{printable(path)} can't be read, so it is not saved: {error.strerror}."


def ignored(path: str) -> bool:
    """Return whether `path`, relative to the flow folder, can never be an edit."""
    *folders, name = path.split("/")
    return _ignored_name(name, folder=False) or any(_ignored_name(folder, folder=True) for folder in folders)


def printable(name: str) -> str:
    """Return a file name that may not be UTF-8 as text that is."""
    return name.encode(errors="surrogateescape").decode(errors="replace")


def _ignored_name(name: str, *, folder: bool) -> bool:
    return name in IGNORED_FOLDERS if folder else name.endswith(".pyc") or name.startswith(AGENTS_OWN)


def _signature(found: os.stat_result) -> Signature:
    return found.st_size, found.st_mtime_ns, found.st_ino, found.st_ctime_ns
