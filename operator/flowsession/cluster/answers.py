"""Reads an agent's JSON into views, with every text, number and list cut to a size that does no harm."""

import json
from typing import Any

from flowsession.decide.views import AgentState, InstallView, PackageList

LONGEST_TAIL = 4000
MOST_PACKAGES = 20_000
LARGEST_LIST = 450_000
"""Bytes of each of the two forms of the list: together they must fit in a ConfigMap (1 MiB)."""

_INSTALL_STATES = frozenset({"None", "Running", "Succeeded", "Failed", "TimedOut"})


def text(value: object, limit: int) -> str:
    """A text of at most `limit` characters, without control characters but line ends and tabs; empty for anything else."""
    if not isinstance(value, str):
        return ""
    return "".join(c for c in value[:limit] if c in "\n\t" or c.isprintable())


def number(value: object, *, limit: float = 1e12) -> float:
    """A finite number between 0 and `limit`; 0 for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        return 0.0
    return limit if value > limit else float(value)


def state(document: dict[str, Any]) -> AgentState:
    """The agent's state."""
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
    )


def packages(document: dict[str, Any]) -> PackageList:
    """The packages as a table for people and as JSON for programs."""
    items = document.get("packages")
    found = [_package(item) for item in items[:MOST_PACKAGES] if isinstance(item, dict)] if isinstance(items, list) else []
    widths = [max([len(title), *(len(row[column]) for row in found)]) for column, title in enumerate(("PACKAGE", "VERSION"))]
    lines = [f"{'PACKAGE':<{widths[0]}}  {'VERSION':<{widths[1]}}  FROM"]
    lines += [f"{name:<{widths[0]}}  {version:<{widths[1]}}  {_origin(layer, by, before)}" for name, version, layer, by, before in found]
    entries = [
        {key: value for key, value in zip(("name", "version", "layer", "requiredBy", "replaces"), row, strict=True) if value}
        for row in found
    ]
    table, document_text = "\n".join(lines) + "\n", json.dumps({"packages": entries}, separators=(",", ":"))
    return PackageList(count=len(found), table=_cut(table), document=document_text if len(document_text) <= LARGEST_LIST else "{}")


def _cut(table: str) -> str:
    data, note = table.encode(), "... (cut; see `flow packages` in the session)\n"
    if len(data) <= LARGEST_LIST:
        return table
    return data[: data.rindex(b"\n", 0, LARGEST_LIST - len(note)) + 1].decode() + note


def _package(item: dict[str, Any]) -> tuple[str, str, str, list[str], str]:
    by = item.get("requiredBy")
    names = [text(name, 100) for name in by[:20]] if isinstance(by, list) else []
    layer = item.get("layer")
    return (
        text(item.get("name"), 200),
        text(item.get("version"), 100),
        layer if layer in ("image", "requirements", "dependency") else "image",
        [name for name in names if name],
        text(item.get("replaces"), 100),
    )


def _origin(layer: str, by: list[str], before: str) -> str:
    origin = f"dependency of {', '.join(by[:3])}" if layer == "dependency" and by else layer
    return f"{origin} (image had {before})" if before else origin


def _install(document: dict[str, Any]) -> InstallView:
    given, code = document.get("state"), document.get("exitCode")
    warnings = document.get("warnings")
    return InstallView(
        state=given if isinstance(given, str) and given in _INSTALL_STATES else "None",
        packages_revision=text(document.get("packagesRevision"), 64),
        tool=text(document.get("tool"), 20),
        exit_code=code if isinstance(code, int) and abs(code) < 2**31 else None,
        seconds=number(document.get("seconds"), limit=1e7),
        changed=int(number(document.get("changed"), limit=1e6)),
        code=text(document.get("code"), 40),
        message=text(document.get("message"), 1500),
        stdout_tail=text(document.get("stdoutTail"), LONGEST_TAIL),
        stderr_tail=text(document.get("stderrTail"), LONGEST_TAIL),
        warnings=tuple(text(item, 500) for item in warnings[:20]) if isinstance(warnings, list) else (),
    )


def _part(document: dict[str, Any], name: str) -> dict[str, Any]:
    part = document.get(name)
    return part if isinstance(part, dict) else {}
