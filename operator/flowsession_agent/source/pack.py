"""Pack a folder's files into the archive for sessions, within the limits that the operator has for every archive."""

from __future__ import annotations

import gzip
import io
import tarfile

from flowsession_agent.source.errors import SourceError
from flowsession_protocol.limits import ARCHIVE_BYTES, ARCHIVE_FILES, FLOW_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Mapping

WAYS_OUT = "narrow the source's path, leave files out by a .amlignore there, or use a persistentVolumeClaim"


def check_count(count: int, what: str) -> None:
    """Raise SourceError for more files than an archive may have."""
    if count > ARCHIVE_FILES:
        raise SourceError("TooLarge", f"{what} has {count:,} files, and at most {ARCHIVE_FILES:,} are taken: {WAYS_OUT}")


def check_sizes(sizes: Mapping[str, int], what: str) -> None:
    """Raise SourceError for more bytes than an archive may have, naming the largest files."""
    total = sum(sizes.values())
    if total > FLOW_BYTES:
        raise SourceError("TooLarge", f"{what} has {total:,} bytes, and at most {FLOW_BYTES:,} are taken ({_largest(sizes)}): {WAYS_OUT}")


def pack(files: Mapping[str, bytes], links: Mapping[str, str], what: str) -> bytes:
    """Return a .tar.gz of the files and symbolic links; the same content always gives the same bytes. Raises SourceError."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in sorted([*files, *links]):
            member = tarfile.TarInfo(name)
            if name in links:
                member.type, member.linkname = tarfile.SYMTYPE, links[name]
                archive.addfile(member)
            else:
                member.size = len(files[name])
                archive.addfile(member, io.BytesIO(files[name]))
    packed = gzip.compress(buffer.getvalue(), 9, mtime=0)
    if len(packed) > ARCHIVE_BYTES:
        sizes = {name: len(content) for name, content in files.items()}
        raise SourceError(
            "TooLarge",
            f"{what} has {len(packed):,} bytes when packed, and at most {ARCHIVE_BYTES:,} are taken ({_largest(sizes)}): {WAYS_OUT}",
        )
    return packed


def _largest(sizes: Mapping[str, int]) -> str:
    first = sorted(sizes, key=lambda name: -sizes[name])[:3]
    return "the largest: " + ", ".join(f"{name} {sizes[name]:,}" for name in first)
