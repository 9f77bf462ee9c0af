"""The session's edits as the agent presents them: in its state, as an archive for the operator, and for `flow edits` and `flow restore`."""

from __future__ import annotations

import binascii
import os
import threading
import time

from flowsession_agent.connections import mounted
from flowsession_agent.connections.store import STORE
from flowsession_agent.edits import archive, home_files, saved
from flowsession_agent.edits.promptflow_store import StoreCopy
from flowsession_agent.edits.scan import CONTENT_LIMIT, DELETED, ENTRIES_LIMIT, FILE, HOME_PREFIX, Scanner, Snapshot, printable
from flowsession_agent.errors import ApiError
from flowsession_agent.session.baseline import Baseline
from flowsession_protocol import limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Collection

    from flowsession_agent.edits.scan import Edit
    from flowsession_agent.server.order import Order
    from flowsession_agent.session.record import Record
    from flowsession_agent.settings import Home
    from flowsession_protocol import messages

NAME_LENGTH = 1024
TRIES = 5
PAUSE_SECONDS = 0.1
LARGEST = 3
LEFT_OUT_NAMES = 50


class Edits:
    """Finds the session's edits by the record. The code that changes the flow folder holds `lock` and changes the record's members."""

    def __init__(self, *, home: Home, record: Record) -> None:
        self._home = home
        self._record = record
        self._scanner = Scanner(home.flow)
        names = [connection.name for connection in mounted.listed(os.environ)]
        self._store = StoreCopy(home.home, copy=home.store_copy, connections=names)
        self._home_scanner = home_files.HomeScanner(home.home, self._store)
        self._too_much = ""
        """The revision of the home's edits that made the archive too large."""
        self.lock = threading.RLock()
        self._settled = ""
        """The revision of the edits that the operator has dealt with."""
        self._saved = False

    def members(self) -> messages.Edits:
        """Return the protocol's `edits` object."""
        with self.lock:
            now, record = self._look(), self._record
            entry = record.saved
            problem = entry.get("problem") or now.problem
            found: messages.Edits = {
                "count": len(now.edits),
                "files": _names(now, limits.EDITED_IN_STATE),
                "bytes": now.size,
                "revision": self._unsaved(now),
                "offered": "" if not self._usable or entry["restored"] else entry["name"],
                "restored": self._usable and entry["restored"],
            }
        if self._unsettled(now):
            found["waiting"] = True
        if now.left_out:
            found["leftOut"] = len(now.left_out)
            found["leftOutFiles"] = [name[:NAME_LENGTH] for name in now.left_out[:LEFT_OUT_NAMES]]
        if kept := [name for name in record.kept if os.path.lexists(os.path.join(self._home.flow, name))]:
            found["kept"] = [printable(name)[:NAME_LENGTH] for name in kept[: limits.KEPT]]
        if now.more:
            found["more"] = True
        if found["count"] and not found["revision"]:
            found["discarded"] = True
        elif found["revision"] == self._settled and self._saved:
            found["saved"] = True
        if problem:
            found["problem"] = str(problem)
        return found

    def unsaved(self) -> str:
        """Return the revision of the edits that nobody has dealt with; empty for none."""
        with self.lock:
            return self._unsettled(self._look())

    def settle(self, revision: str, *, saved: bool) -> None:
        """Record that the operator has saved the edits of this revision, or can't."""
        with self.lock:
            self._settled, self._saved = revision, saved

    def answer(self) -> messages.EditsArchive:
        """Return the response to `GET /v1/edits`. Raises ApiError: NoEdits, TooLarge, or Changing."""
        for attempt in range(TRIES):
            if attempt:
                time.sleep(PAUSE_SECONDS)
            with self.lock:
                now, flow_revision, pushed = self._look(), self._record.flow_revision, self._record.pushed
                revision = self._unsaved(now)
            if not revision:
                discarded = " that are to be saved: `flow edits --discard` was run" if now.edits else ""
                raise ApiError(404, "NoEdits", f"This session has no edits{discarded}.")
            if now.more or len(now.edits) > ENTRIES_LIMIT or now.size > CONTENT_LIMIT:
                raise _too_large(now)
            try:
                content = archive.pack(self._locate, now.edits)
            except archive.TooLargeError:
                at_home = [edit for edit in now.edits if edit.path.startswith(HOME_PREFIX)]
                if not at_home:
                    raise _too_large(now) from None
                self._too_much = _revision(at_home)  # try again without the home
                continue
            except archive.ChangingError as error:
                changing = error
                continue
            return {
                "revision": revision,
                "flowRevision": flow_revision,
                "files": _names(now, limits.EDITED),
                "deleted": [edit.path for edit in now.edits if edit.kind == DELETED],
                "base": {edit.path: pushed[edit.path] for edit in now.edits[: limits.FINGERPRINTS] if edit.path in pushed},
                "archive": binascii.b2a_base64(content, newline=False).decode(),
            }
        raise ApiError(409, "Changing", f"The edits change while they are read ({changing}): ask again when nothing writes there.")

    def take(self, order: Order) -> None:
        """Store the saved edits that came with the first push of a flow folder."""
        if order.saved_edits is not None:
            self._record.saved = saved.take(order.saved_edits, path=self._home.edits)

    def restore_at_once(self, flow_revision: str) -> None:
        """Write the saved edits if they were made on what was just pushed. If that fails, record the reason, which the state shows."""
        entry = self._record.saved
        if not self._usable or entry["restored"] or entry["flowRevision"] != flow_revision:
            return
        try:
            self._write(entry, self._look())
            self._settled, self._saved = self._look().revision, True
        except (OSError, archive.BadArchiveError) as error:
            entry["problem"] = f"The saved edits {entry['name']} can't be written: {getattr(error, 'strerror', None) or error}."

    def restore(self, *, force: bool) -> dict[str, Any]:
        """Write the saved edits on request. Raises ApiError: NoEdits, Edited, or InternalError, which leaves what was already written."""
        with self.lock:
            entry = self._record.saved
            if not entry:
                raise ApiError(404, "NoEdits", "No edits of an earlier session came with this one: there is nothing to restore.")
            if not self._usable:
                raise ApiError(404, "NoEdits", str(entry.get("problem")))
            now = self._look()
            try:
                edits = [edit for edit in saved.wanted(entry, path=self._home.edits)[1] if not edit.path.startswith(HOME_PREFIX)]
                newer = self._newer(entry, edits)
                if not force:
                    named = [edit.shown for edit in edits if edit.path in newer]
                    saved.refuse_conflicts(saved.conflicts(edits, now=now) + named)
                done = self._write(entry, now, newer=newer)
                self._record.save()
            except archive.BadArchiveError as error:
                raise ApiError(500, "InternalError", f"The saved edits can't be read any more: their archive {error}.") from None
            except OSError as error:
                raise ApiError(500, "InternalError", f"The edits can't be written: {error.strerror} ({error.filename}).") from error
            return {"name": entry["name"], "written": done.written, "deleted": done.deleted, "kept": done.kept}

    def discard(self) -> None:
        """Exempt the present edits from saving. Raises ApiError."""
        with self.lock:
            before, self._record.discarded = self._record.discarded, self._look().revision
            try:
                self._record.save()
            except OSError as error:
                self._record.discarded = before
                raise ApiError(500, "InternalError", f"That can't be recorded: {error.strerror} ({error.filename}).") from error

    @property
    def _usable(self) -> bool:
        """Whether edits were accepted: refused ones have only a name and a problem."""
        return "flowRevision" in self._record.saved

    def _newer(self, entry: dict[str, Any], edits: list[Edit]) -> set[str]:
        """Return pushed files that these edits would overwrite and that differ from what the edits were made on."""
        pushed, base = self._record.pushed, entry.get("base", {})
        if entry["flowRevision"] == self._record.flow_revision:
            return set()
        changed = {edit for edit in edits if edit.path in pushed and base.get(edit.path) != pushed[edit.path]}
        return {edit.path for edit in changed if not (edit.kind == FILE and self._baseline.fits(edit.path, edit.content))}

    def _write(self, entry: dict[str, Any], now: Snapshot, *, newer: Collection[str] = ()) -> saved.Restored:
        content, edits = saved.wanted(entry, path=self._home.edits)
        at_home = [edit for edit in edits if edit.path.startswith(HOME_PREFIX)]
        here = [edit for edit in edits if not edit.path.startswith(HOME_PREFIX)]
        done = saved.write(self._home.flow, content, here, now=now, newer=newer)
        done.written += home_files.write(self._home.home, content, at_home, self._store)
        entry["restored"] = True
        entry.pop("problem", None)
        return done

    def _look(self) -> Snapshot:
        found = self._scanner.look(self._baseline)
        edits, left_out = self._home_scanner.look()
        if edits and _revision(edits) == self._too_much:
            left_out.append(home_files.too_much(f"{len(edits):,}", sum(edit.size for edit in edits)))
            edits = []
        return Snapshot([*found.edits, *edits], more=found.more, problem=found.problem, left_out=[*found.left_out, *left_out])

    def _locate(self, path: str) -> str:
        if self._store.needed and path == HOME_PREFIX + STORE:
            return self._store.path
        if path.startswith(HOME_PREFIX):
            return os.path.join(self._home.home, path[len(HOME_PREFIX) :])
        return os.path.join(self._home.flow, path)

    @property
    def _baseline(self) -> Baseline:
        return Baseline(self._record.pushed, self._record.pushing)

    def _unsettled(self, now: Snapshot) -> str:
        revision = self._unsaved(now)
        return "" if revision == self._settled else revision

    def _unsaved(self, now: Snapshot) -> str:
        return "" if now.revision == self._record.discarded else now.revision


def _revision(edits: list[Edit]) -> str:
    return Snapshot(edits, more=False, problem="").revision


def _names(now: Snapshot, most: int) -> list[str]:
    """Return the first names, with those of the home, where prompt flow keeps its records, after those of the flow folder."""
    return [edit.shown[:NAME_LENGTH] for edit in sorted(now.edits, key=lambda edit: edit.path.startswith(HOME_PREFIX))[:most]]


def _too_large(now: Snapshot) -> ApiError:
    largest = sorted(now.edits, key=lambda edit: -edit.size)[:LARGEST]
    names = ", ".join(f"{edit.shown[:200]} {edit.size:,}" for edit in largest)
    count = f"more than {ENTRIES_LIMIT:,}" if now.more else str(len(now.edits))
    return ApiError(
        413,
        "TooLarge",
        f"The session's edits are too large to be saved: {count} files with {now.size:,} bytes (the largest: {names}). "
        f"An archive takes {limits.ARCHIVE_BYTES:,} bytes compressed, {CONTENT_LIMIT:,} unpacked and {ENTRIES_LIMIT:,} files. "
        "Copy what you need out of the session (`kubectl cp`) and delete it from the flow folder, or run `flow edits --discard`.",
    )
