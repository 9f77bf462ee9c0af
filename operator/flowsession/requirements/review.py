"""Reviews a requirements file and those that it includes before an installer reads them: what is impossible, and what is unwise.

In a session, pip has the last word. This module refuses only what pip or Azure certainly refuse.
"""

import contextlib
import functools
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field

from flowsession.flow.yaml import FolderError, text_of
from flowsession.requirements import rules
from flowsession.requirements.rules import INCLUDES, Finding, Judged, only_an_include, options, shown, unseen_include
from flowsession_protocol.limits import REQUIREMENT_FILES
from flowsession_protocol.requirements import VARIABLE, Line, lines

LARGEST = 1_000_000
"""Bytes of all files together."""

MOST_REQUIREMENTS = 1_000
MOST_PARSED = 60_000
"""Characters of requirements without their hashes: about 30 ms of parsing."""

MOST_OPTIONS = 50_000
"""Options, including hashes."""

MOST_LINES = 100_000
"""Lines, including blank ones and comments."""

MOST_OPTION_LINES = 1_000
"""Lines that name no package: index URLs and included files."""

MOST_ERRORS = 100
"""Errors after which the review stops: people see only a few of them, and each costs more than a valid line."""

MOST_SHOWN = 10
"""Names of files that a message lists."""


@dataclass(frozen=True)
class Review:
    """The findings about a requirements file and all that it includes."""

    count: int
    errors: tuple[Finding, ...]
    warnings: tuple[Finding, ...]
    included: Mapping[str, str] = field(default_factory=dict)
    """Texts of the included files that were read, by name."""


def review(text: str, *, path: str | None = None, files: Mapping[str, bytes] | None = None) -> Review:
    """Return the review of every line. Raises nothing: problems are in `errors`.

    `path` is the file's name among `files`, the flow folder; None: it is text without a folder.
    """
    reading = _Reading(files or {}, path)
    with contextlib.suppress(_Stop):
        reading.file(path or "", text, constraint=False, way=(path or "",))
    reading.judge_hashes()
    return Review(count=reading.count, errors=tuple(reading.errors), warnings=tuple(reading.warnings), included=reading.included)


class _Stop(Exception):
    """A limit is exceeded, so the review stops; the finding is recorded already."""


class _Reading:
    """The review of a file with all that it includes, in progress."""

    def __init__(self, files: Mapping[str, bytes], root: str | None) -> None:
        self._files, self._root = files, root
        self.count = 0
        self.errors: list[Finding] = []
        self.warnings: list[Finding] = []
        self.included: dict[str, str] = {}
        self._read: set[tuple[str, bool]] = set()
        """Files that were read, and whether as constraints."""
        self._bytes, self._lines, self._parsed, self._options, self._option_lines = 0, 0, 0, 0, 0
        self._hashed, self._unhashed = False, list[Finding]()
        self._free = False
        """Whether a missing hash is no error: a constraints file may have it, or --no-require-hashes is given."""

    def file(self, name: str, text: str, *, constraint: bool, way: tuple[str, ...]) -> None:
        """Review a file. Raises _Stop."""
        self._bytes += len(text.encode(errors="replace"))
        if self._bytes > LARGEST:
            self._stop(name, 1, f"more than {LARGEST:,} bytes of requirements; split the environment, or lock fewer platforms")
        self._lines += len(text.splitlines())
        if self._lines > MOST_LINES:
            self._stop(name, 1, f"more than {MOST_LINES:,} lines of requirements; leave out the blank ones, or split the environment")
        for line in lines(text):
            self._line(name, line, constraint, way)
            if len(self.errors) >= MOST_ERRORS:
                raise _Stop

    def judge_hashes(self) -> None:
        """Add the errors about missing hashes. As in pip, one hash makes all of them required."""
        if self._hashed and not self._free:
            self.errors += self._unhashed

    def _line(self, name: str, line: Line, constraint: bool, way: tuple[str, ...]) -> None:
        self._options += len(line.options)
        if self._options > MOST_OPTIONS:
            self._stop(name, line.first, f"more than {MOST_OPTIONS:,} options and hashes; lock fewer packages or platforms")
        if line.problem:
            self.errors.append(Finding(line.first, "InvalidOption", f"{shown(line.text)}: {line.problem}", name))
        elif line.body:
            self._requirement(name, line, constraint)
        else:
            self._option_lines += 1
            if self._option_lines > MOST_OPTION_LINES:
                self._stop(name, line.first, f"more than {MOST_OPTION_LINES:,} lines of options; name each index and each file once")
            self._option_line(name, line, way)

    def _requirement(self, name: str, line: Line, constraint: bool) -> None:
        self.count += not constraint
        self._parsed += len(line.body)
        if self.count > MOST_REQUIREMENTS or self._parsed > MOST_PARSED:
            self._stop(name, line.first, f"more than {MOST_REQUIREMENTS:,} requirements or {MOST_PARSED:,} characters of them")
        judged = rules.requirement(line)
        self._found(name, judged)
        if not constraint and not judged.errors:
            self._hashed |= judged.hashed
            if judged.without_hash:
                self._unhashed.append(Finding(line.first, "UnhashedRequirement", judged.without_hash, name))

    def _option_line(self, name: str, line: Line, way: tuple[str, ...]) -> None:
        include = next(((option, value) for option, value in line.options if option in INCLUDES), None)
        if include is None:
            self._found(name, options(line))
            self._hashed |= any(option == "--require-hashes" for option, _ in line.options)
            self._free |= any(option == "--no-require-hashes" for option, _ in line.options)
            return
        if len(line.options) > 1:
            self._found(name, only_an_include(line))
        self._include(name, line, include[1], include[0] == "--constraint", way)

    def _include(self, name: str, line: Line, target: str, as_constraint: bool, way: tuple[str, ...]) -> None:
        self._free |= as_constraint
        if target.lower().startswith(("http://", "https://")) or VARIABLE.search(target):
            self.count += not as_constraint
            self._found(name, unseen_include(line))
            return
        path = posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
        problem = self._cannot_include(path, target, way)
        if problem:
            self.errors.append(Finding(line.first, problem[0], f"{shown(line.text)}: {problem[1]}", name))
            return
        if (path, as_constraint) in self._read:
            return  # through another file: its lines are judged and counted already
        self._read.add((path, as_constraint))
        try:
            text = text_of(path, self._files[path])
        except FolderError as error:
            self.errors.append(Finding(line.first, "NotText", str(error), name))
            return
        self.included[path] = text
        if len(self.included) >= REQUIREMENT_FILES:
            self._stop(name, line.first, f"more than {REQUIREMENT_FILES} files include one another")
        self.file(path, text, constraint=as_constraint, way=(*way, path))

    def _cannot_include(self, path: str, target: str, way: tuple[str, ...]) -> tuple[str, str] | None:
        if self._root is None:
            advice = "put the requirements into the flow folder as a file, or name both files in additional_includes"
            return "IncludeMissing", f"no file lies beside these lines; {advice}"
        if (
            target.startswith(("/", "~"))
            or path == ".."
            or path.startswith("../")
            or target.lower().startswith("file:")
            or target[1:2] == ":"
        ):
            return "IncludeOutside", "outside of the flow folder; put the file into the folder, or name it in additional_includes"
        if path in way:
            circle = " -> ".join([*way[way.index(path) :], path])
            return "IncludeCycle", f"the file includes itself ({circle if len(circle) <= 500 else f'{circle[:500]}...'}); remove the line"
        if path not in self._files:
            here = self._by_folder.get(posixpath.dirname(path), ())
            there = ", ".join(map(_short, here)) or "nothing"
            return "IncludeMissing", f"there is no {shown(path)} in the flow folder (there: {there}); add or correct it"
        return None

    @functools.cached_property
    def _by_folder(self) -> Mapping[str, list[str]]:
        """The first few names in each folder, sorted only once, since every line may name a missing file."""
        found: dict[str, list[str]] = {}
        for name in sorted(self._files):
            here = found.setdefault(posixpath.dirname(name), [])
            if len(here) < MOST_SHOWN:
                here.append(name)
        return found

    def _found(self, name: str, judged: Judged) -> None:
        self.errors += [finding.of(name) for finding in judged.errors]
        self.warnings += [finding.of(name) for finding in judged.warnings]

    def _stop(self, name: str, line: int, message: str) -> None:
        self.errors.append(Finding(line, "TooLarge", message, name))
        raise _Stop


def _short(name: str) -> str:
    return name if len(name) <= 120 else f"{name[:120]}..."
