"""Reads the source of an environment into files. Names are relative and `/`-separated, and no file is also a folder."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from flowsession.api.source import ONE_SOURCE, ArchiveSource, ConfigMapSource, Source, SourceWarning
from flowsession.flow import archive as archives
from flowsession.flow.archive import ArchiveError
from flowsession.flow.yaml import FolderError
from flowsession.images import reference
from flowsession.reconcile.environment import last_reading
from flowsession.reconcile.environment.last_reading import LastReading
from flowsession.settings import Settings


class SourceError(Exception):
    """The source can't be read; the message says what is missing and what to do."""

    def __init__(self, message: str, *, reason: str = "SourceNotFound") -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class ConfigMapView:
    """A ConfigMap as last seen; `files` is None if it does not exist."""

    name: str
    files: Mapping[str, bytes] | None
    read_at: float
    watched: bool
    author: str | None = None
    """The user who last changed it, as the API server noted; empty: a user who may act for all users; None: unknown."""


@dataclass(frozen=True)
class SourceFiles:
    """All files of a source."""

    files: Mapping[str, bytes]
    links: Mapping[str, str] = field(default_factory=dict)
    """Symbolic links with their final targets; the linked files are among `files` too."""
    warnings: tuple[SourceWarning, ...] = ()


def refusal(source: Source | None, settings: Settings) -> tuple[str, str] | None:
    """Return why the source may not be read, as reason and message, or None if it may."""
    if source is not None and not source.to_wire():
        return "SourceInvalid", f"spec.source names no source: {ONE_SOURCE}; name one, or leave source out where there is no flow folder"
    artifact = source.oci_artifact if source else None
    return reference.refusal(artifact.reference, "spec.source.ociArtifact.reference", settings) if artifact else None


def needed_config_maps(source: Source | None, reading: LastReading | None) -> tuple[str, ...]:
    """Return the names of the ConfigMaps that the source is read from."""
    if source is None:
        return ()
    if reading is not None:
        return (reading.config_map,) if reading.config_map else ()
    members = (source.config_map, source.archive.config_map if source.archive else None)
    return tuple(member.name for member in members if member)


def read(source: Source | None, config_maps: Mapping[str, ConfigMapView], reading: LastReading | None = None) -> SourceFiles | None:
    """Return all files of the source, or None if the spec has no source. Raises SourceError and FolderError."""
    if source is None:
        return None
    if reading is not None:
        return _of_reading(source, reading, config_maps)
    if source.archive:
        return _unpacked(source.archive, config_maps)
    if source.config_map:
        return SourceFiles(_keys(source.config_map, config_maps))
    return None


def normalised(flow_path: str) -> str:
    """Return spec.flowPath normalized; "." is the source itself."""
    return str(PurePosixPath(flow_path))


def inside(files: Mapping[str, bytes], folder: str) -> Mapping[str, bytes]:
    """Return the files below `folder`, named relative to it. Raises FolderError if there are none."""
    if folder == ".":
        return files
    found = {name.removeprefix(f"{folder}/"): data for name, data in files.items() if name.startswith(f"{folder}/")}
    if not found:
        raise FolderError(f"the source has no folder {folder!r} (spec.flowPath); it holds: {', '.join(sorted(files)[:10])}")
    return found


def check_folders(names: Iterable[str]) -> None:
    """Raise FolderError if a file's name is also the folder of another file."""
    known = set(names)
    folders: set[str] = set()
    for name in known:
        parent = name.rpartition("/")[0]
        while parent and parent not in folders:
            if parent in known:
                raise FolderError(f"{parent!r} of the source is a file, and {name!r} needs it to be a folder; rename one of them")
            folders.add(parent)
            parent = parent.rpartition("/")[0]


def _keys(source: ConfigMapSource, config_maps: Mapping[str, ConfigMapView]) -> Mapping[str, bytes]:
    keys = _config_map(source.name, config_maps, "spec.source.configMap")
    if source.items is None:
        return keys
    absent = [item.key for item in source.items if item.key not in keys]
    if absent:
        raise SourceError(
            f"ConfigMap {source.name!r} has no key {', '.join(map(repr, absent[:5]))}, named in spec.source.configMap.items"
            f" (it has: {', '.join(sorted(keys)[:10]) or 'none'})"
        )
    files = {str(PurePosixPath(item.path)): keys[item.key] for item in source.items}
    check_folders(files)
    return files


def _unpacked(source: ArchiveSource, config_maps: Mapping[str, ConfigMapView]) -> SourceFiles:
    where = source.config_map
    keys = _config_map(where.name, config_maps, "spec.source.archive.configMap")
    if where.key not in keys:
        raise SourceError(
            f"ConfigMap {where.name!r} has no key {where.key!r}, named in spec.source.archive.configMap.key"
            f" (it has: {', '.join(sorted(keys)[:10]) or 'none'})"
        )
    try:
        unpacked = archives.unpack(keys[where.key])
    except ArchiveError as error:
        raise FolderError(f"{where.key} of ConfigMap {where.name!r}: {error}") from None
    check_folders(unpacked.files)
    return SourceFiles(unpacked.files, unpacked.links)


def _of_reading(source: Source, before: LastReading, config_maps: Mapping[str, ConfigMapView]) -> SourceFiles:
    """Return what a pod read, after checking its digest against the status."""
    if not before.config_map:
        if before.reason:
            raise SourceError(before.message, reason=before.reason)
        raise SourceError(f"reading {last_reading.named(source)}", reason="Resolving")
    found = config_maps[before.config_map].files
    if found is None:
        raise SourceError(f"ConfigMap {before.config_map!r} with what was read is gone; reading it again", reason="Resolving")
    archive = found.get(last_reading.KEY, b"")
    if f"sha256:{hashlib.sha256(archive).hexdigest()}" != before.digest:
        raise SourceError(f"ConfigMap {before.config_map!r} does not hold what was read from {last_reading.named(source)}; delete it")
    try:
        unpacked = archives.unpack(archive)
    except ArchiveError as error:
        raise FolderError(f"{last_reading.named(source)}: {error}") from None
    check_folders(unpacked.files)
    return SourceFiles(unpacked.files, unpacked.links, before.warnings)


def _config_map(name: str, config_maps: Mapping[str, ConfigMapView], field: str) -> Mapping[str, bytes]:
    found = config_maps[name].files
    if found is None:
        raise SourceError(f"ConfigMap {name!r} of {field} does not exist in this namespace; create it")
    return found
