"""Unpacks an untrusted .tar.gz or .zip in memory: the result is a limited number of plain files with names inside the archive.

Symbolic links become the files that they point at, if these are in the archive. Errors name the member that is refused.
"""

import bisect
import io
import itertools
import posixpath
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Self

from flowsession_protocol.limits import ARCHIVE_FILES, FLOW_BYTES, NAME_BYTES, PATH_BYTES

DEEPEST = 50
"""Levels of nested folders."""


MOST_LINKS = 100
"""Symbolic links of an archive: each may lead to a folder of thousands of files."""


MOST_HOPS = 8
"""Links followed on the way to a file."""


class ArchiveError(Exception):
    """The archive can't be used; the text names the member and what to do."""


@dataclass(frozen=True)
class Link:
    """A symbolic link and its target, as written."""

    target: str


class Links:
    """Replaces links by what they point at."""

    def __init__(self, entries: Mapping[str, bytes | Link]) -> None:
        self._entries = entries
        self._files: dict[str, bytes] = {name: content for name, content in entries.items() if isinstance(content, bytes)}
        self._left = FLOW_BYTES - sum(map(len, self._files.values()))
        self._sorted: list[str] = []
        self.ends: dict[str, str] = {}

    def resolved(self) -> Mapping[str, bytes]:
        """Return all files. Raises ArchiveError naming a link that leads nowhere, outside, or to a folder that has links."""
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
        if self._left < 0 or len(self._files) >= ARCHIVE_FILES:
            raise ArchiveError(
                f"link {shown(link)}: with what links point at, there are more than {FLOW_BYTES:,} bytes or {ARCHIVE_FILES:,} files"
            )
        if len(name.encode()) > PATH_BYTES:
            raise ArchiveError(f"link {shown(link)} makes a path of more than {PATH_BYTES} bytes")
        self._files[name] = content

    def _below(self, folder: str) -> list[str]:
        prefix = "" if folder == "." else f"{folder}/"
        first = bisect.bisect_left(self._sorted, prefix)
        return list(itertools.takewhile(lambda name: name.startswith(prefix), self._sorted[first:]))

    def _target(self, name: str) -> str:
        """Return where a link finally leads, through links on the way. Raises ArchiveError."""
        path = name
        for _ in range(MOST_HOPS):
            link, rest = self._first_link(path)
            if link is None:
                return path
            target = self._entries[link]
            assert isinstance(target, Link)
            if len(target.target.encode(errors="surrogateescape")) > PATH_BYTES:
                raise ArchiveError(f"link {shown(name)} points at {shown(target.target)}, a path of more than {PATH_BYTES} bytes")
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
    """Return a name for a message, cut to 120 characters."""
    return repr(name if len(name) <= 120 else f"{name[:120]}...")


BLOCK = 512


_LONGEST_HEADER = 64 * 1024
"""Bytes of one pax header or long name; accepted names have at most 1 KiB."""


MOST_HEADERS = 10_000
"""Headers of a tar, including those about other headers: a legitimate member has up to three."""


MOST_IN_A_ROW = 150
"""Headers about one member: `tarfile` follows them recursively."""


MOST_RECORDS = 20_000
"""Records of all pax headers together; a legitimate member has a handful."""


_ABOUT_OTHERS = frozenset((tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE))


_OTHERS = {tarfile.LNKTYPE: "a hard link", tarfile.CHRTYPE: "a device", tarfile.BLKTYPE: "a device", tarfile.FIFOTYPE: "a pipe"}


class _Tar(tarfile.TarFile):
    """A tar in memory, read by the standard library."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.headers = self.in_a_row = self.records = 0
        # Some packers omit the padding of the last member.
        padded = io.BytesIO(raw + bytes(-len(raw) % BLOCK))
        super().__init__(fileobj=padded, tarinfo=_Header, encoding="utf-8", errors="surrogateescape")

    def check(self, member: tarfile.TarInfo) -> None:
        """Check a header before `tarfile` processes it. Raises ReadError or ArchiveError."""
        self.headers += 1
        self.in_a_row = self.in_a_row + 1 if member.type in _ABOUT_OTHERS else 0
        if self.headers > MOST_HEADERS or self.in_a_row > MOST_IN_A_ROW:
            raise tarfile.ReadError(f"it has more than {MOST_HEADERS:,} headers, or {MOST_IN_A_ROW} about one member")
        if member.type == tarfile.GNUTYPE_SPARSE:
            raise ArchiveError(f"member {shown(member.name)} is a sparse file; only files, folders and symbolic links are taken")
        start = member.offset + BLOCK
        has_content = member.isreg() or member.type not in tarfile.SUPPORTED_TYPES
        if member.type in _ABOUT_OTHERS:
            if member.size > _LONGEST_HEADER:
                raise tarfile.ReadError(f"a header of {member.size:,} bytes")
            self.records += self.raw.count(b"\n", start, start + member.size)  # each ends with a line feed
            if self.records > MOST_RECORDS:
                raise tarfile.ReadError(f"its headers have more than {MOST_RECORDS:,} records")
        elif not has_content:
            return
        if member.size < 0 or start + member.size > len(self.raw):
            raise tarfile.ReadError(f"the member at byte {member.offset:,} is cut short")


class _Header(tarfile.TarInfo):
    """A header. `tarfile` itself would silently end the archive at an unreadable one."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> Self:
        assert isinstance(tar, _Tar) and tar.fileobj is not None
        at = tar.fileobj.tell()
        try:
            return super().fromtarfile(tar)
        except tarfile.HeaderError as error:
            if tar.raw[at : at + BLOCK].strip(b"\0"):
                raise tarfile.ReadError(f"the header at byte {at:,} has a wrong checksum or number ({error})") from None
            raise  # the end of the archive

    def _proc_member(self, tar: "_Tar") -> tarfile.TarInfo:
        """Check the header, then process it: a hook of `tarfile` for subclasses."""
        tar.check(self)
        return super()._proc_member(tar)  # type: ignore[misc,no-any-return] # typeshed lacks it


LARGEST_EXTRA = 1024
"""Bytes of the extra fields of a zip's member; times, owners and 64-bit sizes take a tenth of that. Parsing them takes time that grows with
the square of their length."""

_TOO_LONG = f"too long a name: {NAME_BYTES} bytes a part and {PATH_BYTES} in all"
_DIRECTORY_ENTRY = b"PK\x01\x02"
_EXTRA_LENGTH = 30
"""Offset of the extra fields' length in an entry of a zip's directory."""

_KINDS = (
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"7z\xbc\xaf", "7z"),
    (b"Rar!", "rar"),
    (b"H4sI", "base64 text of a .tar.gz"),
    (b"UEsD", "base64 text of a .zip"),
)


@dataclass(frozen=True)
class Unpacked:
    """The contents of an archive."""

    files: Mapping[str, bytes]
    """All files, including those that links point at, under the links' names."""
    links: Mapping[str, str]
    """Where each symbolic link finally leads."""


def unpack(data: bytes) -> Unpacked:
    """Return the archive's contents. Raises ArchiveError."""
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
            if size > FLOW_BYTES:
                raise ArchiveError(
                    f"more than {FLOW_BYTES:,} bytes when unpacked, at {shown(name)}; keep large data out of the flow folder"
                )
        path = _path(name)
        if path == ".":
            raise ArchiveError(f"member {shown(name)} has no name; pack the folder anew")
        entries.pop(path, None)  # as in tar, the later of two members with the same name counts
        entries[path] = content
    links = Links(entries)
    return Unpacked(links.resolved(), links.ends)


def _tar(data: bytes) -> Iterator[tuple[str, bytes | Link]]:
    # Each file adds a block or two of header and less than one of padding.
    limit = FLOW_BYTES + ARCHIVE_FILES * 5 * BLOCK
    unpacker = zlib.decompressobj(wbits=31)
    try:
        raw = unpacker.decompress(data, limit)
    except zlib.error as error:
        raise ArchiveError(f"is no sound .tar.gz: {error}; pack the folder anew") from None
    if unpacker.unconsumed_tail:
        raise ArchiveError(f"more than {FLOW_BYTES:,} bytes when unpacked; keep large data out of the flow folder")
    if not unpacker.eof:
        raise ArchiveError("is a .tar.gz that is cut short; make the ConfigMap anew")
    if unpacker.unused_data.strip(b"\0"):
        raise ArchiveError("is a .tar.gz with something behind its end; pack the folder anew")
    try:
        with _Tar(raw) as packed:
            for number, member in enumerate(packed):
                _count(number)
                if member.issym():
                    yield member.name, Link(member.linkname[: PATH_BYTES + 1])
                elif member.isreg() and not member.issparse():
                    content = raw[member.offset_data : member.offset_data + member.size]
                    if len(content) != member.size:
                        raise tarfile.ReadError(f"member {shown(member.name)} is cut short")
                    if not member.name.endswith("/"):  # else a folder, from before folders had their own type
                        yield member.name, content
                elif not member.isdir():
                    kind = (
                        "a sparse file"
                        if member.issparse()
                        else _OTHERS.get(member.type, f"of the unknown type {member.type.decode('latin-1')!r}")
                    )
                    raise ArchiveError(f"member {shown(member.name)} is {kind}; only files, folders and symbolic links are taken")
    except (tarfile.TarError, ValueError, LookupError, ArithmeticError) as error:  # what `tarfile` raises for odd numbers and ends
        raise ArchiveError(f"is no sound .tar.gz: {error}; pack the folder anew") from None


def _zip(data: bytes) -> Iterator[tuple[str, bytes | Link]]:
    _check_directory(data)
    left, packed_left = FLOW_BYTES, len(data)
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
                    raise ArchiveError(f"member {shown(name)} is encrypted; pack the folder without a password")
                if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise ArchiveError(f"member {shown(name)} is packed by a method other than deflate; pack the folder by zip -r")
                if kind not in (0, 0o100000, 0o120000):
                    raise ArchiveError(f"member {shown(name)} is a device or the like; only files, folders and symbolic links are taken")
                packed_left -= member.compress_size
                if packed_left < 0:  # members that unpack to nothing could share their bytes thousands of times
                    raise ArchiveError(f"member {shown(name)} shares its bytes with others; pack the folder by zip -r")
                with packed.open(member) as file:
                    content = file.read(left + 1)
                left -= len(content)
                if left < 0:
                    raise ArchiveError(
                        f"more than {FLOW_BYTES:,} bytes when unpacked, at {shown(name)}; keep large data out of the flow folder"
                    )
                yield name, Link(content[: PATH_BYTES + 1].decode(errors="surrogateescape")) if kind == 0o120000 else content
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError, ValueError) as error:
        raise ArchiveError(f"is no sound .zip: {str(error) or type(error).__name__}; pack the folder anew") from None


def _check_directory(data: bytes) -> None:
    """Raise ArchiveError if there are too many members, or too long extra fields.

    Entries are found by the bytes with which each begins, because parsing the list of members is slow.
    """
    if data.count(_DIRECTORY_ENTRY) > 2 * ARCHIVE_FILES:
        raise ArchiveError(f"more than {ARCHIVE_FILES:,} members; leave out what the flow does not need")
    at = data.find(_DIRECTORY_ENTRY)
    while at >= 0:
        length = int.from_bytes(data[at + _EXTRA_LENGTH : at + _EXTRA_LENGTH + 2], "little")
        if length > LARGEST_EXTRA:
            raise ArchiveError(f"a member has {length:,} bytes of extra fields, more than {LARGEST_EXTRA:,}; pack the folder by zip -r")
        at = data.find(_DIRECTORY_ENTRY, at + 1)


def _count(number: int) -> None:
    if number >= ARCHIVE_FILES:
        raise ArchiveError(f"more than {ARCHIVE_FILES:,} members; leave out what the flow does not need")


def _path(name: str) -> str:
    """Return a member's name as a path inside the archive, "." for the archive's own folder. Raises ArchiveError."""
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        raise ArchiveError(f"member {shown(name)} has a name that is not UTF-8; rename it") from None
    if len(encoded) > PATH_BYTES:
        raise ArchiveError(f"member {shown(name)} has {_TOO_LONG}")
    if name.startswith("/") or "\0" in name or ".." in name.split("/"):
        raise ArchiveError(
            f"member {shown(name)} lies outside of the archive's folder; pack the folder by tar -czf flow.tar.gz -C FOLDER ."
        )
    if max(map(len, encoded.split(b"/"))) > NAME_BYTES:
        raise ArchiveError(f"member {shown(name)} has {_TOO_LONG}")
    path = posixpath.normpath(name)
    if path.count("/") > DEEPEST:
        raise ArchiveError(f"member {shown(name)} lies more than {DEEPEST} folders deep")
    return path
