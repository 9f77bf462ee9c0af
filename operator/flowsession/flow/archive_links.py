"""Puts in the place of an archive's symbolic links what they point at, inside the archive only, and says where they lead."""

import bisect
import itertools
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass

MOST_ENTRIES = 3_000
"""Files, folders and links of an archive. Reading as many takes up to 70 ms (measured), during which nobody else is served."""

LARGEST_UNPACKED = 8 * 1024 * 1024
"""Bytes of all files together, as many as a session's agent takes."""

LONGEST_PATH = 1024
"""Bytes of a path, as the session's agent has it."""

DEEPEST = 50
"""Folders in one another."""

MOST_LINKS = 100
"""Symbolic links of an archive: each may lead to a folder of thousands of files."""

MOST_HOPS = 8
"""Links on the way to a file."""


class ArchiveError(Exception):
    """The archive can't be used; the text names the member and what to do."""


@dataclass(frozen=True)
class Link:
    """A symbolic link, and what it says."""

    target: str


class Links:
    """Puts in the place of links what they point at."""

    def __init__(self, entries: Mapping[str, bytes | Link]) -> None:
        self._entries = entries
        self._files: dict[str, bytes] = {name: content for name, content in entries.items() if isinstance(content, bytes)}
        self._left = LARGEST_UNPACKED - sum(map(len, self._files.values()))
        self._sorted: list[str] = []
        self.ends: dict[str, str] = {}

    def resolved(self) -> Mapping[str, bytes]:
        """All files. Raises ArchiveError naming a link that leads nowhere, outside, or to a folder that has links."""
        links = {name: content for name, content in self._entries.items() if isinstance(content, Link)}
        if not links:
            return self._files
        if len(links) > MOST_LINKS:
            raise ArchiveError(
                f"has {len(links):,} symbolic links, more than {MOST_LINKS}; put files in their place (tar -h follows links)"
            )
        plain = dict(self._files)
        self._sorted = sorted(plain)
        for name, link in links.items():
            target = self.ends[name] = self._target(name)
            if target in plain:
                self._put(name, name, plain[target])
                continue
            below = self._below(target)
            if not below:
                raise ArchiveError(f"link {shown(name)} points at {shown(link.target)}, which is not in the archive")
            if target == "." or name.startswith(f"{target}/") or any(other.startswith(f"{target}/") for other in links):
                raise ArchiveError(
                    f"link {shown(name)} points at a folder that holds links; put files in their place (tar -h follows links)"
                )
            for file in below:
                self._put(name, name + file.removeprefix(target), plain[file])
        return self._files

    def _put(self, link: str, name: str, content: bytes) -> None:
        self._left -= len(content)
        if self._left < 0 or len(self._files) >= MOST_ENTRIES:
            raise ArchiveError(
                f"link {shown(link)}: with what links point at, there are more than {LARGEST_UNPACKED:,} bytes or {MOST_ENTRIES:,} files"
            )
        if len(name.encode()) > LONGEST_PATH:
            raise ArchiveError(f"link {shown(link)} makes a path of more than {LONGEST_PATH} bytes")
        self._files[name] = content

    def _below(self, folder: str) -> list[str]:
        prefix = "" if folder == "." else f"{folder}/"
        first = bisect.bisect_left(self._sorted, prefix)
        return list(itertools.takewhile(lambda name: name.startswith(prefix), self._sorted[first:]))

    def _target(self, name: str) -> str:
        """Where a link leads in the end, through links on the way."""
        path = name
        for _ in range(MOST_HOPS):
            link, rest = self._first_link(path)
            if link is None:
                return path
            target = self._entries[link]
            assert isinstance(target, Link)
            if len(target.target.encode(errors="surrogateescape")) > LONGEST_PATH:
                raise ArchiveError(f"link {shown(name)} points at {shown(target.target)}, a path of more than {LONGEST_PATH} bytes")
            joined = posixpath.normpath(posixpath.join(posixpath.dirname(link), target.target, rest))
            if target.target.startswith("/") or joined == ".." or joined.startswith("../"):
                raise ArchiveError(
                    f"link {shown(name)} points at {shown(target.target)}, outside of the archive; put the file in its place"
                )
            if joined.count("/") > DEEPEST:
                raise ArchiveError(f"link {shown(name)} leads more than {DEEPEST} folders deep")
            path = joined
        raise ArchiveError(f"link {shown(name)} goes round in circles; put a file in its place")

    def _first_link(self, path: str) -> tuple[str | None, str]:
        parts = path.split("/")
        for number in range(1, len(parts) + 1):
            head = "/".join(parts[:number])
            if isinstance(self._entries.get(head), Link):
                return head, "/".join(parts[number:])
        return None, ""


def shown(name: str) -> str:
    """A name for a message."""
    return repr(name if len(name) <= 120 else f"{name[:120]}...")
