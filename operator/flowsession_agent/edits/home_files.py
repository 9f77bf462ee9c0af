"""Files that people and prompt flow leave in the session's home, such as runs: saved with the flow folder's edits while they are small."""

from __future__ import annotations

import os

from flowsession_agent.connections.store import STORE
from flowsession_agent.digests import of_content
from flowsession_agent.edits import archive
from flowsession_agent.edits.scan import DELETED, FILE, HOME_PREFIX, LINK, Edit, Scanner, Snapshot
from flowsession_agent.session import flow_folder
from flowsession_agent.session.baseline import Baseline
from flowsession_agent.session.flow_env import SETTINGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Sequence

    from flowsession_agent.edits.promptflow_store import StoreCopy

MOST_FILES = 500
MOST_BYTES = 4 * 1024 * 1024
FOLDERS = frozenset(
    (
        *(".cache", ".conda", ".config", ".cursor-server", ".dotnet", ".ipython", ".jupyter", ".local", ".npm", ".nv", ".rustup", ".venv"),
        *(".vscode-server", "__pycache__", "node_modules", "pfs", "venv"),
    )
)
"""Caches, editors' servers and the like, which are recreated when needed. `pfs` is prompt flow's service."""
FILES = frozenset((".bash_history", ".python_history", ".sqlite_history", ".lesshst", ".viminfo", ".wget-hsts"))
ENDINGS = (".lock", ".log", ".pid", ".port", ".pyc", ".sock", ".tmp", "-journal", "-shm", "-wal")


class HomeScanner:
    """Scans one home repeatedly. What the agent itself wrote there is not an edit."""

    def __init__(self, root: str, store: StoreCopy) -> None:
        self._store = store
        self._scanner = Scanner(root, leaves_out=leaves_out)
        self._baseline = Baseline({f".promptflow/{name}": of_content(text.encode()) for name, text in SETTINGS.items()}, {})

    def look(self) -> tuple[list[Edit], list[str]]:
        """Return the files as edits, with paths below HOME_PREFIX, and what is left out: everything if it is too much."""
        found = self._without_connections(self._scanner.look(self._baseline))
        left_out = [f"~/{name}" for name in found.left_out]
        if found.more or len(found.edits) > MOST_FILES or found.size > MOST_BYTES:
            return [], [*left_out, too_much(f"{len(found.edits):,}{' and more' if found.more else ''}", found.size)]
        return [
            Edit(HOME_PREFIX + edit.path, edit.kind, executable=edit.executable, content=edit.content, size=edit.size)
            for edit in found.edits
            if edit.kind != DELETED
        ], left_out

    def _without_connections(self, found: Snapshot) -> Snapshot:
        if not self._store.needed:
            return found
        edit, why_not = self._store.look()
        edits = [other for other in found.edits if other.path != STORE]
        left_out = [*found.left_out, *([f"{STORE} ({why_not})"] if why_not else [])]
        return Snapshot([*edits, *([edit] if edit else [])], more=found.more, problem=found.problem, left_out=left_out)


def too_much(count: str, size: int) -> str:
    """Return the entry among what is left out for a home that is too large to be saved."""
    return f"~/ ({count} files with {size:,} bytes, too large to be saved)"


def leaves_out(name: str, *, folder: bool) -> bool:
    """Return whether files or folders of this name are never saved."""
    return name in FOLDERS if folder else name in FILES or name.endswith(ENDINGS)


def write(root: str, content: bytes, edits: Sequence[Edit], store: StoreCopy) -> list[str]:
    """Restore files that don't exist yet, and return the names of those written. Raises OSError if no space is left."""
    todo = {edit.path: edit for edit in edits if not os.path.lexists(os.path.join(root, edit.path[len(HOME_PREFIX) :]))}
    if store.needed and store.look() == (None, ""):  # it holds only what the agent filled in, and will again
        todo.update({edit.path: edit for edit in edits if edit.path == HOME_PREFIX + STORE})
    written = []

    def put(path: str, source: IO[bytes]) -> None:
        flow_folder.put(root, path[len(HOME_PREFIX) :], archive.copier(source), executable=todo[path].executable)
        written.append(todo[path].shown)

    archive.unpack(content, {path for path, edit in todo.items() if edit.kind == FILE}, put)
    for edit in todo.values():
        if edit.kind == LINK:
            target, _ = flow_folder.make_room(root, edit.path[len(HOME_PREFIX) :])
            os.symlink(edit.content, target)
            written.append(edit.shown)
    return written
