"""`flow edits --diff`: the session's changes as unified diffs. Runs in the command's own process, since a large diff takes time."""

from __future__ import annotations

import difflib
import os

from flowsession_agent.edits import archive, pushed, saved
from flowsession_agent.edits.scan import DELETED, LINK, Scanner, printable
from flowsession_agent.session.baseline import Baseline
from flowsession_agent.session.record import Record
from flowsession_protocol import flow_files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Iterator

    from flowsession_agent.edits.scan import Edit
    from flowsession_agent.settings import Home

MOST_FILES = 200


def lines(home: Home) -> Iterator[str]:
    """Yield the differences from what was pushed, those of files that a push moved aside, and those that `flow restore` would make."""
    record = Record(home.record)
    record.load()
    now = Scanner(home.flow).look(Baseline(record.pushed, record.pushing))
    before = pushed.read(home.pushed)
    kept = {name for name in record.kept if os.path.isfile(os.path.join(home.flow, name))}
    for edit in [edit for edit in now.edits if edit.path not in kept][:MOST_FILES]:
        yield from _of_edit(home, edit, before.get(edit.path, None if edit.path in record.pushed else b""))
    for name in sorted(kept)[:MOST_FILES]:
        original = name.rpartition(flow_files.MOVED_ASIDE)[0]
        yield from _difference(printable(original), printable(name), _read(home, original), _read(home, name))
    entry = record.saved
    if "flowRevision" in entry and not entry["restored"]:
        yield from _of_offered(home, entry)


def _of_edit(home: Home, edit: Edit, old: bytes | None) -> Iterator[str]:
    """Yield one edit's difference. `old`: the pushed content, empty for a new file, None if it was not kept."""
    name = printable(edit.path)
    if edit.kind == LINK:
        yield f"{name} is a link to {printable(edit.content)} now"
    elif edit.kind == DELETED:
        yield from _difference(f"pushed/{name}", "/dev/null", old, b"")
    else:
        yield from _difference("/dev/null" if old == b"" else f"pushed/{name}", name, old, _read(home, edit.path))


def _of_offered(home: Home, entry: dict[str, object]) -> Iterator[str]:
    try:
        content, edits = saved.wanted(entry, path=home.edits)
    except (OSError, archive.BadArchiveError):
        return
    yield f"# {entry['name']} holds edits of an earlier session; `flow restore` would change:"
    found: dict[str, bytes] = {}

    def take(name: str, source: IO[bytes]) -> None:
        found[name] = source.read(pushed.LARGEST + 1)

    archive.unpack(content, {edit.path for edit in edits[:MOST_FILES]}, take)
    for edit in edits[:MOST_FILES]:
        name, new = printable(edit.path), found.get(edit.path, b"")
        yield from _difference(name, f"saved/{name}" if edit.kind != DELETED else "/dev/null", _read(home, edit.path) or b"", new)


def _read(home: Home, name: str) -> bytes | None:
    """Return the start of a file in the flow folder, or None if it can't be read."""
    try:
        with open(os.path.join(home.flow, name), "rb") as file:
            return file.read(pushed.LARGEST + 1)
    except OSError:
        return None


def _difference(old_name: str, new_name: str, old: bytes | None, new: bytes | None) -> Iterator[str]:
    texts = [_text(content) for content in (old, new)]
    if None in texts:
        yield f"{old_name} and {new_name} differ; they are too large, or no text, to be compared"
        return
    parts = [(text or "").splitlines() for text in texts]
    yield from difflib.unified_diff(parts[0], parts[1], old_name, new_name, lineterm="")


def _text(content: bytes | None) -> str | None:
    if content is None or len(content) > pushed.LARGEST or b"\0" in content:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None
