"""Packs edits as a .tar.gz and unpacks them. Equal edits give equal bytes. Memory and disk use are bounded whatever an archive holds."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import stat
import tarfile
import zlib

from flowsession_agent.digests import fingerprint, sha256
from flowsession_agent.edits.scan import CONTENT_LIMIT, ENTRIES_LIMIT, FILE, LINK, Edit, printable
from flowsession_protocol import limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Callable, Iterable, Iterator

CHUNK = 64 * 1024
HEADERS_LIMIT = 16 * 1024 * 1024
"""Bytes that the members' headers may take in addition to their contents. A tool that pads more than that doesn't pack edits."""


class TooLargeError(Exception):
    """The archive would be larger than an agent hands over or takes back."""


class ChangingError(Exception):
    """A file no longer matches the snapshot."""


class BadArchiveError(Exception):
    """An archive is invalid. The text says why, as the end of a sentence."""


def pack(locate: Callable[[str], str], edits: Iterable[Edit]) -> bytes:
    """Return the archive of the files and links among `edits`, exactly as the snapshot has them. `locate` maps an edit's path to its file.
    Raises TooLargeError or ChangingError."""
    target = _Bounded()
    with (
        gzip.GzipFile(filename="", fileobj=target, mode="wb", compresslevel=6, mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.GNU_FORMAT, encoding="utf-8", errors="surrogateescape") as tar,
    ):
        for edit in edits:
            if edit.kind == LINK:
                member = _member(edit)
                member.type, member.linkname = tarfile.SYMTYPE, edit.content
                _check_link(locate, edit)
                tar.addfile(member)
            elif edit.kind == FILE:
                _pack_file(tar, locate, edit)
    return target.getvalue()


def read(archive: bytes) -> list[Edit]:
    """Return what the archive holds, sorted by path. Raises BadArchiveError for what `pack` would never write."""
    found: dict[str, Edit] = {}
    with _as_bad_archive():
        _read(archive, found)
    for path in found:
        parent = path.rpartition("/")[0]
        while parent:
            if parent in found:
                raise BadArchiveError(f"holds {printable(parent)} as a file and as a folder")
            parent = parent.rpartition("/")[0]
    return sorted(found.values(), key=lambda edit: edit.path)


def unpack(archive: bytes, wanted: set[str], write: Callable[[str, IO[bytes]], None]) -> None:
    """Call `write` with each wanted file's path and content. `read` must have accepted the archive."""
    with _as_bad_archive():
        for member, content in _members(archive):
            if member.name in wanted and content is not None:
                write(member.name, content)


def copier(source: IO[bytes]) -> Callable[[IO[bytes]], None]:
    """Return a function that copies all of a member, in chunks, to the file that it is given."""

    def fill(target: IO[bytes]) -> None:
        while True:
            data = source.read(CHUNK)
            if not data:
                return
            target.write(data)

    return fill


def _read(archive: bytes, found: dict[str, Edit]) -> None:
    for member, content in _members(archive):
        path = member.name
        _check_path(path)
        if path in found:
            raise BadArchiveError(f"holds {printable(path)} twice")
        if member.type == tarfile.SYMTYPE:
            if not member.linkname or "\0" in member.linkname or len(os.fsencode(member.linkname)) >= 4096:  # PATH_MAX
                raise BadArchiveError(f"has a link {printable(path)} that leads nowhere")
            found[path] = Edit(path, LINK, content=member.linkname, size=len(os.fsencode(member.linkname)))
        else:
            found[path] = Edit(path, FILE, executable=bool(member.mode & stat.S_IXUSR), content=_fingerprint(content), size=member.size)
        if len(found) > ENTRIES_LIMIT:
            raise BadArchiveError(f"holds more than {ENTRIES_LIMIT:,} files")


@contextlib.contextmanager
def _as_bad_archive() -> Iterator[None]:
    """Turn what the readers raise into BadArchiveError, but not the disk's own errors."""
    try:
        yield
    except (tarfile.TarError, EOFError, OSError, zlib.error, ValueError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise BadArchiveError(f"is not a .tar.gz of edits ({printable(str(error))[:200] or type(error).__name__})") from None


def _members(archive: bytes) -> Iterator[tuple[tarfile.TarInfo, IO[bytes] | None]]:
    """Yield the members except folders, one by one. Each content must be read before the next."""
    with gzip.GzipFile(fileobj=io.BytesIO(archive)) as compressed:
        source = _Reader(compressed)
        with tarfile.open(fileobj=source, mode="r|", encoding="utf-8", errors="surrogateescape") as tar:
            for member in tar:
                tar.members = []  # type: ignore[attr-defined] # it would keep every header
                if member.type == tarfile.DIRTYPE:
                    _check_path(member.name)
                elif member.type == tarfile.SYMTYPE:
                    yield member, None
                elif member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not member.issparse():
                    yield member, tar.extractfile(member)
                else:
                    raise BadArchiveError(f"holds {printable(member.name)[:200]}, which is neither a file nor a link")
        while source.read(CHUNK):  # to its end, where gzip's checksum is
            continue


def _check_path(path: str) -> None:
    if limits.is_unsafe_path(os.fsencode(path)):
        raise BadArchiveError(f"holds {printable(path)[:200]!r}, which is not a path inside the flow folder")
    if limits.too_long(os.fsencode(path)):
        raise BadArchiveError(f"holds {printable(path)[:80]!r}..., which is too long for a file name")


def _fingerprint(content: IO[bytes] | None) -> str:
    digest, size = sha256(), 0
    while content is not None:
        data = content.read(CHUNK)
        if not data:
            break
        digest.update(data)
        size += len(data)
    return fingerprint(size, digest)


def _member(edit: Edit) -> tarfile.TarInfo:
    member = tarfile.TarInfo(edit.path)
    member.mode = 0o755 if edit.executable else 0o644
    return member


def _check_link(locate: Callable[[str], str], edit: Edit) -> None:
    try:
        target = os.readlink(locate(edit.path))
    except OSError:
        raise ChangingError(edit.shown) from None
    if target != edit.content:
        raise ChangingError(edit.shown)


def _pack_file(tar: tarfile.TarFile, locate: Callable[[str], str], edit: Edit) -> None:
    member = _member(edit)
    try:
        descriptor = os.open(locate(edit.path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        raise ChangingError(edit.shown) from None
    with open(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size != edit.size or bool(found.st_mode & stat.S_IXUSR) != edit.executable:
            raise ChangingError(edit.shown)
        member.size = edit.size
        content = _Hashing(file)
        try:
            tar.addfile(member, content)
        except OSError:  # it ended early
            raise ChangingError(edit.shown) from None
        if fingerprint(content.size, content.digest) != edit.content:
            raise ChangingError(edit.shown)


class _Hashing:
    """A file that is hashed while it is read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = sha256()
        self.size = 0

    def read(self, count: int = -1) -> bytes:
        data = self._file.read(count)
        self.digest.update(data)
        self.size += len(data)
        return data


class _Bounded(io.BytesIO):
    """Accepts no more bytes than an archive may have."""

    def write(self, data: bytes) -> int:  # type: ignore[override]
        if self.tell() + len(data) > limits.ARCHIVE_BYTES:
            raise TooLargeError
        return super().write(data)


class _Reader(io.RawIOBase):
    """Reads an unpacked archive up to a limit, since a megabyte of it may expand to a gigabyte of zeros."""

    def __init__(self, compressed: gzip.GzipFile) -> None:
        super().__init__()
        self._compressed = compressed
        self._left = CONTENT_LIMIT + HEADERS_LIMIT

    def read(self, count: int = -1) -> bytes:
        data = self._compressed.read(min(count, CHUNK) if count >= 0 else CHUNK)
        self._left -= len(data)
        if self._left < 0:
            raise BadArchiveError(f"unpacks to more than {CONTENT_LIMIT:,} bytes")
        return data
