"""Read a folder that is mounted into this pod: all of it, or an outline that shows which image and packages its flow needs."""

from __future__ import annotations

import binascii
import os
import stat

from flowsession_agent.source import pack
from flowsession_agent.source.errors import SourceError
from flowsession_protocol import limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterator

    from flowsession_agent.source.order import FolderOrder
    from flowsession_protocol.messages import Source, SourceWarning

LEFT_OUT = frozenset({".git", ".runs", ".promptflow", "__pycache__", "lost+found"})
"""Names that are never part of a flow; prompt flow's own snapshots leave them out too."""

LARGEST_TEXT = 256 * 1024
"""Maximum bytes of a file whose content an outline includes; larger requirements.txt files are rare."""
OUTLINED = 2 * 1024 * 1024
"""Maximum bytes of all contents in an outline."""
TEXTS = (".yaml", ".yml", ".prompty", ".txt", ".in", ".lock", ".cfg", ".toml")
"""Suffixes of the files that come first: flow files, and the usual names of requirements."""


class File:
    """A file below the folder. `target`: where a symbolic link points; None for a regular file."""

    def __init__(self, name: str, path: str, size: int, target: str | None) -> None:
        self.name = name
        self.path = path
        self.size = size
        self.target = target


def read(order: FolderOrder, *, mount: str) -> Source:
    """Return the response's members: the archive in base64, and warnings. Raises SourceError."""
    root = os.path.realpath(os.path.join(mount, order.path))
    what = f"folder {order.path!r} (path)"
    if root != mount and not root.startswith(f"{mount}/"):
        raise SourceError("PathNotFound", f"{what} of the source is a link out of it; name the folder itself")
    if not os.path.isdir(root):
        holds = ", ".join(sorted(_names(mount))[:10]) or "nothing"
        raise SourceError("PathNotFound", f"the source has no {what}; it holds: {holds}")
    try:
        files, links, warnings = _outline(root) if order.outline else _all(root, what)
    except PermissionError as error:
        name = os.path.relpath(str(error.filename), mount)
        message = f"{name} of the source can't be read by user {os.getuid()}; let its group or everybody read it"
        raise SourceError("NotReadable", message) from error
    except OSError as error:
        raise SourceError("NotReadable", f"the source can't be read: {error.strerror} ({error.filename})") from error
    archive = pack.pack(files, links, what)
    return {"state": "Done", "archive": binascii.b2a_base64(archive, newline=False).decode(), "warnings": warnings}


def _all(root: str, what: str) -> tuple[dict[str, bytes], dict[str, str], list[SourceWarning]]:
    found: dict[str, File] = {}
    for file in _files(root):
        found[file.name] = file
        pack.check_count(len(found), f"{what}, as far as it was read,")
    pack.check_sizes({file.name: file.size for file in found.values() if file.target is None}, what)
    links = {file.name: file.target for file in found.values() if file.target is not None}
    return {file.name: _content(file.path) for file in found.values() if file.target is None}, links, []


def _outline(root: str) -> tuple[dict[str, bytes], dict[str, str], list[SourceWarning]]:
    """Return every file's name, and the contents of small files: enough to read the flow file, its includes and its requirements."""
    found: list[File] = []
    warnings: list[SourceWarning] = []
    for file in _files(root):
        if len(found) == limits.ARCHIVE_FILES:
            message = f"only the first {limits.ARCHIVE_FILES:,} files were looked at; what the flow includes must be among them"
            warnings.append({"code": "ManyFiles", "file": "", "message": message})
            break
        # Links out of the folder are skipped; in the session a link works as it does on the claim.
        path = os.path.realpath(file.path)
        if file.target is None or (path.startswith(f"{root}/") and os.path.isfile(path)):
            found.append(File(file.name, path, os.path.getsize(path), None))
    left = OUTLINED
    files = {}
    for file in sorted(found, key=lambda one: (not one.name.endswith(TEXTS), one.name.count("/"), one.size, one.name)):
        if file.size <= min(left, LARGEST_TEXT):
            files[file.name] = _content(file.path)
            left -= len(files[file.name])
        else:
            # Neither a flow file nor a requirement: an environment that names it as one gets an error.
            files[file.name] = f"<{file.size:,} bytes, which are not read>\n".encode()
    return files, {}, warnings


def _files(root: str) -> Iterator[File]:
    """Yield the files breadth first, so that a limit leaves out the deepest."""
    folders = [""]
    while folders:
        deeper = []
        for folder in folders:
            for name in sorted(_names(os.path.join(root, folder))):
                relative = f"{folder}{name}"
                path = os.path.join(root, relative)
                mode = os.lstat(path).st_mode
                if stat.S_ISLNK(mode):
                    yield File(relative, path, 0, os.readlink(path))
                elif stat.S_ISDIR(mode):
                    deeper.append(f"{relative}/")
                elif stat.S_ISREG(mode):
                    yield File(relative, path, os.lstat(path).st_size, None)
        folders = deeper


def _names(folder: str) -> list[str]:
    return [name for name in os.listdir(folder) if name not in LEFT_OUT]


def _content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(limits.FLOW_BYTES + 1)
