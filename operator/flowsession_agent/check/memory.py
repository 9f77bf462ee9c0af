"""Remembers what importing a flow's tools came to, so that the edit of a prompt, or content that comes back, needs no import again."""

from __future__ import annotations

import hashlib
import json
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MOST = 16
_PARTS = ("problems", "warnings")


class Memory:
    """What the last imports added to what was found by reading, by all that they depend on."""

    def __init__(self) -> None:
        self._known: dict[str, dict[str, Any]] = {}

    def recall(self, key: str, found: dict[str, Any]) -> dict[str, Any] | None:
        """Return the findings with what an import of the same would add; None where there was none."""
        added = self._known.get(key)
        if added is None:
            return None
        whole = {**found, "count": found["count"] + added["count"]}
        for part in _PARTS:
            whole[part] = found[part] + added[part]
        return whole

    def note(self, key: str, found: dict[str, Any], whole: dict[str, Any]) -> None:
        """Remember what an import added that looked at everything."""
        if whole["unchecked"]:
            return
        if len(self._known) >= MOST:
            del self._known[next(iter(self._known))]
        self._known[key] = {part: [entry for entry in whole[part] if entry not in found[part]] for part in _PARTS}
        self._known[key]["count"] = whole["count"] - found["count"]


def key_of(folder: str, work: dict[str, Any], *, layer: str, store: str) -> str:
    """Stands for all that the import depends on: the folder's content but the templates that nodes name, the session's packages, and
    prompt flow's own store."""
    templates = {node["path"] for node in work.get("nodes") or () if node["type"] in ("prompt", "llm")}
    digest = hashlib.sha256(json.dumps([work, layer, _stamp(store)], sort_keys=True).encode())
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in sorted(names):
            path = os.path.join(root, name)
            relative = os.path.relpath(path, folder)
            if relative not in templates:
                digest.update(f"\0{relative}\0{_content(path)}".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _content(path: str) -> str:
    """Return a file's digest; of what is only linked to, by what tells its changes."""
    if os.path.islink(path):
        return _stamp(path)
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def _stamp(path: str) -> str:
    try:
        status = os.stat(path)
    except OSError:
        return ""
    return f"{status.st_ino} {status.st_size} {status.st_mtime_ns}"
