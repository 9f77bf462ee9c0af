"""Explains why a package tool can't be loaded: its package is missing, has no such tool, or fails on import."""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata

from flowsession_agent.check import distributions
from flowsession_agent.check.trouble import describe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterable

GROUP = "package_tools"
"""The group of entry points in which prompt flow finds tools (promptflow-core's tools_manager, 1.18.5)."""


def why_not(tool: str, wanted: Iterable[str], folder: str) -> str:
    """Return the sentence about a missing tool. `wanted`: all package tools of the flow. Prompt flow loads a package's together."""
    for point in _points():
        offered: dict[str, Any] = {}
        try:
            offered = point.load()()
            for name in {tool, *wanted} & offered.keys():
                importlib.import_module(offered[name]["module"])
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if tool in offered or _top(tool) in (_top(point.value), _top(getattr(error, "name", "") or "")):
                return _broken(tool, point, error, folder)
            continue
        if tool not in offered and _top(tool) == _top(point.value):
            near = difflib.get_close_matches(tool, offered, 1, 0)
            has = f"; the nearest that it has is {near[0]}" if near else ""
            return f"package tool {tool!r} is not among the tools of {_package_of(point)}, which is installed{has}: correct source.tool"
    name = distributions.known(tool)
    add = f"add {name}" if name else "add its package"
    return f"package tool {tool!r} is not installed: {add} to the requirements"


def _points() -> list[Any]:
    found: Any = importlib.metadata.entry_points()
    return list(found.select(group=GROUP) if hasattr(found, "select") else found.get(GROUP, ()))


def _broken(tool: str, point: Any, error: BaseException, folder: str) -> str:
    found = describe(error, folder=folder, default="")
    message = found.message.partition("its import fails: ")[2] or found.message
    return f"package tool {tool!r} can't be loaded: {_package_of(point)}, which is installed, fails at its import: {message}"


def _package_of(point: Any) -> str:
    distribution = getattr(point, "dist", None)
    return distributions.version_of(distribution) if distribution is not None else f"the package of {point.value}"


def _top(name: str) -> str:
    return name.replace(":", ".").partition(".")[0]
