"""Pack a flow folder with what it includes. The same content gives the same bytes, so that only real changes count as changes."""

import gzip
import hashlib
import io
import os
import re
import shlex
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowsession_cli.errors import CliError
from flowsession_protocol import flow_files, limits

IGNORE_FILES = (".gitignore", ".amlignore")
"""Ignore files, read in this order in each folder: .amlignore wins."""

NEVER = frozenset({".git", ".runs", ".promptflow", "__pycache__", ".venv", "node_modules"})
"""Folders that no session needs, whatever the ignore files say."""

ASIDE = ".session"
"""Suffix of the session's version of a file, which `kubectl flow edits pull` writes next to the local file that it conflicts with."""

_NAMED = 3
"""Most files named in a refusal for size."""

_WORTH_NAMING = 50_000
"""Smallest file named in such a refusal, in bytes."""

_OF_SESSION = re.compile(rf"({re.escape(ASIDE)}|{re.escape(flow_files.MOVED_ASIDE)})\d*$")

_DEPTH = 3
"""Levels of folders below that are searched for the nearest flow."""

WAYS_OUT = (
    "name what the flow doesn't need in .amlignore, or keep the folder on a PersistentVolumeClaim or in git, which have no such limit on"
    " data beside the flow (docs/flow-folders.md, Sources)"
)


@dataclass(frozen=True)
class Packed:
    """A packed source."""

    archive: bytes
    files: Mapping[str, str]
    """The SHA-256 of each file, by its path in the source."""
    flow_path: str
    """The flow folder's path in the source."""
    root: Path
    """The folder that is the source."""
    links: Sequence[str]
    """Links that lead out of the source or to folders, which are left out."""
    asides: Sequence[str]
    """Sessions' versions of files, which are left out too."""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return len(self.archive)


@dataclass(frozen=True)
class Change:
    """The difference between two packed sources."""

    added: Sequence[str]
    changed: Sequence[str]
    removed: Sequence[str]

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)


def is_flow(folder: Path) -> bool:
    """Return whether prompt flow would find a flow there."""
    return folder.is_dir() and bool(flow_files.candidates(entry.name for entry in folder.iterdir()))


def flow_folder(folder: Path) -> Path:
    """Return the folder, absolute. Raises CliError with the nearest flow folder if it holds no flow."""
    folder = Path(os.path.abspath(folder))  # noqa: PTH100 - links are kept as they are named
    if not folder.is_dir():
        what = "is no folder" if folder.exists() else "is not there"
        raise CliError(f"{folder} {what}: name the folder with flow.dag.yaml, flow.flex.yaml or a .prompty in it")
    if is_flow(folder):
        return folder
    found = _nearest(folder)
    near = _shown(found) if found else ""
    advice = f"the nearest flow is in {near}: kubectl flow start {shlex.quote(near)}" if near else "name the folder that holds one"
    raise CliError(f"{folder} is no flow folder, it has no flow.dag.yaml, flow.flex.yaml or single .prompty; {advice}")


def pack(folder: Path) -> Packed:
    """Pack the folder and what it includes. Raises CliError for two flows, or if it doesn't fit in a ConfigMap, with the largest files."""
    if len(flows := flow_files.candidates(entry.name for entry in folder.iterdir())) > 1:
        raise CliError(f"{folder} holds {' and '.join(sorted(flows))}: keep one of them, a folder is one flow")
    root, wanted = _source(folder)
    links: list[Path] = []
    found = sorted({path for place in wanted for path in _files(place, root, links)})
    asides = [path for path in found if (base := _OF_SESSION.sub("", path.name)) != path.name and path.with_name(base) in found]
    paths = [path for path in found if path not in asides]
    _refuse_large(root, paths)
    contents = {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}
    archive = _archive(contents)
    if len(archive) > limits.ARCHIVE_BYTES:
        size, limit = _mb(len(archive)), _mb(limits.ARCHIVE_BYTES)
        raise CliError(f"{folder.name} has {size} when packed, and a ConfigMap holds {limit};{_large(root, paths)} {WAYS_OUT}")
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}

    def names(left_out: Iterable[Path]) -> list[str]:
        return sorted(path.relative_to(root).as_posix() for path in left_out)

    return Packed(archive, digests, folder.relative_to(root).as_posix(), root, names(links), names(asides))


def unpacked(archive: bytes) -> dict[str, str]:
    """Return the SHA-256 of each file in an archive that `pack` made, or {} if it is unreadable."""
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as source:
            read = ((member.name, source.extractfile(member)) for member in source if member.isfile())
            return {name: hashlib.sha256(file.read()).hexdigest() for name, file in read if file}
    except (tarfile.TarError, OSError, EOFError):
        return {}


def replaced(archive: bytes, path: str, content: bytes) -> bytes:
    """Return the archive with one file's content replaced, or that file added. Raises CliError if it no longer fits in a ConfigMap."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as source:
        contents = {member.name: file.read() for member in source if member.isfile() and (file := source.extractfile(member))}
    packed = _archive({**contents, path: content})
    if len(packed) > limits.ARCHIVE_BYTES:
        raise CliError(f"with {path} the folder has {_mb(len(packed))} when packed, and a ConfigMap holds {_mb(limits.ARCHIVE_BYTES)}")
    return packed


def difference(before: Mapping[str, str], after: Mapping[str, str]) -> Change:
    """Return what was added, changed and removed."""
    return Change(
        added=sorted(after.keys() - before.keys()),
        changed=sorted(name for name in before.keys() & after.keys() if before[name] != after[name]),
        removed=sorted(before.keys() - after.keys()),
    )


def _source(folder: Path) -> tuple[Path, list[Path]]:
    """Return the folder that holds the flow and all its includes, and the paths of these."""
    outside = [path for _, path in includes(folder) if not folder.is_relative_to(path) and not path.is_relative_to(folder)]
    wanted = [folder, *outside]
    folders = [place if place.is_dir() else place.parent for place in wanted]
    return Path(os.path.commonpath(folders)), wanted


def includes(folder: Path) -> list[tuple[str, Path]]:
    """Return the existing entries of `additional_includes`: each one's name in a session, and its path. The operator reports bad ones."""
    (name, *_) = flow_files.candidates(entry.name for entry in folder.iterdir())
    if name.endswith(flow_files.PROMPTY):
        return []
    import yaml  # noqa: PLC0415 - not for --help

    try:
        flow: Any = yaml.safe_load((folder / name).read_bytes())
    except (yaml.YAMLError, UnicodeDecodeError):
        return []
    entries = flow.get("additional_includes") if isinstance(flow, dict) else None
    found = []
    for entry in entries if isinstance(entries, list) else []:
        if not isinstance(entry, str) or not entry or os.path.isabs(entry):  # noqa: PTH117
            continue
        path = Path(os.path.normpath(folder / entry))
        name = path.name
        if not path.exists() and path.suffix == ".zip":
            path = path.with_suffix("")
        if path.exists():
            found.append((name, path))
    return found


def _files(place: Path, root: Path, links: list[Path]) -> Iterator[Path]:
    if not place.is_dir():
        yield place
        return
    rules = [rule for folder in (*reversed(_parents(place)),) for rule in _rules(folder)]
    yield from _walk(place, root, rules, links)


def _parents(place: Path) -> list[Path]:
    """Return the parent folders up to the root of the git repository, or none without a repository."""
    above: list[Path] = []
    if (place / ".git").exists():
        return above
    for folder in place.parents:
        above.append(folder)
        if (folder / ".git").exists():
            return above
    return []


def _walk(folder: Path, root: Path, rules: Sequence[tuple[Path, Any]], links: list[Path]) -> Iterator[Path]:
    rules = [*rules, *_rules(folder)]
    for path in sorted(folder.iterdir()):
        if path.name in NEVER or _ignored(path, rules):
            continue
        if path.is_symlink() and (path.is_dir() or not path.resolve().is_relative_to(root.resolve())):
            links.append(path)
        elif path.is_dir():
            yield from _walk(path, root, rules, links)
        elif path.is_file():
            yield path


def _rules(folder: Path) -> list[tuple[Path, Any]]:
    """Return the ignore rules of one folder."""
    files = [folder / name for name in IGNORE_FILES if (folder / name).is_file()]
    if not files:
        return []
    import pathspec  # noqa: PLC0415 - not for --help

    return [(folder, pathspec.GitIgnoreSpec.from_lines(file.read_text(errors="replace").splitlines())) for file in files]


def _ignored(path: Path, rules: Sequence[tuple[Path, Any]]) -> bool:
    """Return whether the last rule that matches the path excludes it."""
    verdict = False
    for folder, spec in rules:
        name = path.relative_to(folder).as_posix() + ("/" if path.is_dir() else "")
        included = spec.check_file(name).include
        verdict = verdict if included is None else bool(included)
    return verdict


def _archive(contents: Mapping[str, bytes]) -> bytes:
    """Pack the files without times and owners, which don't count as changes of a flow."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in sorted(contents.items()):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _refuse_large(root: Path, paths: Sequence[Path]) -> None:
    """Raise CliError if the files are too large or too many. None is read: refusing a folder of 300 MB costs only listing it."""
    total = sum(path.stat().st_size for path in paths)
    if total > limits.FLOW_BYTES:
        raise CliError(f"the folder has {_mb(total)}, and a flow at most {_mb(limits.FLOW_BYTES)};{_large(root, paths)} {WAYS_OUT}")
    if len(paths) > limits.ARCHIVE_FILES:
        raise CliError(f"the folder has {len(paths)} files, and a flow at most {limits.ARCHIVE_FILES}; {WAYS_OUT}")


def _large(root: Path, paths: Sequence[Path]) -> str:
    sizes = sorted(((path.stat().st_size, path) for path in paths), reverse=True)[:_NAMED]
    named = [f"{path.relative_to(root)} ({_mb(size)})" for size, path in sizes if size >= max(_WORTH_NAMING, sizes[0][0] / 100)]
    return f" the largest {'are' if len(named) > 1 else 'is'} {', '.join(named)}:" if named else ""


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _nearest(folder: Path) -> Path | None:
    """Return the nearest flow folder above, or a few levels below."""
    for above in folder.parents:
        if above != above.parent and is_flow(above):
            return above
    level = [folder]
    for _ in range(_DEPTH):
        level = [
            entry
            for parent in level
            for entry in sorted(parent.iterdir())
            if entry.is_dir() and entry.name not in NEVER and os.access(entry, os.R_OK)
        ]
        for candidate in level:
            if is_flow(candidate):
                return candidate
    return None


def _shown(folder: Path) -> str:
    """Return the path relative to the current folder if that is shorter."""
    return min(str(folder), os.path.relpath(folder), key=len)
