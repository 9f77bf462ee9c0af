"""Edits that an earlier session saved: accepted with the first push, stored next to the flow folder, restored at once or on request.

Their entry in the session's record: `name`, `savedAt`, `flowRevision`, `deleted`, `base`, `restored`.
For refused edits it holds `name` and `problem`.
"""

from __future__ import annotations

import binascii
import os

from flowsession_agent.edits import archive
from flowsession_agent.edits.scan import CONTENT_LIMIT, DELETED, ENTRIES_LIMIT, FILE, LINK, Edit
from flowsession_agent.errors import ApiError
from flowsession_agent.session import flow_folder
from flowsession_protocol import limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any, Collection

    from flowsession_agent.edits.scan import Snapshot

TEXT_LIMIT = 256
SHOWN = 10


class Restored:
    """What a restore did to the flow folder. `kept` are the new names of files that were in the way."""

    def __init__(self) -> None:
        self.written: list[str] = []
        self.deleted: list[str] = []
        self.kept: list[str] = []


def take(members: Any, *, path: str) -> dict[str, Any]:
    """Store `savedEdits` of an order at `path`, and return their entry in the record. Invalid edits are refused there and raise nothing."""
    name = _text(members, "name") or "unnamed"
    try:
        content, deleted = _decode(members)
        edits = archive.read(content)
        if sum(edit.size for edit in edits) > CONTENT_LIMIT:
            raise archive.BadArchiveError(f"unpacks to more than {CONTENT_LIMIT:,} bytes")
        temporary = f"{path}.tmp"
        with open(temporary, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except archive.BadArchiveError as error:
        return _refused(name, f"their archive {error}")
    except OSError as error:
        return _refused(name, f"they can't be stored ({error.strerror})")
    entry: dict[str, Any] = {key: _text(members, key) for key in ("savedAt", "flowRevision")}
    base = members.get("base") if isinstance(members, dict) else None
    known = {path: mark for path, mark in base.items() if isinstance(mark, str)} if isinstance(base, dict) else {}
    return {"name": name, **entry, "deleted": deleted, "base": known, "restored": False}


def wanted(entry: dict[str, Any], *, path: str) -> tuple[bytes, list[Edit]]:
    """Return the stored archive, and its edits with the deletions. Raises BadArchiveError or OSError if the file was tampered with."""
    with open(path, "rb") as file:
        content = file.read(2 * limits.ARCHIVE_BYTES)
    edits = archive.read(content)
    paths = {edit.path for edit in edits}
    return content, edits + [Edit(name, DELETED) for name in entry.get("deleted", []) if name not in paths]


def conflicts(edits: list[Edit], *, now: Snapshot) -> list[str]:
    """Return the session's own edits that these would overwrite or remove."""
    targets = {edit.path: edit for edit in edits}
    parents = {path[:position] for path in targets for position, letter in enumerate(path) if letter == "/"}
    found = []
    for own in now.edits:
        target = targets.get(own.path)
        inside = [own.path[:position] for position, letter in enumerate(own.path) if letter == "/"]
        in_the_way = own.kind != DELETED and (own.path in parents or any(_writes(targets.get(parent)) for parent in inside))
        if in_the_way or (target is not None and not target.same(own)):
            found.append(own.shown)
    return found


def write(root: str, content: bytes, edits: list[Edit], *, now: Snapshot, newer: Collection[str] = ()) -> Restored:
    """Apply these edits to the folder. Files that the session edited, and those at `newer`, are moved aside. Raises OSError if no space is
    left."""
    done = Restored()
    own = {edit.path: edit for edit in now.edits}

    def keep(path: str) -> bool:
        return path in own or path in newer or now.more  # with `more`, not all edits are known

    todo = {edit.path: edit for edit in edits if not edit.same(own.get(edit.path))}
    for edit in todo.values():
        if edit.kind == DELETED:
            _delete(root, edit.path, edited=keep(edit.path), done=done)

    def put(path: str, source: IO[bytes]) -> None:
        moved = flow_folder.put(root, path, archive.copier(source), executable=todo[path].executable, keep=keep(path))
        done.kept += [os.path.relpath(kept, root) for kept in moved]
        done.written.append(path)

    archive.unpack(content, {path for path, edit in todo.items() if edit.kind == FILE}, put)
    for edit in todo.values():
        if edit.kind == LINK:
            target, moved = flow_folder.make_room(root, edit.path)
            if os.path.lexists(target) and (os.path.isdir(target) or keep(edit.path)):
                moved.append(flow_folder.move_aside(target))
            elif os.path.lexists(target):
                os.unlink(target)
            os.symlink(edit.content, target)
            done.kept += [os.path.relpath(kept, root) for kept in moved]
            done.written.append(edit.path)
    return done


def refuse_conflicts(found: list[str]) -> None:
    """Raise ApiError, naming what a restore would overwrite, if anything."""
    if found:
        names = ", ".join(found[:SHOWN]) + (f" and {len(found) - SHOWN} more" if len(found) > SHOWN else "")
        raise ApiError(
            409,
            "Edited",
            f"Edited here, or changed by the environment since, so not restored: {names}. "
            "Run `flow restore --force` (from outside: `kubectl flow edits SESSION restore --yes`) to restore them all the same: what is"
            " there now is then kept beside them as NAME.kept.",
        )


def _writes(edit: Edit | None) -> bool:
    return edit is not None and edit.kind != DELETED


def _delete(root: str, name: str, *, edited: bool, done: Restored) -> None:
    path = os.path.join(root, name)
    if not flow_folder.is_inside(root, name) or not os.path.lexists(path) or (os.path.isdir(path) and not os.path.islink(path)):
        return
    if edited:
        done.kept.append(os.path.relpath(flow_folder.move_aside(path), root))
    else:
        flow_folder.remove(root, name)
    done.deleted.append(name)


def _decode(members: Any) -> tuple[bytes, list[str]]:
    """Return the archive's bytes and the names of the deleted files. Raises BadArchiveError."""
    if not isinstance(members, dict):
        raise archive.BadArchiveError("is missing")
    encoded, deleted = members.get("archive"), members.get("deleted")
    deleted = [] if deleted is None else deleted
    try:
        content = binascii.a2b_base64(encoded.encode("ascii"))  # type: ignore[union-attr]
    except (AttributeError, ValueError):
        raise archive.BadArchiveError("is not base64") from None
    if not isinstance(deleted, list) or not all(isinstance(name, str) for name in deleted) or len(deleted) > 2 * ENTRIES_LIMIT:
        raise archive.BadArchiveError("comes with a list of deleted files that is none")
    try:
        flow_folder.check_names(deleted)
    except ApiError as error:
        raise archive.BadArchiveError(f"comes with a deleted file that can't be meant: {error.message.rstrip('.')}") from None
    return content, deleted


def _refused(name: str, why: str) -> dict[str, Any]:
    return {"name": name, "problem": f"The saved edits {name} are not taken: {why}."[:1000]}


def _text(members: Any, name: str) -> str:
    value = members.get(name) if isinstance(members, dict) else None
    return value[:TEXT_LIMIT].encode(errors="replace").decode() if isinstance(value, str) else ""
