"""Judges the lines of a requirements file before an installer sees them: what can't be, and what is unwise.

The format is pip's (https://pip.pypa.io/en/stable/reference/requirements-file-format/); the installer has the last word.
"""

import re
from dataclasses import dataclass

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

_PER_REQUIREMENT_OPTIONS = re.compile(r"\s--(?:hash|config-settings|global-option|install-option)\b")
_LOCAL = ("./", "../", "/", "file:", ".\\", "..\\")
_URL = re.compile(r"^[a-z][a-z0-9+.-]*://", re.IGNORECASE)


@dataclass(frozen=True)
class Finding:
    """One line that was judged, with its number in the file (from 1)."""

    line: int
    code: str
    message: str


@dataclass(frozen=True)
class Review:
    """What a requirements file holds."""

    count: int
    errors: tuple[Finding, ...]
    warnings: tuple[Finding, ...]


def review(text: str) -> Review:
    """Judges every line. Never raises: what is wrong is in `errors`."""
    count, errors, warnings = 0, [], []
    for number, line in _logical_lines(text):
        if line.startswith("-"):
            errors += _option(number, line)
            continue
        count += 1
        body = _PER_REQUIREMENT_OPTIONS.split(line, maxsplit=1)[0].rstrip()
        if body.startswith(_LOCAL) or (body.endswith((".whl", ".tar.gz", ".zip")) and not _URL.match(body) and "@" not in body):
            errors.append(Finding(number, "LocalPath", f"{body!r} is a local file; build it into your image, or publish it to an index"))
            continue
        if _URL.match(body) or body.startswith("git+"):
            continue
        try:
            requirement = Requirement(body)
        except (InvalidRequirement, RecursionError) as error:
            what = str(error).splitlines()[0]
            errors.append(Finding(number, "InvalidRequirement", f"{body!r} is not a requirement ({what}); write name==version"))
            continue
        name = canonicalize_name(requirement.name)
        if (name == "promptflow" or name.startswith("promptflow-")) and requirement.specifier:
            warnings.append(
                Finding(number, "PinnedPromptflow", f"{body!r} pins prompt flow; the image's version is kept, so remove the version")
            )
    return Review(count=count, errors=tuple(errors), warnings=tuple(warnings))


def _option(number: int, line: str) -> list[Finding]:
    word, _, rest = line.replace("=", " ", 1).partition(" ")
    if word in ("-e", "--editable"):
        return [Finding(number, "Editable", f"{line!r} is editable, and a session has no such source; build it into your image")]
    if word in ("-f", "--find-links") and rest.strip().startswith(_LOCAL):
        return [Finding(number, "LocalPath", f"{line!r} names a local folder; publish its files to an index")]
    return []


def _without_comment(line: str) -> str:
    """A # at the start or behind white space begins a comment."""
    at = line.find("#")
    while at > 0 and not line[at - 1].isspace():
        at = line.find("#", at + 1)
    return line if at < 0 else line[:at]


def _logical_lines(text: str) -> list[tuple[int, str]]:
    """The lines with comments gone and continuations joined, each with the number of its first line."""
    lines: list[tuple[int, str]] = []
    pending, start = "", 0
    for number, raw in enumerate(text.splitlines(), 1):
        start = start or number
        if raw.endswith("\\") and not raw.lstrip().startswith("#"):
            pending += raw[:-1] + " "
            continue
        line = _without_comment(pending + raw).strip()
        if line:
            lines.append((start, line))
        pending, start = "", 0
    if pending.strip():
        lines.append((start, _without_comment(pending).strip()))
    return lines
