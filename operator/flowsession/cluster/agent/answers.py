"""Reads an agent's JSON into views, with every text, number and list cut to a harmless size."""

import base64
import json
from typing import Any

from flowsession.model.agent_views import AgentState, CheckView, EditsArchive, EditsView, FlowProblem, InstallView, PackageList
from flowsession_protocol import limits
from flowsession_protocol.messages import CHECK_VERDICTS, INSTALL_STATES, LAYERS
from flowsession_protocol.requirements import normalise

MOST_PACKAGES = 20_000
LARGEST_LISTS = 1_000_000
"""Maximum bytes of the two forms of the list together: they must fit in a ConfigMap (1 MiB)."""

WIDEST = 40
"""Maximum width of a table column in characters; longer values overflow it."""

_Row = tuple[str, str, str, list[str], str]
"""Name, version, layer, required by, and the version that the image had."""


def text(value: object, limit: int) -> str:
    """Return a text of at most `limit` characters, without control characters except line feeds and tabs; empty for anything else."""
    if not isinstance(value, str):
        return ""
    cut = value[:limit]
    return cut if cut.isprintable() else "".join(c for c in cut if c in "\n\t" or c.isprintable())


def number(value: object, *, limit: float = 1e12) -> float:
    """Return a finite number between 0 and `limit`; 0 for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        return 0.0
    return limit if value > limit else float(value)


def word(value: object, limit: int) -> str:
    """Return a text on one line, for a row of a table."""
    return " ".join(text(value, limit).split())


def size_of(archive: object) -> int:
    """Return the size in bytes of a base64-encoded archive; 0 for anything else."""
    try:
        return len(base64.b64decode(archive, validate=True)) if isinstance(archive, str) else 0
    except ValueError:
        return 0


def state(document: dict[str, Any]) -> AgentState:
    """Return the agent's state."""
    environment, activity = _part(document, "environment"), _part(document, "activity")
    return AgentState(
        version=int(number(document.get("version"))),
        packages_revision=text(environment.get("packagesRevision"), 64),
        flow_revision=text(environment.get("flowRevision"), 64),
        install=_install(_part(document, "install")),
        busy=activity.get("busy") is True,
        idle_seconds=number(activity.get("idleSeconds")),
        what=text(activity.get("what"), 120).replace("\n", " "),
        packages=int(number(_part(document, "packages").get("count"), limit=MOST_PACKAGES)),
        retired=document.get("retired") is True,
        edits=_edits(_part(document, "edits")),
        check=_check(_part(document, "check")),
        memory_kill=text(_part(document, "memoryKill").get("id"), 40),
        killed_process=word(_part(document, "memoryKill").get("process"), 120),
    )


def edits(document: dict[str, Any], status: int, *, revision: str) -> EditsArchive:
    """Return the edited files, packed, or why those of this revision are unavailable."""
    if status == 404:
        return EditsArchive()
    if status != 200:
        return EditsArchive(revision=revision, problem=text(document.get("message"), 500) or f"HTTP {status}")
    archive = document.get("archive")
    size = size_of(archive)
    problem = (
        ""
        if 0 < size <= limits.ARCHIVE_BYTES
        else f"its agent sent an archive of {size:,} bytes; at most {limits.ARCHIVE_BYTES:,} can be saved"
    )
    return EditsArchive(
        revision=text(document.get("revision"), 64),
        flow_revision=text(document.get("flowRevision"), 64),
        files=_names(document.get("files"), limits.EDITED),
        deleted=_names(document.get("deleted"), 5000, longest=4096),
        base=_fingerprints(document.get("base")),
        archive=archive if isinstance(archive, str) and not problem else "",
        problem=problem,
    )


def _edits(document: dict[str, Any]) -> EditsView:
    return EditsView(
        revision=text(document.get("revision"), 64),
        count=int(number(document.get("count"), limit=1e6)),
        files=_names(document.get("files"), limits.EDITED_IN_STATE),
        offered=text(document.get("offered"), 253),
        restored=document.get("restored") is True,
        problem=text(document.get("problem"), 500),
        waiting=document.get("waiting") is True,
        unheard=document.get("unheard") is True,
        moved_aside=_names(document.get("kept"), limits.KEPT),
        left_out=int(number(document.get("leftOut"), limit=1e6)),
    )


def _check(document: dict[str, Any]) -> CheckView:
    state, verdict, problems = document.get("state"), document.get("verdict"), document.get("problems")
    found = tuple(_problem(item) for item in problems[: limits.PROBLEMS] if isinstance(item, dict)) if isinstance(problems, list) else ()
    return CheckView(
        state=state if isinstance(state, str) and state in ("Running", "Done") else "None",
        flow_revision=text(document.get("flowRevision"), 64),
        packages_revision=text(document.get("packagesRevision"), 64),
        verdict=verdict if isinstance(verdict, str) and verdict in CHECK_VERDICTS else "",
        reason=word(document.get("reason"), limits.PROBLEM),
        nodes=int(number(document.get("nodes"), limit=1e6)),
        count=max(len(found), int(number(document.get("count"), limit=1e6))),
        problems=found,
    )


def _problem(item: dict[str, Any]) -> FlowProblem:
    return FlowProblem(
        code=word(item.get("code"), 40),
        message=word(item.get("message"), limits.PROBLEM),
        file=word(item.get("file"), limits.PROBLEM_PLACE),
        line=int(number(item.get("line"), limit=1e7)),
        node=word(item.get("node"), limits.PROBLEM_PLACE),
    )


def _fingerprints(value: object) -> dict[str, str]:
    found = list(value.items())[: limits.FINGERPRINTS] if isinstance(value, dict) else []
    return {text(path, 1024): text(mark, 100) for path, mark in found if isinstance(mark, str)}


def _names(value: object, most: int, *, longest: int = 250) -> tuple[str, ...]:
    return tuple(text(name, longest).replace("\n", " ") for name in value[:most]) if isinstance(value, list) else ()


def packages(document: dict[str, Any]) -> PackageList:
    """Return the packages as a table for people and as JSON for programs.

    To fit into a ConfigMap, fewer requiring packages are named for each package. If that is not enough, packages are left out of both
    forms, which say how many.
    """
    items = document.get("packages")
    found = [_package(item) for item in items[:MOST_PACKAGES] if isinstance(item, dict)] if isinstance(items, list) else []
    for most in (limits.REQUIRING, 3, 1):
        rows, entries = _table(found, min(most, 3)), [_entry(row, most) for row in found]
        shown = _fitting(rows, entries)
        if shown == len(found):
            break
    left_out = len(found) - shown
    lines = [*rows[: shown + 1], *([f"... ({left_out:,} more; see `flow packages` in the session)"] if left_out else [])]
    truncated = f',"truncated":{left_out}' if left_out else ""
    listed = ",".join(entries[:shown])
    whole = f'{{"packages":[{listed}]{truncated}}}'
    return PackageList(count=len(found), table="\n".join(lines) + "\n", document=whole, promptflow=_promptflow(found))


def _promptflow(found: list[_Row]) -> str:
    """Return the image's version of prompt flow, or of its core, which runs flows too."""
    versions = {normalise(name): version if layer == "image" else before for name, version, layer, _, before in found}
    return versions.get("promptflow") or versions.get("promptflow-core", "")


def _fitting(rows: list[str], entries: list[str]) -> int:
    """Return how many packages fit, given the table's rows, of which the first is its title, and the entries of the JSON."""
    room = LARGEST_LISTS - len(rows[0])
    for shown, (row, entry) in enumerate(zip(rows[1:], entries, strict=True)):
        room -= len(row.encode()) + len(entry) + 2
        if room < 0:
            return shown
    return len(entries)


def _table(found: list[_Row], most: int) -> list[str]:
    widths = [min(WIDEST, max([len(title), *(len(row[column]) for row in found)])) for column, title in enumerate(("PACKAGE", "VERSION"))]
    return [
        f"{name:<{widths[0]}}  {version:<{widths[1]}}  {origin}"
        for name, version, origin in [
            ("PACKAGE", "VERSION", "FROM"),
            *((name, version, _origin(layer, by[:most], before)) for name, version, layer, by, before in found),
        ]
    ]


def _entry(row: _Row, most: int) -> str:
    name, version, layer, by, before = row
    fields = {"name": name, "version": version, "layer": layer, "requiredBy": by[:most], "replaces": before}
    return json.dumps({key: value for key, value in fields.items() if value}, separators=(",", ":"))


def _package(item: dict[str, Any]) -> _Row:
    by = item.get("requiredBy")
    names = [word(name, 100) for name in by[: limits.REQUIRING]] if isinstance(by, list) else []
    layer = item.get("layer")
    return (
        word(item.get("name"), 200),
        word(item.get("version"), 100),
        layer if layer in LAYERS else "image",
        [name for name in names if name],
        word(item.get("replaces"), 100),
    )


def _origin(layer: str, by: list[str], before: str) -> str:
    origin = f"dependency of {', '.join(by)}" if layer == "dependency" and by else layer
    return f"{origin} (image had {before})" if before else origin


def _install(document: dict[str, Any]) -> InstallView:
    given, code = document.get("state"), document.get("exitCode")
    warnings = document.get("warnings")
    return InstallView(
        state=given if isinstance(given, str) and given in INSTALL_STATES else "None",
        packages_revision=text(document.get("packagesRevision"), 64),
        tool=text(document.get("tool"), 20),
        exit_code=code if isinstance(code, int) and abs(code) < 2**31 else None,
        seconds=number(document.get("seconds"), limit=1e7),
        changed=int(number(document.get("changed"), limit=1e6)),
        code=text(document.get("code"), 40),
        message=text(document.get("message"), 1500),
        stdout_tail=text(document.get("stdoutTail"), limits.TAIL),
        stderr_tail=text(document.get("stderrTail"), limits.TAIL),
        warnings=tuple(text(item, limits.WARNING) for item in warnings[: limits.WARNINGS]) if isinstance(warnings, list) else (),
    )


def _part(document: dict[str, Any], name: str) -> dict[str, Any]:
    part = document.get(name)
    return part if isinstance(part, dict) else {}
