"""Unpacks a .tar.gz or .zip in memory, as a stranger's: nothing but plain files comes out, under names inside the archive, and not many.

Symbolic links become the files that they point at, where these are in the archive. Everything odd is refused by its name.
"""

import bisect
import io
import itertools
import posixpath
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from flowsession.decide import tarball

MOST_ENTRIES = 3_000
"""Files, folders and links of an archive. Reading as many takes up to 70 ms (measured), during which nobody else is served."""

LARGEST_UNPACKED = 8 * 1024 * 1024
"""Bytes of all files together, as many as a session's agent takes."""

LONGEST_NAME = 255
"""Bytes of a file's name, as file systems have it."""

LONGEST_PATH = 1024
"""Bytes of a path, as the session's agent has it."""

DEEPEST = 50
"""Folders in one another."""

MOST_LINKS = 100
"""Symbolic links of an archive: each may lead to a folder of thousands of files."""

MOST_HOPS = 8
"""Links on the way to a file."""

_KINDS = (
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"7z\xbc\xaf", "7z"),
    (b"Rar!", "rar"),
    (b"H4sI", "base64 text of a .tar.gz"),
    (b"UEsD", "base64 text of a .zip"),
)


class ArchiveError(Exception):
    """The archive can't be used; the text names the member and what to do."""


@dataclass(frozen=True)
class Link:
    """A symbolic link, and what it says."""

    target: str


def read(data: bytes) -> Mapping[str, bytes]:
    """The archive's files. Raises ArchiveError."""
    if data.startswith(b"\x1f\x8b"):
        members = _tar(data)
    elif data.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        members = _zip(data)
    else:
        found = next((kind for magic, kind in _KINDS if data.startswith(magic)), "plain tar" if data[257:262] == b"ustar" else "neither")
        raise ArchiveError(f"is no .tar.gz and no .zip (it looks like {found}); pack the folder by tar -czf or zip -r")
    entries: dict[str, bytes | Link] = {}
    size = 0
    for name, content in members:
        if isinstance(content, bytes):
            size += len(content)
            if size > LARGEST_UNPACKED:
                raise ArchiveError(
                    f"more than {LARGEST_UNPACKED:,} bytes when unpacked, at {_shown(name)}; keep large data out of the flow folder"
                )
        path = _path(name)
        if path == ".":
            raise ArchiveError(f"member {_shown(name)} has no name; pack the folder anew")
        entries.pop(path, None)  # a later member of the same name is the one that counts, as for tar
        entries[path] = content
    return _Links(entries).resolved()


def _tar(data: bytes) -> Iterator[tuple[str, bytes | Link]]:
    # Beside the files there are a block or two of header and less than one of padding for each.
    limit = LARGEST_UNPACKED + MOST_ENTRIES * 5 * tarball.BLOCK
    unpacker = zlib.decompressobj(wbits=31)
    try:
        raw = unpacker.decompress(data, limit)
    except zlib.error as error:
        raise ArchiveError(f"is no sound .tar.gz: {error}; pack the folder anew") from None
    if unpacker.unconsumed_tail:
        raise ArchiveError(f"more than {LARGEST_UNPACKED:,} bytes when unpacked; keep large data out of the flow folder")
    if not unpacker.eof:
        raise ArchiveError("is a .tar.gz that is cut short; make the ConfigMap anew")
    if unpacker.unused_data.strip(b"\0"):
        raise ArchiveError("is a .tar.gz with something behind its end; pack the folder anew")
    try:
        for number, member in enumerate(tarball.members(raw)):
            _count(number)
            if member.kind == "file":
                yield member.name, member.content
            elif member.kind == "link":
                yield member.name, Link(member.target)
            elif member.kind != "folder":
                raise ArchiveError(f"member {_shown(member.name)} is {member.kind}; only files, folders and symbolic links are taken")
    except tarball.TarError as error:
        raise ArchiveError(f"is no sound .tar.gz: {error}; pack the folder anew") from None


def _zip(data: bytes) -> Iterator[tuple[str, bytes | Link]]:
    if data.count(b"PK\x01\x02") > 2 * MOST_ENTRIES:  # parsing the list of members is what takes the time
        raise ArchiveError(f"more than {MOST_ENTRIES:,} members; leave out what the flow does not need")
    left = LARGEST_UNPACKED
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as packed:
            for number, member in enumerate(packed.infolist()):
                _count(number)
                # Windows' own packers write \ between folders.
                name = member.filename.replace("\\", "/") if member.create_system == 0 else member.filename
                kind = (member.external_attr >> 16) & 0o170000 if member.create_system == 3 else 0
                if name.endswith("/"):
                    continue
                if member.flag_bits & 1:
                    raise ArchiveError(f"member {_shown(name)} is encrypted; pack the folder without a password")
                if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise ArchiveError(f"member {_shown(name)} is packed by a method other than deflate; pack the folder by zip -r")
                if kind not in (0, 0o100000, 0o120000):
                    raise ArchiveError(f"member {_shown(name)} is a device or the like; only files, folders and symbolic links are taken")
                with packed.open(member) as file:
                    content = file.read(left + 1)
                left -= len(content)
                if left < 0:
                    raise ArchiveError(
                        f"more than {LARGEST_UNPACKED:,} bytes when unpacked, at {_shown(name)}; keep large data out of the flow folder"
                    )
                yield name, Link(content[: LONGEST_PATH + 1].decode(errors="surrogateescape")) if kind == 0o120000 else content
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError, ValueError) as error:
        raise ArchiveError(f"is no sound .zip: {str(error) or type(error).__name__}; pack the folder anew") from None


def _count(number: int) -> None:
    if number >= MOST_ENTRIES:
        raise ArchiveError(f"more than {MOST_ENTRIES:,} members; leave out what the flow does not need")


def _path(name: str) -> str:
    """A member's name as a path inside; "." for the archive's own folder. Raises ArchiveError."""
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        raise ArchiveError(f"member {_shown(name)} has a name that is not UTF-8; rename it") from None
    if name.startswith("/") or "\0" in name or ".." in name.split("/"):
        raise ArchiveError(
            f"member {_shown(name)} lies outside of the archive's folder; pack the folder by tar -czf flow.tar.gz -C FOLDER ."
        )
    if len(encoded) > LONGEST_PATH or max(map(len, encoded.split(b"/"))) > LONGEST_NAME:
        raise ArchiveError(f"member {_shown(name)} has too long a name: {LONGEST_NAME} bytes a part and {LONGEST_PATH} in all")
    path = posixpath.normpath(name)
    if path.count("/") > DEEPEST:
        raise ArchiveError(f"member {_shown(name)} lies more than {DEEPEST} folders deep")
    return path


class _Links:
    """Puts in the place of links what they point at."""

    def __init__(self, entries: Mapping[str, bytes | Link]) -> None:
        self._entries = entries
        self._files: dict[str, bytes] = {name: content for name, content in entries.items() if isinstance(content, bytes)}
        self._left = LARGEST_UNPACKED - sum(map(len, self._files.values()))
        self._sorted: list[str] = []

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
            target = self._target(name)
            if target in plain:
                self._put(name, name, plain[target])
                continue
            below = self._below(target)
            if not below:
                raise ArchiveError(f"link {_shown(name)} points at {_shown(link.target)}, which is not in the archive")
            if target == "." or name.startswith(f"{target}/") or any(other.startswith(f"{target}/") for other in links):
                raise ArchiveError(
                    f"link {_shown(name)} points at a folder that holds links; put files in their place (tar -h follows links)"
                )
            for file in below:
                self._put(name, name + file.removeprefix(target), plain[file])
        return self._files

    def _put(self, link: str, name: str, content: bytes) -> None:
        self._left -= len(content)
        if self._left < 0 or len(self._files) >= MOST_ENTRIES:
            raise ArchiveError(
                f"link {_shown(link)}: with what links point at, there are more than {LARGEST_UNPACKED:,} bytes or {MOST_ENTRIES:,} files"
            )
        if len(name.encode()) > LONGEST_PATH:
            raise ArchiveError(f"link {_shown(link)} makes a path of more than {LONGEST_PATH} bytes")
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
            joined = posixpath.normpath(posixpath.join(posixpath.dirname(link), target.target, rest))
            if target.target.startswith("/") or joined == ".." or joined.startswith("../"):
                raise ArchiveError(
                    f"link {_shown(name)} points at {_shown(target.target)}, outside of the archive; put the file in its place"
                )
            if joined.count("/") > DEEPEST:
                raise ArchiveError(f"link {_shown(name)} leads more than {DEEPEST} folders deep")
            path = joined
        raise ArchiveError(f"link {_shown(name)} goes round in circles; put a file in its place")

    def _first_link(self, path: str) -> tuple[str | None, str]:
        parts = path.split("/")
        for number in range(1, len(parts) + 1):
            head = "/".join(parts[:number])
            if isinstance(self._entries.get(head), Link):
                return head, "/".join(parts[number:])
        return None, ""


def _shown(name: str) -> str:
    return repr(name if len(name) <= 120 else f"{name[:120]}...")
