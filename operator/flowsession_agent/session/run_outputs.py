"""Pack what is kept of a run: prompt flow's own files of its outputs, inputs, metrics, errors and log."""

from __future__ import annotations

import base64
import contextlib
import gzip
import io
import json
import os
import tarfile

from flowsession_agent.errors import ApiError
from flowsession_protocol.limits import ARCHIVE_BYTES, RUN_OUTPUT_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any, Iterator

KEPT = ("flow_outputs", "inputs.jsonl", "metrics.json", "error.json", "logs.txt")
"""Names as in prompt flow's own folder of a run. `flow_outputs/output.jsonl` has the outputs."""
DATA = ("data.jsonl", "data.csv", "data.tsv")
"""Copies of the data, for runs over this one's outputs. Left out if there is no room for them."""
RECORDS = "flow_artifacts"
ARTIFACTS = (RECORDS, "node_artifacts")
"""Prompt flow's records of each line and node, for a run that resumes this one. Left out first if there is no room."""
OUTPUTS = os.path.join("flow_outputs", "output.jsonl")


def packed(folder: str) -> str:
    """Return a .tar.gz in base64. The same files give the same bytes. Raises ApiError: TooLarge, NoOutputs."""
    complete(folder)
    if not any(_files(folder, KEPT)):
        raise ApiError(404, "NoOutputs", "The run ended before there was anything to keep.")
    for wanted in ((*KEPT, *DATA, *ARTIFACTS), (*KEPT, *DATA)):
        with contextlib.suppress(ApiError):
            return _packed(folder, wanted)
    return _packed(folder, KEPT)


def complete(folder: str) -> bool:
    """Write the outputs of a run that ended early, from the lines' records: prompt flow writes outputs only at a run's end.

    Returns whether any line has outputs.
    """
    outputs = os.path.join(folder, OUTPUTS)
    records = os.path.join(folder, RECORDS)
    if os.path.exists(outputs) or not os.path.isdir(records):
        return os.path.exists(outputs) and os.path.getsize(outputs) > 0
    os.makedirs(os.path.dirname(outputs), exist_ok=True)
    with open(outputs, "w", encoding="utf-8") as file:
        for name in sorted(os.listdir(records)):
            info = record(os.path.join(records, name))
            if info.get("status") == "Completed" and isinstance(info.get("output"), dict):
                line = {"line_number": info.get("index", int(name.partition("_")[0])), **info["output"]}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
        return file.tell() > 0


def drop_unreadable(folder: str) -> None:
    """Remove records that were cut off when the run's process was killed: prompt flow refuses to resume a run that has one."""
    for top in ARTIFACTS:
        for place, _, names in os.walk(os.path.join(folder, top)):
            for path in (os.path.join(place, name) for name in names if name.endswith(".jsonl")):
                try:
                    with open(path, encoding="utf-8") as file:
                        for line in file:
                            json.loads(line)
                except ValueError:
                    os.unlink(path)


def unpack(archive: bytes, folder: str) -> None:
    """Write the files of an archive made by `packed`, which is not trusted. Raises ApiError: DataInvalid, OSError."""
    from flowsession_agent.edits import archive as archives
    from flowsession_agent.edits.scan import FILE
    from flowsession_agent.session import flow_folder

    def write(name: str, content: IO[bytes]) -> None:
        flow_folder.put(folder, name, archives.copier(content))

    os.makedirs(folder, exist_ok=True)
    try:
        files = {edit.path for edit in archives.read(archive) if edit.kind == FILE}
        archives.unpack(archive, files, write)
    except archives.BadArchiveError as error:
        raise ApiError(422, "DataInvalid", f"what was kept of the earlier run {error}: create that run again") from None


def record(path: str) -> dict[str, Any]:
    """Return prompt flow's record of a line from the line's file; empty if it can't be read, e.g. while it is being written."""
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)["run_info"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def _packed(folder: str, kept: tuple[str, ...]) -> str:
    files = sorted(_files(folder, kept))
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


def _files(folder: str, wanted: tuple[str, ...]) -> Iterator[str]:
    """Yield the files to keep, without links."""
    for kept in wanted:
        top = os.path.join(folder, kept)
        if os.path.isfile(top) and not os.path.islink(top):
            yield kept
        for place, _, names in os.walk(top):
            for name in names:
                path = os.path.join(place, name)
                if os.path.isfile(path) and not os.path.islink(path):
                    yield os.path.relpath(path, folder)


def _too_large(what: str, folder: str) -> ApiError:
    way_out = "copy them from there, and keep those of a new run on a claim (spec.outputs.persistentVolumeClaim)"
    return ApiError(413, "TooLarge", f"its outputs have {what}. They lie in the session, in {folder}, as long as it lives: {way_out}")
