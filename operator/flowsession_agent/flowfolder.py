"""Put the operator's files into the flow folder, and take away what an earlier push brought; what the session made stays."""

from __future__ import annotations

import os
import stat

from flowsession_agent.errors import bad_request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterable

COUNT_LIMIT = 10_000
NAME_LIMIT = 255
PATH_LIMIT = 1024


def check_names(names: Iterable[str]) -> None:
    """Raise ApiError naming the first file that could leave the folder, that no file system takes, or that is also another's folder."""
    known = set(names)
    if len(known) > COUNT_LIMIT:
        raise bad_request(f"The flow folder has {len(known)} files, more than the {COUNT_LIMIT} that the agent takes.")
    for name in known:
        check_name(name)
        parent = name.rpartition("/")[0]
        while parent:
            if parent in known:
                raise bad_request(f"{name!r}: {parent!r} can't be a file and a folder.")
            parent = parent.rpartition("/")[0]


def check_name(name: str) -> None:
    """Raise ApiError unless `name` is a relative path of legal UTF-8 without `.`, `..` or empty parts."""
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        raise bad_request(f"{name!r} is not a legal file name: it is not UTF-8.") from None
    parts = encoded.split(b"/")
    if b"\0" in encoded or any(part in (b"", b".", b"..") for part in parts):
        raise bad_request(f"{name!r} is not a path inside the flow folder: names are relative, without '.', '..' or empty parts.")
    if len(encoded) > PATH_LIMIT or max(map(len, parts)) > NAME_LIMIT:
        raise bad_request(f"{name[:80]!r}... is too long for a file name: {NAME_LIMIT} bytes a part and {PATH_LIMIT} in all.")


def replace(root: str, files: dict[str, bytes], *, pushed: Iterable[str]) -> None:
    """Make `files` the pushed part of the folder `root`, whose earlier pushed part was `pushed`; each file is replaced atomically.

    Links on the way are replaced, never followed, and something else that lies where a file or a folder must be is moved aside to
    `NAME.kept`. Raises OSError when there is no room; files written by then stay.
    """
    os.makedirs(root, exist_ok=True)
    for name, content in files.items():
        write(root, name, content)
    for name in pushed:
        if name not in files:
            _remove(root, name)


def write(root: str, name: str, content: bytes) -> None:
    """Write one file, atomically, unless it already reads so."""
    folder = root
    *parents, last = name.split("/")
    for part in parents:
        folder = os.path.join(folder, part)
        if not stat.S_ISDIR(_kind(folder)):
            _make_way(folder)
            os.mkdir(folder)
    target = os.path.join(folder, last)
    kind = _kind(target)
    if stat.S_ISREG(kind):
        with open(target, "rb") as existing:
            if existing.read(len(content) + 1) == content:
                return
    elif kind:
        _make_way(target)
    temporary = os.path.join(folder, f".{os.urandom(6).hex()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
        os.replace(temporary, target)
    except OSError:
        if os.path.lexists(temporary):
            os.unlink(temporary)
        raise


def _kind(path: str) -> int:
    """The file's type bits without following links, 0 when nothing is there."""
    try:
        return os.lstat(path).st_mode
    except OSError:
        return 0


def _make_way(path: str) -> None:
    kind = _kind(path)
    if not kind:
        return
    if stat.S_ISLNK(kind):
        os.unlink(path)
        return
    number, kept = 1, f"{path}.kept"
    while os.path.lexists(kept):
        number, kept = number + 1, f"{path}.kept{number}"
    os.rename(path, kept)


def _remove(root: str, name: str) -> None:
    parts = name.split("/")
    folders = [os.path.join(root, *parts[:count]) for count in range(1, len(parts))]
    path = os.path.join(root, *parts)
    if not all(stat.S_ISDIR(_kind(folder)) for folder in folders) or stat.S_ISDIR(_kind(path)):
        return
    try:
        os.unlink(path)
        for folder in reversed(folders):
            os.rmdir(folder)
    except OSError:  # already gone, or a folder in which the session keeps files
        return
