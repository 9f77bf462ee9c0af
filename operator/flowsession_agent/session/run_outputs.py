"""What is kept of a run: prompt flow's own files of its outputs, inputs, metrics, errors and log, packed."""

from __future__ import annotations

import base64
import gzip
import io
import os
import tarfile

from flowsession_agent.errors import ApiError
from flowsession_protocol.limits import ARCHIVE_BYTES, RUN_OUTPUT_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterator

KEPT = ("flow_outputs", "inputs.jsonl", "metrics.json", "error.json", "logs.txt")
"""Names as in prompt flow's own folder of a run; `flow_outputs/output.jsonl` has the outputs."""


def packed(folder: str) -> str:
    """A .tar.gz in base64; the same files give the same bytes. Raises ApiError: TooLarge."""
    files = sorted(_files(folder))
    size = sum(os.path.getsize(os.path.join(folder, name)) for name in files)
    if size > RUN_OUTPUT_BYTES:
        raise _too_large(f"{size:,} bytes; at most {RUN_OUTPUT_BYTES:,} are packed", folder)
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as zipped, tarfile.open(fileobj=zipped, mode="w") as archive:
        for name in files:
            with open(os.path.join(folder, name), "rb") as file:
                member = tarfile.TarInfo(name)
                member.size, member.mode = os.fstat(file.fileno()).st_size, 0o644
                archive.addfile(member, file)
    found = buffer.getvalue()
    if len(found) > ARCHIVE_BYTES:
        raise _too_large(f"{size:,} bytes, {len(found):,} packed; at most {ARCHIVE_BYTES:,} can be kept", folder)
    return base64.b64encode(found).decode()


def _files(folder: str) -> Iterator[str]:
    """The files to keep, links left out."""
    for kept in KEPT:
        top = os.path.join(folder, kept)
        if os.path.isfile(top) and not os.path.islink(top):
            yield kept
        for place, _, names in os.walk(top):
            for name in names:
                path = os.path.join(place, name)
                if os.path.isfile(path) and not os.path.islink(path):
                    yield os.path.relpath(path, folder)


def _too_large(what: str, folder: str) -> ApiError:
    return ApiError(
        413, "TooLarge", f"its outputs have {what}. They lie in the session, in {folder}, as long as it lives: copy them from there"
    )
