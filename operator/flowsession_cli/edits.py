"""Pull edits made inside a session: a three-way comparison of the local file, the session's file and the file the session was given.

A local file that has changed since the session was given it is merged or left alone, never overwritten.
"""

import hashlib
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from flowsession_cli import merge, pack
from flowsession_cli.errors import CliError
from flowsession_protocol import edits_pack, limits


class BrokenPack(Exception):
    """The archive from the session is incomplete."""


@dataclass(frozen=True)
class Edit:
    """One edited file of a session."""

    path: str
    kind: str
    """`file`, `link` or `deleted`."""
    executable: bool
    pushed: str | None
    """Fingerprint of the file that it was made from, or None if that was no file."""
    content: Path | None
    """Local copy of the session's content."""
    before: Path | None
    """Local copy of the content that it was made from, if the session kept that."""


@dataclass(frozen=True)
class Pack:
    """Content of a session's `flow edits --pack`."""

    edits: Sequence[Edit]
    left_out: Sequence[str]
    problem: str
    has_flow: bool


@dataclass(frozen=True)
class Step:
    """What to do with one edit locally: `same`, `write`, `merge`, `delete`, `conflict` or `skip`."""

    what: str
    edit: Edit
    place: Path
    """The local file."""
    reason: str = ""
    """Why it is in conflict, or skipped."""
    text: bytes = b""
    """The merged content."""


def read(archive: IO[bytes], folder: Path) -> Pack:
    """Unpack a session's archive into a temporary folder. Raises BrokenPack if it is incomplete."""
    try:
        contents, index = _unpack(archive, folder)
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        raise BrokenPack(str(error)) from None
    edits = [
        Edit(
            path=str(entry["path"]),
            kind=str(entry["kind"]),
            executable=entry.get("executable") is True,
            pushed=entry.get("pushed"),
            content=contents.get(edits_pack.FILES + entry["path"]),
            before=contents.get(edits_pack.PUSHED + entry["path"]),
        )
        for entry in index["edits"]
    ]
    problem = index["problem"] or ("it has more files than a session looks at" if index["more"] else "")
    return Pack(edits, index["leftOut"], problem, index["hasFlow"])


def _unpack(archive: IO[bytes], folder: Path) -> tuple[dict[str, Path], Any]:
    """Return the path of each member's content, stored under a number, and the list of edits. Raises what tarfile and json raise."""
    contents: dict[str, Path] = {}
    index: Any = None
    with tarfile.open(fileobj=archive, mode="r:gz", encoding="utf-8", errors="surrogateescape") as tar:
        for number, member in enumerate(tar):
            file = tar.extractfile(member)
            if file is None:
                raise ValueError(f"{member.name} is no file")
            if member.name == edits_pack.INDEX:
                index = json.load(file)
                continue
            contents[member.name] = folder / str(number)
            with contents[member.name].open("wb") as target:
                shutil.copyfileobj(file, target)
    if not isinstance(index, dict):
        raise ValueError("there is no list of edits in it")
    return contents, index


def plan(found: Pack, folder: Path) -> list[Step]:
    """Return what to do with each edit in a local folder. An empty or missing folder gets the edited files only."""
    flow = folder.is_dir() and pack.is_flow(folder)
    included = pack.includes(folder) if flow else []
    return [_step(edit, folder, included, fresh=not flow) for edit in found.edits]


def _step(edit: Edit, folder: Path, included: Sequence[tuple[str, Path]], *, fresh: bool) -> Step:
    if limits.is_unsafe_path(os.fsencode(edit.path)):
        raise CliError(f"the session names {shown(edit.path)!r} as an edited file, which is no path in a flow folder: nothing was pulled")
    root, place = _place(edit.path, folder, included)
    if edit.kind not in ("file", "deleted") or (edit.kind == "file" and edit.content is None):
        return Step("skip", edit, place, "a link, which is not pulled")
    if problem := _obstacle(place, root):
        return Step("skip", edit, place, problem)
    local = None if fresh or not place.exists() else place.read_bytes()
    if edit.kind == "deleted":
        return _deletion(edit, place, local)
    assert edit.content is not None
    return _writing(edit, edit.content, place, local, fresh=fresh)


def _place(path: str, folder: Path, included: Sequence[tuple[str, Path]]) -> tuple[Path, Path]:
    """Return the local folder and file of a path. A file that `additional_includes` brought maps to its origin; a later entry wins."""
    first, _, rest = path.partition("/")
    candidates = [(at, at / rest) for name, at in reversed(included) if name == first and rest and at.is_dir()]
    files = [(at.parent, at) for name, at in reversed(included) if name == path and at.is_file()]
    own = (folder, folder / path)
    there = [pair for pair in (*files, *candidates, own) if pair[1].exists()]
    return (there or [*candidates, own])[0]


def _obstacle(place: Path, root: Path) -> str:
    """Return why the file can't be written, or an empty string if nothing is in the way."""
    if place.is_symlink() or (place.exists() and not place.is_file()):
        return "a link here" if place.is_symlink() else "a folder here"
    for above in place.parents:
        if above == root or not above.is_relative_to(root):
            return ""
        if above.is_symlink() or (above.exists() and not above.is_dir()):
            return f"{above.name} is {'a link' if above.is_symlink() else 'a file'} here"
    return ""


def _deletion(edit: Edit, place: Path, local: bytes | None) -> Step:
    if local is None:
        return Step("same", edit, place)
    if fingerprint(local) == edit.pushed:
        return Step("delete", edit, place)
    return Step("conflict", edit, place, "deleted in the session, changed here: the local file stays")


def _writing(edit: Edit, content: Path, place: Path, local: bytes | None, *, fresh: bool) -> Step:
    theirs = content.read_bytes()
    if local == theirs:
        return Step("same", edit, place)
    if local is None:
        if fresh or edit.pushed is None:
            return Step("write", edit, place)
        return Step("conflict", edit, place, "changed in the session, deleted here")
    if fingerprint(local) == edit.pushed:
        return Step("write", edit, place)
    if edit.before is not None and (text := merge.merged(edit.before.read_bytes(), local, theirs)) is not None:
        return Step("same" if text == local else "merge", edit, place, text=text)
    return Step("conflict", edit, place, "changed in the session and here" if edit.pushed else "new in the session and here")


def fingerprint(content: bytes) -> str:
    """Return the content's fingerprint in the format of the session's agent."""
    return f"{len(content)}:{hashlib.sha256(content).hexdigest()[: limits.FINGERPRINT_DIGITS]}"


def carry_out(step: Step) -> Path | None:
    """Carry out a step. Return where the session's version of a conflicting file is stored, if it has one."""
    theirs = step.edit.content.read_bytes() if step.edit.content else b""
    if step.what == "write":
        _replace(step.place, theirs, executable=step.edit.executable)
    elif step.what == "merge":
        _replace(step.place, step.text, executable=step.edit.executable)
    elif step.what == "delete":
        step.place.unlink()
    elif step.what == "conflict" and step.edit.content:
        aside = _aside(step.place, theirs)
        if not aside.exists():
            _replace(aside, theirs, executable=False)
        return aside
    return None


def _aside(place: Path, content: bytes) -> Path:
    """Return the first name next to the local file that is free or already has this content."""
    number = 1
    while True:
        aside = place.with_name(f"{place.name}{pack.ASIDE}{number if number > 1 else ''}")
        if not os.path.lexists(aside) or (aside.is_file() and aside.read_bytes() == content):
            return aside
        number += 1


def _replace(place: Path, content: bytes, *, executable: bool) -> None:
    """Write a file atomically, keeping its mode."""
    place.parent.mkdir(parents=True, exist_ok=True)
    mode = place.stat().st_mode & 0o777 if place.exists() else 0o666 & ~_umask()
    descriptor, temporary = tempfile.mkstemp(dir=place.parent, prefix=f".{place.name[:40]}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        os.chmod(temporary, mode | (0o111 if executable else 0))  # noqa: PTH101 - mkstemp gives a name
        os.replace(temporary, place)  # noqa: PTH105
    except BaseException:
        os.unlink(temporary)  # noqa: PTH108
        raise


def _umask() -> int:
    found = os.umask(0)
    os.umask(found)
    return found


def shown(path: str) -> str:
    """Return a path that may not be UTF-8 as printable text."""
    return os.fsencode(path).decode(errors="replace")


def counted(steps: Sequence[Step]) -> Mapping[str, list[Step]]:
    """Return the steps grouped by what they do."""
    found: dict[str, list[Step]] = {}
    for step in steps:
        found.setdefault(step.what, []).append(step)
    return found
