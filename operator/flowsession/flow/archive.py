"""Unpacks a .tar.gz or .zip in memory, as a stranger's: nothing but plain files comes out, under names inside the archive, and not many.

Symbolic links become the files that they point at, where these are in the archive. Everything odd is refused by its name.
"""

import io
import posixpath
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from flowsession.flow import tarball
from flowsession.flow.archive_links import DEEPEST, LARGEST_UNPACKED, LONGEST_PATH, MOST_ENTRIES, ArchiveError, Link, Links, shown

LONGEST_NAME = 255
"""Bytes of a file's name, as file systems have it."""

LARGEST_EXTRA = 1024
"""Bytes of the extra fields of a zip's member; times, owners and 64-bit sizes take a tenth of that. Reading them takes time by the square
of their length."""

_TOO_LONG = f"too long a name: {LONGEST_NAME} bytes a part and {LONGEST_PATH} in all"
_DIRECTORY_ENTRY = b"PK\x01\x02"
_EXTRA_LENGTH = 30
"""Where an entry of a zip's directory says how long its extra fields are."""

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
    """What an archive holds."""

    files: Mapping[str, bytes]
    """All files; what links point at among them, under the links' names."""
    links: Mapping[str, str]
    """Where each symbolic link leads in the end."""


def unpack(data: bytes) -> Unpacked:
    """The archive's content. Raises ArchiveError."""
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
                    f"more than {LARGEST_UNPACKED:,} bytes when unpacked, at {shown(name)}; keep large data out of the flow folder"
                )
        path = _path(name)
        if path == ".":
            raise ArchiveError(f"member {shown(name)} has no name; pack the folder anew")
        entries.pop(path, None)  # a later member of the same name is the one that counts, as for tar
        entries[path] = content
    links = Links(entries)
    return Unpacked(links.resolved(), links.ends)


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
                yield member.name, Link(member.target[: LONGEST_PATH + 1])
            elif member.kind != "folder":
                raise ArchiveError(f"member {shown(member.name)} is {member.kind}; only files, folders and symbolic links are taken")
    except tarball.TarError as error:
        raise ArchiveError(f"is no sound .tar.gz: {error}; pack the folder anew") from None


def _zip(data: bytes) -> Iterator[tuple[str, bytes | Link]]:
    _check_directory(data)
    left, packed_left = LARGEST_UNPACKED, len(data)
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
                if packed_left < 0:  # what unpacks to nothing could be unpacked thousands of times
                    raise ArchiveError(f"member {shown(name)} shares its bytes with others; pack the folder by zip -r")
                with packed.open(member) as file:
                    content = file.read(left + 1)
                left -= len(content)
                if left < 0:
                    raise ArchiveError(
                        f"more than {LARGEST_UNPACKED:,} bytes when unpacked, at {shown(name)}; keep large data out of the flow folder"
                    )
                yield name, Link(content[: LONGEST_PATH + 1].decode(errors="surrogateescape")) if kind == 0o120000 else content
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError, ValueError) as error:
        raise ArchiveError(f"is no sound .zip: {str(error) or type(error).__name__}; pack the folder anew") from None


def _check_directory(data: bytes) -> None:
    """Parsing the list of members is what takes the time: each entry of it begins with the same bytes."""
    if data.count(_DIRECTORY_ENTRY) > 2 * MOST_ENTRIES:
        raise ArchiveError(f"more than {MOST_ENTRIES:,} members; leave out what the flow does not need")
    at = data.find(_DIRECTORY_ENTRY)
    while at >= 0:
        length = int.from_bytes(data[at + _EXTRA_LENGTH : at + _EXTRA_LENGTH + 2], "little")
        if length > LARGEST_EXTRA:
            raise ArchiveError(f"a member has {length:,} bytes of extra fields, more than {LARGEST_EXTRA:,}; pack the folder by zip -r")
        at = data.find(_DIRECTORY_ENTRY, at + 1)


def _count(number: int) -> None:
    if number >= MOST_ENTRIES:
        raise ArchiveError(f"more than {MOST_ENTRIES:,} members; leave out what the flow does not need")


def _path(name: str) -> str:
    """A member's name as a path inside; "." for the archive's own folder. Raises ArchiveError."""
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        raise ArchiveError(f"member {shown(name)} has a name that is not UTF-8; rename it") from None
    if len(encoded) > LONGEST_PATH:
        raise ArchiveError(f"member {shown(name)} has {_TOO_LONG}")
    if name.startswith("/") or "\0" in name or ".." in name.split("/"):
        raise ArchiveError(
            f"member {shown(name)} lies outside of the archive's folder; pack the folder by tar -czf flow.tar.gz -C FOLDER ."
        )
    if max(map(len, encoded.split(b"/"))) > LONGEST_NAME:
        raise ArchiveError(f"member {shown(name)} has {_TOO_LONG}")
    path = posixpath.normpath(name)
    if path.count("/") > DEEPEST:
        raise ArchiveError(f"member {shown(name)} lies more than {DEEPEST} folders deep")
    return path
