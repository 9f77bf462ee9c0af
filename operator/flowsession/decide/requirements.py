"""Judges a requirements file and those that it includes before an installer sees them: what can't be, and what is unwise.

What a session does with them is pip's affair, which has the last word; refused here is only what pip or Azure refuse for certain.
"""

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from flowsession.decide import requirementoptions, requirementrules
from flowsession.decide.flowyaml import FolderError, text_of
from flowsession.decide.requirementlines import Line, lines
from flowsession.decide.requirementoptions import INCLUDES, Finding, Judged, shown

LARGEST = 1_000_000
"""Bytes of all files together."""

MOST_FILES = 50
"""Files that include one another; the session's agent reads as many."""

MOST_REQUIREMENTS = 1_000
MOST_PARSED = 60_000
"""Characters of requirements without their hashes: some 30 ms of parsing."""

MOST_OPTIONS = 50_000
"""Hashes are options."""


@dataclass(frozen=True)
class Review:
    """What a requirements file holds, with all that it includes."""

    count: int
    errors: tuple[Finding, ...]
    warnings: tuple[Finding, ...]
    text: str
    """The file as it is to be installed: without the versions of prompt flow's packages, since the image's are kept."""
    included: Mapping[str, str] = field(default_factory=dict)
    """Texts of the files that were followed, by name."""


def review(text: str, *, path: str | None = None, files: Mapping[str, bytes] | None = None) -> Review:
    """Judges every line. `path` is the file's name among `files`, the flow folder; None: it is text without a folder. Never raises: what
    is wrong is in `errors`."""
    reading = _Reading(files or {}, path)
    found, _ = reading.file(path or "", text, constraint=False, way=(path or "",))
    reading.judge_hashes()
    return Review(
        count=reading.count,
        errors=tuple(reading.errors),
        warnings=tuple(reading.warnings),
        text=found,
        included=reading.included,
    )


class _Stop(Exception):
    """Too much to go on; the finding is made."""


class _Reading:
    """One reading of a file with all that it includes."""

    def __init__(self, files: Mapping[str, bytes], root: str | None) -> None:
        self._files, self._root = files, root
        self.count = 0
        self.errors: list[Finding] = []
        self.warnings: list[Finding] = []
        self.included: dict[str, str] = {}
        self._changed: dict[tuple[str, bool], bool] = {}
        self._bytes, self._parsed, self._options = 0, 0, 0
        self._hashed, self._unhashed = False, list[Finding]()
        self._free = False
        """Whether hashes may come from elsewhere, or are not asked for."""

    def file(self, name: str, text: str, *, constraint: bool, way: tuple[str, ...]) -> tuple[str, bool]:
        """Reads a file; returns its text as it is to be installed, and whether that differs from what it is."""
        self._bytes += len(text.encode(errors="replace"))
        physical = text.splitlines(keepends=True)
        changed = False
        try:
            if self._bytes > LARGEST:
                self._stop(name, 1, f"more than {LARGEST:,} bytes of requirements; split the environment, or lock fewer platforms")
            for line in lines(text):
                new = self._line(name, line, constraint, way)
                if new is not None:
                    end = physical[line.last - 1][len(physical[line.last - 1].rstrip("\r\n")) :] or "\n"
                    physical[line.first - 1 : line.last] = [new + end] + [""] * (line.last - line.first)
                    changed = True
        except _Stop:
            if len(way) > 1:
                raise
        return ("".join(physical) if changed else text), changed

    def judge_hashes(self) -> None:
        """One hash asks for all, as pip has it."""
        if self._hashed and not self._free:
            self.errors += self._unhashed

    def _line(self, name: str, line: Line, constraint: bool, way: tuple[str, ...]) -> str | None:
        """Judges a line; returns what to install in its place, None for the line itself."""
        self._options += len(line.options)
        if self._options > MOST_OPTIONS:
            self._stop(name, line.first, f"more than {MOST_OPTIONS:,} options and hashes; lock fewer packages or platforms")
        if line.problem:
            self.errors.append(Finding(line.first, "InvalidOption", f"{shown(line.text)}: {line.problem}", name))
            return None
        if line.body:
            return self._requirement(name, line, constraint)
        return self._option_line(name, line, way)

    def _requirement(self, name: str, line: Line, constraint: bool) -> str | None:
        self.count += not constraint
        self._parsed += len(line.body)
        if self.count > MOST_REQUIREMENTS or self._parsed > MOST_PARSED:
            self._stop(name, line.first, f"more than {MOST_REQUIREMENTS:,} requirements or {MOST_PARSED:,} characters of them")
        judged = requirementrules.requirement(line, constraint=constraint)
        self._found(name, judged)
        if not constraint and not judged.errors:
            self._hashed |= judged.hashed
            if judged.without_hash:
                self._unhashed.append(Finding(line.first, "UnhashedRequirement", judged.without_hash, name))
        return judged.instead

    def _option_line(self, name: str, line: Line, way: tuple[str, ...]) -> str | None:
        include = next(((option, value) for option, value in line.options if option in INCLUDES), None)
        if include is None:
            self._found(name, requirementoptions.options(line))
            self._hashed |= any(option == "--require-hashes" for option, _ in line.options)
            self._free |= any(option == "--no-require-hashes" for option, _ in line.options)
            return None
        if len(line.options) > 1:
            self._found(name, requirementoptions.beside_include(line))
        return self._include(name, line, include[1], include[0] == "--constraint", way)

    def _include(self, name: str, line: Line, target: str, as_constraint: bool, way: tuple[str, ...]) -> str | None:
        self._free |= as_constraint
        if target.lower().startswith(("http://", "https://")):
            self.count += not as_constraint
            self._found(name, requirementoptions.remote_include(line))
            return None
        path = posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
        problem = self._cannot_include(path, target, way)
        if problem:
            self.errors.append(Finding(line.first, problem[0], f"{shown(line.text)}: {problem[1]}", name))
            return None
        try:
            text = text_of(path, self._files[path])
        except FolderError as error:
            self.errors.append(Finding(line.first, "NotText", str(error), name))
            return None
        again = self._changed.get((path, as_constraint))
        self.included[path] = text
        if again is not None:  # by another way: its lines are judged and counted already, and stand there if they had to be changed
            return "" if again else None
        if len(self.included) >= MOST_FILES:
            self._stop(name, line.first, f"more than {MOST_FILES} files include one another")
        inner, changed = self.file(path, text, constraint=as_constraint, way=(*way, path))
        self._changed[path, as_constraint] = changed
        if not changed:
            return None
        return "\n".join(self._moved(path, inner)).rstrip("\n")

    def _cannot_include(self, path: str, target: str, way: tuple[str, ...]) -> tuple[str, str] | None:
        if self._root is None:
            return "IncludeMissing", "a text has no files beside it; put the requirements into the flow folder as a file"
        if (
            target.startswith(("/", "~"))
            or path == ".."
            or path.startswith("../")
            or target.lower().startswith("file:")
            or target[1:2] == ":"
        ):
            return "IncludeOutside", "outside of the flow folder; put the file into the folder, or name it in additional_includes"
        if path in way:
            return "IncludeCycle", f"the file includes itself ({' -> '.join([*way[way.index(path) :], path])}); remove the line"
        if path not in self._files:
            here = sorted(file for file in self._files if posixpath.dirname(file) == posixpath.dirname(path))
            return (
                "IncludeMissing",
                f"there is no {path!r} in the flow folder (there: {', '.join(here[:10]) or 'nothing'}); add or correct it",
            )
        return None

    def _moved(self, path: str, text: str) -> Iterator[str]:
        """The lines of an included file as they read in the first file's place."""
        up = "../" * (self._root or "").count("/")
        for line in lines(text):
            include = next((value for option, value in line.options if option in INCLUDES), None)
            if not line.body and include is not None and "://" not in include:
                option = next(option for option, _ in line.options if option in INCLUDES)
                yield f"{option} {up}{posixpath.normpath(posixpath.join(posixpath.dirname(path), include))}"
            else:
                yield line.text

    def _found(self, name: str, judged: Judged) -> None:
        self.errors += [finding.of(name) for finding in judged.errors]
        self.warnings += [finding.of(name) for finding in judged.warnings]

    def _stop(self, name: str, line: int, message: str) -> None:
        self.errors.append(Finding(line, "TooLarge", message, name))
        raise _Stop
