"""Copies prompt flow's store for saving: with the runs and connections of the session's people, without the connections from Secrets."""

from __future__ import annotations

import os

from flowsession_agent.connections.store import STORE
from flowsession_agent.digests import of_content
from flowsession_agent.edits.scan import FILE, Edit

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from typing import Collection

MOST_BYTES = 64 * 1024 * 1024
OWN_TABLES = ("schema_info",)
"""Tables that prompt flow writes by itself."""
_COUNTERS = (24, 40, 92)
"""Offsets of the four-byte write counters in SQLite's file header: the change counter, which is stored twice, and the schema cookie."""


class StoreCopy:
    """A copy of the store, remade when the store has changed."""

    def __init__(self, home: str, *, copy: str, connections: Collection[str]) -> None:
        """`connections`: names that come from Secrets. Without any, the store itself is saved."""
        self._store = os.path.join(home, STORE)
        self._names = tuple(connections)
        self.path = copy
        self._seen: tuple[int, ...] = ()
        self._edit: Edit | None = None

    @property
    def needed(self) -> bool:
        """Whether the copy is saved in place of the store."""
        return bool(self._names)

    def look(self) -> tuple[Edit | None, str]:
        """Return the copy as an edit of the store's path (None if people have nothing in it), and why it can't be saved, if so."""
        try:
            found = os.stat(self._store)
        except OSError:
            self._seen, self._edit = (), None
            return None, ""
        seen = (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        if seen == self._seen:
            return self._edit, ""
        if found.st_size > MOST_BYTES:
            return None, "too large to take the connections out of it"
        try:
            import sqlite3
        except ImportError:
            return None, "this Python has no SQLite to take the connections out of it"
        try:
            self._edit = self._made()
        except (sqlite3.Error, OSError):
            self._seen, self._edit = (), None
            return None, "the connections could not be taken out of it"
        self._seen = seen
        return self._edit, ""

    def _made(self) -> Edit | None:
        import contextlib
        import sqlite3
        from urllib.parse import quote

        new = f"{self.path}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new)
        source = f"file:{quote(self._store)}?mode=ro"
        with contextlib.closing(sqlite3.connect(source, uri=True, timeout=1)) as store, contextlib.closing(sqlite3.connect(new)) as copy:
            store.backup(copy)
            copy.execute("PRAGMA secure_delete=ON")
            tables = [str(row[0]) for row in copy.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            if "connection" in tables:
                copy.executemany("DELETE FROM connection WHERE connectionName = ?", [(name,) for name in self._names])
            copy.commit()
            copy.execute("VACUUM")
            peoples = any(_has_rows(copy, table) for table in tables if table not in OWN_TABLES and not table.startswith("sqlite_"))
        if not peoples:
            os.unlink(new)
            return None
        with open(new, "r+b") as file:
            for begin in _COUNTERS:
                file.seek(begin)
                file.write((1).to_bytes(4, "big"))  # so that the same content gives the same file
            file.seek(0)
            content = file.read()
        os.replace(new, self.path)
        return Edit(STORE, FILE, content=of_content(content), size=len(content))


def _has_rows(database: sqlite3.Connection, table: str) -> bool:
    quoted = table.replace('"', '""')
    return database.execute(f'SELECT 1 FROM "{quoted}" LIMIT 1').fetchone() is not None  # noqa: S608 - a table's own name
