"""Remembers the findings of importing a flow's tools, so that an edited prompt, or content imported before, needs no new import."""

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
    """What the last imports added to the findings of reading, by a key for everything that an import depends on."""

    def __init__(self) -> None:
        self._known: dict[str, dict[str, Any]] = {}

    def recall(self, key: str, found: dict[str, Any]) -> dict[str, Any] | None:
        """Return the findings with those that an import with this key added, or None if none is remembered."""
        added = self._known.get(key)
        if added is None:
            return None
        whole = {**found, "count": found["count"] + added["count"]}
        for part in _PARTS:
            whole[part] = found[part] + added[part]
        return whole

    def note(self, key: str, found: dict[str, Any], whole: dict[str, Any]) -> None:
        """Remember what an import added, if it left nothing unchecked."""
        if whole["unchecked"]:
            return
        if len(self._known) >= MOST:
            del self._known[next(iter(self._known))]
        self._known[key] = {part: [entry for entry in whole[part] if entry not in found[part]] for part in _PARTS}
        self._known[key]["count"] = whole["count"] - found["count"]


def key_of(folder: str, work: dict[str, Any], *, layer: str, store: str) -> str:
    """Return a key for everything that the import depends on: the folder's content except the templates that nodes name, the session's
    packages, and prompt flow's own store."""
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
    """Return a file's digest. For a link, return the inode, size and time of its target instead."""
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
