"""Merges what `additional_includes` of a flow file names into the flow folder, as prompt flow does, but never from outside the source.

The rules are those of promptflow-devkit 1.18.5, `_merge_local_code_and_additional_includes`: paths are relative to the flow folder, a file
or a whole folder is added under its last name, later entries win, and `x.zip` without such a file is the folder `x`, zipped. Stricter here:
only files of the source are included, and no file may take a folder's place. Zips include sub-folders, as in Azure's own upload.
"""

import io
import itertools
import posixpath
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from flowsession.flow.yaml import FolderError
from flowsession_protocol.flow_files import kind_of
from flowsession_protocol.limits import FLOW_BYTES, FLOW_FILES

KEY = "additional_includes"

MOST_ZIPPED = 2_000
"""Files that are zipped, over all entries; zipping one costs as much as copying twenty."""

LONGEST_ENTRY = 4_096
"""Characters of an entry, as of a path on Linux. Resolving it takes time that grows with the square of its folders."""

_DRIVE = re.compile(r"^[A-Za-z]:|^\\\\")
_LONGEST_SHOWN = 120


@dataclass(frozen=True)
class Duplicate:
    """An entry that replaced existing files, of the flow folder or of an earlier entry."""

    entry: str
    files: tuple[str, ...]


@dataclass(frozen=True)
class Merged:
    """The flow folder with its includes."""

    files: Mapping[str, bytes]
    count: int
    duplicates: tuple[Duplicate, ...]


Tree = dict[str, "Tree | bytes"]


def named_by(file: str, value: object) -> tuple[str, ...]:
    """Return the entries of the flow file's `additional_includes`. Raises FolderError if it is not a list of paths."""
    if value is None:
        return ()
    if not isinstance(value, list):
        raise FolderError(f"{file}: {KEY} is {kind_of(value)}, but must be a list of paths, such as [../shared, ../requirements.txt]")
    for number, entry in enumerate(value, 1):
        if isinstance(entry, dict):
            raise FolderError(
                f"{file}: entry {number} of {KEY} is a mapping; packages of a feed are not fetched: put the files in the source"
            )
        if not isinstance(entry, str):
            raise FolderError(f"{file}: entry {number} of {KEY} is {kind_of(entry)}, but must be a path; put it in quotes if it is one")
        if len(entry) > LONGEST_ENTRY:
            raise FolderError(f"{file}: entry {number} of {KEY} has {len(entry):,} characters; a path has at most {LONGEST_ENTRY:,}")
    return tuple(value)


def merge(source: Mapping[str, bytes], folder: str, entries: Sequence[str], *, file: str, links: Mapping[str, str] | None = None) -> Merged:
    """Return the files of `folder` in `source`, with those that `entries` include. Raises FolderError naming the entry that can't be
    included.

    `folder` is normalized, "." for the whole source. `file` is the flow file's name, for messages. `links` are the targets of symbolic
    links of the source.
    """
    tree = _tree(source)
    at_home = _find(tree, folder)
    assert isinstance(at_home, dict), "a flow file was read from there"
    result = _Result(dict(_walk(at_home)))
    duplicates, zips = [], _Zips()
    for entry in entries:
        replaced = result.take(entry, _named(tree, real(folder, entry, links or {}), entry, file, zips))
        if replaced:
            duplicates.append(Duplicate(entry, tuple(replaced)))
    size = sum(map(len, result.files.values()))
    if size > FLOW_BYTES:
        raise FolderError(f"{file}: with its {KEY} the flow folder has {size:,} bytes; a session takes {FLOW_BYTES:,}: include less")
    return Merged(result.files, len(entries), tuple(duplicates))


class _Result:
    """The merged folder under construction."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self._folders: set[str] = set()
        self._copies = 0
        for name in files:
            self._folders.update(self._new_parents(name))

    def take(self, entry: str, brought: Iterator[tuple[str, bytes]]) -> list[str]:
        """Add the files of an entry, and return the names of those that were replaced. Raises FolderError."""
        replaced = []
        for name, content in brought:
            self._copies += 1
            if self._copies > FLOW_FILES:
                raise FolderError(
                    f"{KEY} entry {_shown(entry)}: more than {FLOW_FILES:,} files are copied; include only what the flow needs"
                )
            place = name
            if place in self._folders:
                # As with shutil.copy2, a file copied onto a folder is put into it.
                place = posixpath.join(place, posixpath.basename(name))
                replaced.append(place)
                if place in self._folders:
                    raise FolderError(
                        f"{KEY} entry {_shown(entry)}: {name!r} and {place!r} are folders of the flow; rename the file or them"
                    )
            elif place in self.files:
                replaced.append(place)
            for parent in self._new_parents(place):
                if parent in self.files:
                    raise FolderError(
                        f"{KEY} entry {_shown(entry)}: its folder {parent!r} is a file of the flow already; rename one of them"
                    )
                self._folders.add(parent)
            self.files[place] = content
        return replaced

    def _new_parents(self, name: str) -> list[str]:
        """Return the folders of a file that aren't known yet, innermost first. If a folder is known, so are all above it."""
        return list(itertools.takewhile(lambda parent: parent not in self._folders, _parents(name)))


class _Zips:
    """Zips folders, each once, within limits."""

    def __init__(self) -> None:
        self._made: dict[str, bytes] = {}
        self._files, self._bytes = MOST_ZIPPED, FLOW_BYTES

    def of(self, path: str, tree: Tree, *, what: str) -> bytes:
        """Return the folder as a zip with one root folder. The same files always give the same bytes. Raises FolderError."""
        if path not in self._made:
            root = posixpath.basename(path)
            files = list(itertools.islice(_walk(tree, f"{root}/"), self._files + 1))
            self._files -= len(files)
            self._bytes -= sum(len(content) for _, content in files)
            if self._files < 0 or self._bytes < 0:
                raise FolderError(f"{what}: more than {MOST_ZIPPED:,} files or {FLOW_BYTES:,} bytes are zipped; pack the folder beforehand")
            buffer = io.BytesIO()
            with zipfile.ZipFile(buffer, "w") as packed:
                packed.writestr(zipfile.ZipInfo(f"{root}/"), b"")
                for name, content in sorted(files):
                    packed.writestr(zipfile.ZipInfo(name), content)
            self._made[path] = buffer.getvalue()
        return self._made[path]


def _named(tree: Tree, path: str, entry: str, file: str, zips: _Zips) -> Iterator[tuple[str, bytes]]:
    """Return the files that an entry includes: names in the merged folder, and contents. Raises FolderError."""
    what = f"{file}: {KEY} entry {_shown(entry)}"
    if entry.startswith("/") or _DRIVE.match(entry):
        raise FolderError(f"{what} is an absolute path; put it into the source, and write the way there from the flow folder")
    if path == "..":
        raise FolderError(
            f"{what} leads out of the source; let the source hold that too, and name the flow folder inside it by spec.flowPath"
        )
    if path == ".":
        raise FolderError(f"{what} is the whole source, which has no name to come in under; name the folders and files that are meant")
    found, name = _find(tree, path), posixpath.basename(path)
    if found is None and PurePosixPath(path).suffix == ".zip":
        packed = _find(tree, path.removesuffix(".zip"))
        if isinstance(packed, dict):
            return iter([(name, zips.of(path.removesuffix(".zip"), packed, what=what))])
    if found is None:
        raise FolderError(f"{what} is not in the source{_advice(tree, path)}")
    return iter([(name, found)]) if isinstance(found, bytes) else _walk(found, f"{name}/")


def real(folder: str, entry: str, links: Mapping[str, str]) -> str:
    """Return where an entry leads from `folder`. As in pathlib's resolve(), links are replaced by their targets. "." is the source, ".."
    anything outside it."""
    parts: list[str] = []
    for part in posixpath.join(folder, entry).split("/"):
        if part == "..":
            if not parts:
                return ".."
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
            target = links.get("/".join(parts))
            if target is not None:
                parts = target.split("/")
    return "/".join(parts) or "."


def _advice(tree: Tree, path: str) -> str:
    if any(sign in path for sign in "*?["):
        return "; patterns are not expanded: name each file, or the folder"
    if "\\" in path:
        return "; write / instead of \\"
    nearest = posixpath.dirname(path)
    while nearest and _find(tree, nearest) is None:
        nearest = posixpath.dirname(nearest)
    found = _find(tree, nearest or ".")
    holds = ", ".join(sorted(found)[:10]) if isinstance(found, dict) else "one file"
    return f" ({nearest or 'the source'} holds: {holds}); add it or correct the path"


def _tree(source: Mapping[str, bytes]) -> Tree:
    root: Tree = {}
    for name, content in source.items():
        *folders, last = name.split("/")
        here = root
        for folder in folders:
            inner = here.setdefault(folder, {})
            assert isinstance(inner, dict), "sources hold no file that is also a folder"
            here = inner
        here[last] = content
    return root


def _find(tree: Tree, path: str) -> "Tree | bytes | None":
    here: Tree | bytes | None = tree
    for part in [] if path == "." else path.split("/"):
        here = here.get(part) if isinstance(here, dict) else None
    return here


def _walk(tree: Tree, prefix: str = "") -> Iterator[tuple[str, bytes]]:
    waiting = [(prefix, iter(tree.items()))]
    while waiting:
        above, here = waiting[-1]
        for name, inner in here:
            if isinstance(inner, dict):
                waiting.append((f"{above}{name}/", iter(inner.items())))
                break
            yield above + name, inner
        else:
            waiting.pop()


def _parents(name: str) -> Iterator[str]:
    while "/" in name:
        name = posixpath.dirname(name)
        yield name


def _shown(entry: str) -> str:
    return repr(entry if len(entry) <= _LONGEST_SHOWN else entry[:_LONGEST_SHOWN] + "...")
