"""`flow edits --pack`: the session's edits as a .tar.gz, with what each was made on, for `kubectl flow edits pull`.

Unlike the archive that the operator saves, it has no size limit, and covers only the flow folder. Runs in the command's own process.
"""

from __future__ import annotations

import io
import json
import os
import stat
import tarfile

from flowsession_agent.edits import pushed
from flowsession_agent.edits.scan import FILE, LINK, Scanner
from flowsession_agent.session.baseline import Baseline
from flowsession_agent.session.record import Record
from flowsession_protocol import edits_pack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any

    from flowsession_agent.edits.scan import Edit
    from flowsession_agent.settings import Home


class ChangingError(Exception):
    """A file is being written to."""


def write(home: Home, target: IO[bytes]) -> None:
    """Write the list of the edits, the files, and the kept originals that they were made on. Raises ChangingError."""
    record = Record(home.record)
    record.load()
    now = Scanner(home.flow).look(Baseline(record.pushed, record.pushing))
    index: dict[str, Any] = {
        "edits": [_described(edit, record) for edit in now.edits],
        "leftOut": now.left_out,
        "more": now.more,
        "problem": now.problem,
        "hasFlow": record.has_flow,
    }
    before = pushed.read(home.pushed)
    with tarfile.open(fileobj=target, mode="w|gz", format=tarfile.PAX_FORMAT, encoding="utf-8", errors="surrogateescape") as tar:
        _add(tar, edits_pack.INDEX, json.dumps(index).encode())
        for edit in now.edits:
            if edit.path in before:
                _add(tar, edits_pack.PUSHED + edit.path, before[edit.path])
            if edit.kind == FILE:
                _add_file(tar, home.flow, edit)


def _described(edit: Edit, record: Record) -> dict[str, Any]:
    """Return an edit's entry in the list. `pushed`: the fingerprint of what the edit was made on, null for a new file."""
    described = {"path": edit.path, "kind": edit.kind, "executable": edit.executable, "pushed": record.pushed.get(edit.path)}
    return {**described, "target": edit.content} if edit.kind == LINK else described


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def _add_file(tar: tarfile.TarFile, root: str, edit: Edit) -> None:
    try:
        descriptor = os.open(os.path.join(root, edit.path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise ChangingError(edit.shown)
            member = tarfile.TarInfo(edits_pack.FILES + edit.path)
            member.size = found.st_size
            tar.addfile(member, file)
    except BrokenPipeError:
        raise
    except OSError:  # it is gone, or ended early
        raise ChangingError(edit.shown) from None
