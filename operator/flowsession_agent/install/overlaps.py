"""Copy distributions of the image into a layer if one hides parts of the other, so that imports work as from one site-packages.

A layer is a separate folder before the image's on `sys.path`. If both have parts of a package, Python sees all parts only while none has
an `__init__.py`. Otherwise the first regular package (or module file) on the path is the whole package. One site-packages has no such
problem: azure-monitor-opentelemetry's `azure/monitor/opentelemetry/__init__.py` is then next to its exporter's folder, which belongs to
another distribution. So a distribution of the image that the layer hides in part, or that hides part of the layer, is copied into the
layer by its RECORD: without network, and in exactly the version that the plan assumed.
"""

from __future__ import annotations

import csv
import importlib.machinery
import importlib.util
import json
import os
import shutil

from flowsession_agent.install.report import FROM_IMAGE
from flowsession_protocol.requirements import normalise

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Iterator, Sequence

    from flowsession_agent.install.venvs import Layer

SUFFIXES = tuple(importlib.machinery.all_suffixes())
EXTENDS = b"extend_path"  # pkgutil's: a package that calls it adds the parts in all folders on sys.path by itself
EXTENDING = '__path__ = __import__("pkgutil").extend_path(__path__, __name__)\n'
HEAD = 4096
FOLDER, MODULE, REGULAR, EXTENDED = "folder", "module", "regular", "extended"


class Overlaps:
    """One layer over the image's folders `sites`, in the order of `sys.path`."""

    def __init__(self, layer: Layer, sites: Sequence[str]) -> None:
        self._layer = layer
        self._site = layer.site
        self._sites = sites
        self._known: dict[str, _Distribution] | None = None
        self.brought: list[_Distribution] = []

    def bring(self) -> list[str]:
        """Copy what is hidden into the layer; return warnings about what can't be copied. Raises OSError if the disk is full."""
        hidden: set[str] = set()
        while True:  # copies may hide more; each round copies at least one distribution or writes one file
            hidden, hiding = self._look()
            bring = [one for one in self._candidates(hidden | hiding) if any(map(one.touches, hidden)) or any(map(one.defines, hiding))]
            for one in bring:
                one.copy(self._site)
            self.brought += bring
            extended = [path for path in hiding if self._extend(path)] if not bring else []
            if not bring and not extended:
                break
        if self.brought:
            with open(os.path.join(self._layer.path, FROM_IMAGE), "w", encoding="utf-8") as file:
                json.dump({one.name: one.version for one in self.brought}, file)
        return list(self._unowned(hidden))

    def _look(self) -> tuple[set[str], set[str]]:
        """Return, as paths, the packages whose parts in the image the layer hides, and those whose parts in the layer the image hides."""
        hidden: set[str] = set()
        hiding: set[str] = set()
        waiting = [""]
        while waiting:
            path = waiting.pop()
            parts = {site: _modules(os.path.join(site, path)) for site in self._sites}
            for name in _modules(os.path.join(self._site, path)).intersection(set().union(*parts.values())):
                inner = os.path.join(path, name)
                mine = _kind(os.path.join(self._site, inner))
                image = [_kind(os.path.join(site, inner)) for site, names in parts.items() if name in names]
                first = next((kind for kind in image if kind != FOLDER), FOLDER)
                if mine == FOLDER and first != FOLDER:
                    if self._hides(inner, extended=first == EXTENDED):
                        hiding.add(inner)
                elif mine in (FOLDER, EXTENDED):
                    waiting.append(inner)
                else:
                    hidden.add(inner)
        return hidden, hiding

    def _hides(self, path: str, *, extended: bool) -> bool:
        """Return whether the image's package at `path` hides modules of the layer's folder. An `extended` one hides only equal names."""
        mine = _modules(os.path.join(self._site, path))
        if extended:
            return any(not mine.isdisjoint(_modules(os.path.join(site, path))) for site in self._sites)
        return any(name.endswith(SUFFIXES) for _, _, files in os.walk(os.path.join(self._site, path)) for name in files)

    def _candidates(self, paths: set[str]) -> list[_Distribution]:
        """Return the image's visible distributions of which the layer has no version."""
        if not paths:
            return []
        layer = set(installed([self._site]))
        return [one for name, one in self._distributions().items() if name not in layer]

    def _distributions(self) -> dict[str, _Distribution]:
        if self._known is None:
            self._known = {name: _Distribution(path) for name, path in installed(self._sites).items()}
        return self._known

    def _extend(self, path: str) -> bool:
        """Make a folder of the layer a regular package, since the image's belongs to a replaced version. Return False if it already is."""
        file = os.path.join(self._site, path, "__init__.py")
        if os.path.exists(file):
            return False
        with open(file, "w", encoding="utf-8") as package:
            package.write(EXTENDING)
        return True

    def _unowned(self, hidden: set[str]) -> Iterator[str]:
        """Yield a warning for each hidden package of which the image has modules in no RECORD, as in editable and old installs."""
        if not hidden or any(one.files is None and name in installed([self._site]) for name, one in self._distributions().items()):
            return  # the modules may belong to a replaced version
        owned = {file for one in self._distributions().values() for file in one.files or ()}
        for path in sorted(hidden):
            lost = [file for file in self._files_below(path) if file not in owned and not os.path.exists(os.path.join(self._site, file))]
            if lost:
                module = lost[0].partition(".")[0].replace("/__init__", "").replace("/", ".")
                here = path.replace("/", ".")
                yield (
                    f"the image's {module} is hidden by the session's {here}, and the image keeps no list of the files of its distribution:"
                    " add that distribution to the requirements"
                )

    def _files_below(self, path: str) -> Iterator[str]:
        site = next((site for site in self._sites if os.path.isdir(os.path.join(site, path))), "")
        for folder, folders, files in os.walk(os.path.join(site, path)) if site else ():
            folders[:] = [name for name in folders if name != "__pycache__"]
            yield from (os.path.relpath(os.path.join(folder, name), site) for name in files if name.endswith(SUFFIXES))


class _Distribution:
    """A distribution of the image, given its metadata folder."""

    def __init__(self, metadata: str) -> None:
        self._site, folder = os.path.split(metadata)
        self.name, _, version = folder.rpartition(".")[0].partition("-")
        self.version = version.partition("-")[0]
        self.files = _recorded(metadata)
        self._tops = {file.partition("/")[0].partition(".")[0] for file in self.files or ()}

    def touches(self, path: str) -> bool:
        """Return whether the distribution has files of the package or module at `path`."""
        return self._any(path, lambda file: file.startswith((f"{path}/", f"{path}.")))

    def defines(self, path: str) -> bool:
        """Return whether the regular package or module at `path` belongs to the distribution."""
        return self._any(path, lambda file: file.startswith((f"{path}/__init__.", f"{path}.")))

    def copy(self, site: str) -> None:
        """Copy its files into `site`, with bytecode and without scripts. Existing files stay. Raises OSError."""
        for file in self.files or ():
            source, target = os.path.join(self._site, file), os.path.join(site, file)
            if not _copy(source, target) or not file.endswith(".py"):
                continue
            compiled = importlib.util.cache_from_source(source)
            _copy(compiled, os.path.join(os.path.dirname(target), "__pycache__", os.path.basename(compiled)))

    def _any(self, path: str, fits: Callable[[str], bool]) -> bool:
        return path.partition("/")[0] in self._tops and any(map(fits, self.files or ()))


def _copy(source: str, target: str) -> bool:
    """Copy a file if it exists and `target` doesn't; return whether it did. Keeps the mtime, by which Python validates bytecode."""
    if os.path.lexists(target) or not os.path.isfile(source):
        return False
    os.makedirs(os.path.dirname(target), exist_ok=True)
    shutil.copy2(source, target)
    return True


def installed(sites: Sequence[str]) -> dict[str, str]:
    """Return the metadata folders of the distributions in `sites`, by normalized name. The first of a name counts."""
    found: dict[str, str] = {}
    for site in sites:
        for entry in os.listdir(site):
            if entry.endswith((".dist-info", ".egg-info")):
                found.setdefault(normalise(entry.rpartition(".")[0].partition("-")[0]), os.path.join(site, entry))
    return found


def _recorded(metadata: str) -> list[str] | None:
    """Return a distribution's files inside its site-packages, or None if it has no list of them."""
    try:
        with open(os.path.join(metadata, "RECORD"), encoding="utf-8", errors="surrogateescape", newline="") as file:
            files = [os.path.normpath(row[0]) for row in csv.reader(file) if row]
    except (OSError, csv.Error):
        return None
    return [file for file in files if not file.startswith(("..", "/"))]


def _modules(folder: str) -> set[str]:
    """Return the names that can be imported from a folder."""
    try:
        with os.scandir(folder) as entries:
            names = {entry.name for entry in entries if entry.name.endswith(SUFFIXES) or (entry.name.isidentifier() and entry.is_dir())}
    except OSError:
        return set()
    return {name.partition(".")[0] for name in names} - {"__init__", "__pycache__"}


def _kind(path: str) -> str:
    """Return the kind of module that an import finds at `path`, which has no suffix."""
    try:
        names = os.listdir(path)
    except OSError:
        return MODULE
    if any(name.startswith("__init__.") and name.endswith(SUFFIXES) for name in names):
        return EXTENDED if _extends(os.path.join(path, "__init__.py")) else REGULAR
    folder, name = os.path.split(path)
    return MODULE if any(os.path.isfile(os.path.join(folder, name + suffix)) for suffix in SUFFIXES) else FOLDER


def _extends(file: str) -> bool:
    try:
        with open(file, "rb") as package:
            return EXTENDS in package.read(HEAD)
    except OSError:
        return False
