"""Put the operator's files into the flow folder and remove those of an earlier push. The session's own files stay."""

from __future__ import annotations

import os
import re
import stat

from flowsession_agent.digests import of_content
from flowsession_agent.errors import bad_request
from flowsession_agent.session.baseline import NOT_KNOWN
from flowsession_protocol import flow_files, limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Callable, Iterable

    from flowsession_agent.session.baseline import Baseline

AGENTS_OWN = ".flowsession."
"""Prefix of the names of the agent's own short-lived files in the flow folder."""

COPY = re.compile(r"\.flowsession\.(?:[0-9a-f]{8}\.)?")
"""Prefix that a copy's name has before the original's name."""


def copy_name() -> Callable[[str], str]:
    """Return a function that names the copies of one install's files. Sessions on one claim share a folder, and each removes its own."""
    token = os.urandom(4).hex()
    return lambda name: f"{AGENTS_OWN}{token}.{name}"


def without_copies(text: str) -> str:
    """Return a tool's output with the copies' names replaced by the originals'."""
    return COPY.sub("", text)


def check_names(names: Iterable[str]) -> None:
    """Raise ApiError naming the first file that could leave the folder, that no file system accepts, or that is also another's folder."""
    known = set(names)
    if len(known) > limits.FLOW_FILES:
        raise bad_request(f"The flow folder has {len(known)} files, more than the {limits.FLOW_FILES} that the agent takes.")
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
    if limits.is_unsafe_path(encoded):
        raise bad_request(f"{name!r} is not a path inside the flow folder: names are relative, without '.', '..' or empty parts.")
    if limits.too_long(encoded):
        most = f"{limits.NAME_BYTES} bytes a part and {limits.PATH_BYTES} in all"
        raise bad_request(f"{name[:80]!r}... is too long for a file name: {most}.")


def replace(root: str, files: dict[str, bytes], *, baseline: Baseline) -> list[str]:
    """Make `files` the pushed part of the folder `root`, whose earlier pushed part was `baseline`. Each file is replaced atomically.

    A file that this push doesn't change stays as the session has it. Other files that the session edited, linked or made itself are moved
    aside to `NAME.kept`. Returns their new paths. Raises OSError if there is no room; files written by then stay.
    """
    os.makedirs(root, exist_ok=True)
    moved: list[str] = []
    for name, content in files.items():
        if not baseline.unchanged(name, of_content(content)):
            _push(root, name, content, baseline, moved)
    for name in baseline:
        if name not in files and is_inside(root, name):
            _take_away(root, name, baseline, moved)
    return [os.path.relpath(path, root) for path in moved]


def put(root: str, name: str, fill: Callable[[IO[bytes]], object], *, executable: bool = False, keep: bool = False) -> list[str]:
    """Write one file atomically with what `fill` writes. Return the new paths of what was moved out of the way.

    That is whatever is not a regular file, and with `keep` a regular file too. Raises OSError.
    """
    target, moved = make_room(root, name)
    mode = kind(target)
    if mode and (keep or not stat.S_ISREG(mode)):
        moved.append(move_aside(target))
    temporary = os.path.join(os.path.dirname(target), f"{AGENTS_OWN}{os.urandom(6).hex()}.tmp")
    try:
        with open(temporary, "wb") as file:
            fill(file)
        if executable:
            os.chmod(temporary, 0o755)  # noqa: S103 - as it was in the session
        os.replace(temporary, target)
    except OSError:
        if os.path.lexists(temporary):
            os.unlink(temporary)
        raise
    return moved


def make_room(root: str, name: str) -> tuple[str, list[str]]:
    """Create the folders of `name` below `root`. Return its path, and the new paths of what was in the way of a folder."""
    folder, moved = root, []
    for folder in _folders(root, name):
        if not stat.S_ISDIR(kind(folder)):
            if kind(folder):
                moved.append(move_aside(folder))
            os.mkdir(folder)
    return os.path.join(root, name), moved


def move_aside(path: str) -> str:
    """Rename the file at `path` to `NAME.kept`, or the first of `NAME.kept2`, ... that is free. Return the new path."""
    number, kept = 1, f"{path}{flow_files.MOVED_ASIDE}"
    while os.path.lexists(kept):
        number, kept = number + 1, f"{path}{flow_files.MOVED_ASIDE}{number}"
    os.rename(path, kept)
    return kept


def kind(path: str) -> int:
    """Return the file's mode without following links; 0 if nothing is there."""
    try:
        return os.lstat(path).st_mode
    except OSError:
        return 0


def remove(root: str, name: str) -> None:
    """Remove a file or link, if it exists, and the folders that it leaves empty."""
    path = os.path.join(root, name)
    try:
        os.unlink(path)
        for folder in reversed(_folders(root, name)):
            os.rmdir(folder)
    except OSError:  # gone already, or a folder in which the session keeps files
        return


def is_inside(root: str, name: str) -> bool:
    """Return whether the path to `name` leads through real folders only."""
    return all(stat.S_ISDIR(kind(folder)) for folder in _folders(root, name))


def _push(root: str, name: str, content: bytes, baseline: Baseline, moved: list[str]) -> None:
    target = os.path.join(root, name)
    mode = kind(target) if is_inside(root, name) else 0
    executable = keep = False
    if stat.S_ISREG(mode):
        if _reads(target, content):
            return
        keep = not _as_pushed(target, name, baseline)
        executable = bool(mode & stat.S_IXUSR) and not keep
    moved += put(root, name, lambda file: file.write(content), executable=executable, keep=keep)


def _take_away(root: str, name: str, baseline: Baseline, moved: list[str]) -> None:
    path = os.path.join(root, name)
    if stat.S_ISDIR(kind(path)):
        return
    if kind(path) and not (stat.S_ISREG(kind(path)) and _as_pushed(path, name, baseline)):
        moved.append(move_aside(path))
    else:
        remove(root, name)


def _as_pushed(path: str, name: str, baseline: Baseline) -> bool:
    if baseline.fits(name, NOT_KNOWN):
        return True
    if not baseline.fits_size(name, os.lstat(path).st_size):
        return False
    with open(path, "rb") as file:
        return baseline.fits(name, of_content(file.read()))


def _reads(path: str, content: bytes) -> bool:
    with open(path, "rb") as file:
        return file.read(len(content) + 1) == content


def _folders(root: str, name: str) -> list[str]:
    parts = name.split("/")
    return [os.path.join(root, *parts[:count]) for count in range(1, len(parts))]
