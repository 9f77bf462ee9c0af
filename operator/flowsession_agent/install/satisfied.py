"""Find the requirements that the installed packages don't satisfy. Runs in the session's Python, not in the agent's.

`satisfied LAYER FILE`: the layer's folder or empty, and a file with a JSON list of lines, each with `text`, `place` and `constraint`.
Standard output is one JSON object: `unsatisfied` (sentences for the first), `count` (of all unsatisfied) and `asked` (how many apply).

Requirements are judged as pip judges those that may be installed already: markers by this Python, versions with pre-releases, extras by
the metadata of their dependencies, links by direct_url.json (https://packaging.python.org/en/latest/specifications/direct-url/).
"""

from __future__ import annotations

import json
import os
import re
import sys

from flowsession_agent.install import report
from flowsession_protocol.limits import RUN_ERRORS
from flowsession_protocol.masking import masked
from flowsession_protocol.requirements import EGG, VARIABLE, normalise, parts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterable, Iterator, Mapping

    from flowsession_agent.install.report import Found

LINK = re.compile(r"(?:[a-z][a-z0-9.-]*\+)?[a-z][a-z0-9.-]*://", re.IGNORECASE)
SHOWN = 120


def main() -> None:
    """Judge the lines of the file."""
    layer, file = sys.argv[1:]
    with open(file, encoding="utf-8") as opened:
        lines = json.load(opened)
    evaluator = report.load_evaluator()
    if evaluator is None:
        sys.exit("its Python has neither packaging nor pip, by which requirements are compared")
    seen, image = report.scan(layer)
    promptflow = {name for name in image if name == "promptflow" or name.startswith("promptflow-")}
    judge = Judge(seen, evaluator, links=direct_urls(), keeps=promptflow)
    found = judge.unsatisfied(lines)
    json.dump({"unsatisfied": found[:RUN_ERRORS], "count": len(found), "asked": judge.asked}, sys.stdout)


class Judge:
    """Compares requirements with the installed packages."""

    def __init__(
        self, seen: Mapping[str, Found], evaluator: Callable[[str], Any], *, links: Mapping[str, list[str]], keeps: Iterable[str]
    ) -> None:
        """`links`: the links that each distribution was installed from, by name. `keeps`: distributions of which the image keeps its own
        version, whatever requirements ask for."""
        self._seen, self._evaluator, self._links, self._keeps = seen, evaluator, links, frozenset(keeps)
        self.asked = 0

    def unsatisfied(self, lines: Iterable[Mapping[str, Any]]) -> list[str]:
        """Return a sentence for each unsatisfied line. Constraints apply only to requested distributions and their dependencies."""
        found: list[str] = []
        constraints = []
        names: set[str] = set()
        for line in lines:
            if line["constraint"]:
                constraints.append(line)
                continue
            name, problem = self._judged(line["text"])
            names |= {name} - {""}
            self.asked += name != "" or bool(problem)
            if problem:
                found.append(f"{shown(line)}: {problem}")
        needed = self._needed(names) & self._seen.keys()
        for line in constraints:
            name, problem = self._judged(line["text"])
            if problem and name in needed:
                found.append(f"constraint {shown(line)}: {problem}")
        return found

    def _judged(self, text: str) -> tuple[str, str]:
        """Return the normalized name of a line's distribution, and why the line is unsatisfied. Both are empty if it doesn't apply here."""
        body, options = parts(expanded(text))
        if LINK.match(body):
            egg = EGG.search(body)
            name = normalise(egg.group(1)) if egg else ""
            installed = name in self._keeps or any(linked(body) in links for links in self._links.values())
            return name or body, "" if installed else self._has(name, "not from there")
        try:
            requirement = self._evaluator(body)
            applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        except Exception as error:  # which one depends on this Python's version of packaging
            return "", f"it can't be compared ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        if not applies:
            return "", ""
        name = normalise(requirement.name)
        kept = name in self._keeps and "--hash" not in options
        if requirement.url and not kept:
            from_there = linked(requirement.url) in self._links.get(name, ())
            return name, "" if from_there else self._has(name, "not from there")
        if name not in self._seen or not (kept or self._fits(requirement)):
            return name, self._has(name)
        return name, self._lacking(requirement, set())

    def _fits(self, requirement: Any) -> bool:
        return bool(requirement.specifier.contains(self._seen[normalise(requirement.name)].version, prereleases=True))

    def _has(self, name: str, more: str = "") -> str:
        found = self._seen.get(name)
        return f"{found.name} {found.version} is installed{f', {more}' if more else ''}" if found else "it is not installed"

    def _lacking(self, requirement: Any, known: set[tuple[str, str]]) -> str:
        """Return an unsatisfied dependency of the requirement's extras, as a sentence; empty if none. `known`: extras checked so far."""
        name = normalise(requirement.name)
        for extra in sorted(requirement.extras):
            if (name, extra) in known:
                continue
            known.add((name, extra))
            for needed in self._of_extra(name, extra):
                other = normalise(needed.name)
                if other not in self._seen or not (other in self._keeps or self._fits(needed)):
                    return f"its extra {extra!r} needs {needed.name}{needed.specifier}, and {self._has(other)}"
                if lacking := self._lacking(needed, known):
                    return lacking
        return ""

    def _of_extra(self, name: str, extra: str) -> Iterator[Any]:
        for text in self._seen[name].requires:
            if "extra" not in text.partition(";")[2]:
                continue
            try:
                requirement = self._evaluator(text)
                if any(requirement.marker.evaluate({"extra": one}) for one in (extra, normalise(extra))):
                    yield requirement
            except Exception:  # noqa: S112 - one broken line of a distribution's metadata must not hide all others
                continue

    def _needed(self, names: set[str]) -> set[str]:
        """Return the names and those of their dependencies, direct or not."""
        waiting, needed = list(names), set(names)
        while waiting:
            found = self._seen.get(waiting.pop())
            for text in found.requires if found else ():
                name = report.name_of(text)
                if name not in needed and report.applies(text, self._evaluator):
                    needed.add(name)
                    waiting.append(name)
        return needed


def shown(line: Mapping[str, Any]) -> str:
    """Return a line and its place for a message, without logins."""
    text = masked(parts(line["text"])[0])
    return f"{text if len(text) <= SHOWN else text[:SHOWN] + '...'!r} ({line['place']})"


def expanded(text: str) -> str:
    """Return the line with environment variables expanded, as pip does it."""
    return VARIABLE.sub(lambda match: os.environ.get(match.group(1)) or match.group(), text)


def linked(url: str) -> str:
    """Return a link in the form for comparing: kind of repository, address without login and fragment, revision, subdirectory."""
    address, _, fragment = url.strip().partition("#")
    kind, plus, rest = address.partition("+")
    kind, address = (kind.lower(), rest) if plus and "://" not in kind else ("", address)
    head, at, revision = address.rpartition("@") if kind and "@" in address.rpartition("/")[2] else (address, "", "")
    folder = next((part.partition("=")[2] for part in fragment.split("&") if part.startswith("subdirectory=")), "")
    return " ".join([kind, _without_login(head), revision if at else "", folder])


def direct_urls() -> dict[str, list[str]]:
    """Return the links that each distribution was installed from, as `linked` has them; a repository's by revision name and by commit."""
    from importlib.metadata import distributions

    found: dict[str, list[str]] = {}
    for distribution in distributions():
        try:
            text = distribution.read_text("direct_url.json")
            if text:
                found.setdefault(normalise(distribution.metadata["Name"]), []).extend(links_of(json.loads(text)))
        except Exception:  # noqa: S112 - as in report.scan
            continue
    return found


def links_of(record: Mapping[str, Any]) -> list[str]:
    repository = record.get("vcs_info") or {}
    revisions = [repository.get("requested_revision") or "", *([repository["commit_id"]] if repository.get("commit_id") else [])]
    folder = record.get("subdirectory") or ""
    return [" ".join([repository.get("vcs", ""), _without_login(record["url"]), revision, folder]) for revision in revisions]


def _without_login(url: str) -> str:
    head, separator, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{head.lower()}{separator}{host.rpartition('@')[2].lower()}{slash}{path}" if separator else url
