"""Advises what to do about a module that can't be found, depending on whose module it is."""

from __future__ import annotations

import difflib
import importlib.util
import json
import os
import sys

from flowsession_agent.check import distributions

OUTSIDE_MODULES = "FLOWSESSION_OUTSIDE_MODULES"
"""Environment variable of the check: JSON with the path to each module of the flow's source outside of the flow folder, by name."""

OWN_NAMES = frozenset([
    "api_keys", "app", "common", "config", "configs", "configuration", "constants", "core", "credentials", "custom_tools",
    "data_models", "db", "env", "environment", "functions", "helper", "helpers", "keys", "llm", "logger", "logging_config", "models",
    "prompts", "schema", "schemas", "secret", "settings", "shared", "tools", "util", "utilities", "utils", "variables",
])  # fmt: skip
"""Names that people give to their own files. Packages of these names are unrelated to the flow."""


def missing(module: str, folder: str) -> str:
    """Return the sentence about a module that the flow in `folder` can't find."""
    message = f"No module named {module!r}"
    top = module.partition(".")[0]
    if top == "promptflow":
        name = "promptflow-tools" if module.startswith("promptflow.tools") else distributions.known(module)
        return f"{message}: use the default image, or build {name} into yours"
    return f"{message}{_gone(module) or _own(module, folder) or _removed(top) or _package(module)}"


def not_in(place: str) -> str:
    """Return the addition to a message about a name that the installed module at `place` lacks; empty if no distribution owns it."""
    found = distributions.owner(place)
    if found is None:
        return ""
    return f" ({distributions.version_of(found)} is installed: another version may have it, such as {distributions.older_than(found)})"


def _gone(module: str) -> str:
    """Return the sentence about a module missing in the installed version of its package; empty if that is not the cause."""
    parts = module.split(".")
    for length in range(len(parts) - 1, 0, -1):
        parent = ".".join(parts[:length])
        try:
            spec = importlib.util.find_spec(parent)
        except (ImportError, ValueError, AttributeError):
            continue
        if spec is None or not spec.origin or not spec.has_location:
            continue  # a namespace package, which several distributions share
        found = distributions.owner(spec.origin)
        if found is None:
            return ""
        has = f"{distributions.version_of(found)}, which is installed, has no {module}"
        return f": {has}: require a version that has it, such as {distributions.older_than(found)}, or import it from where it is now"
    return ""


def _own(module: str, folder: str) -> str:
    """Return the sentence about a module of the flow's author, judged by the source and the folder; empty if it seems to be another's."""
    top, _, rest = module.partition(".")
    if rest and os.path.isfile(os.path.join(folder, f"{top}.py")):
        return f": {top}.py of the flow folder hides the package {top}: rename that file"
    if rest and os.path.isdir(os.path.join(folder, top)):
        return f": {top} of the flow folder has no {rest}: add {module.replace('.', '/')}.py (was it left out of git?)"
    way = _outside_modules().get(top)
    if way:
        return f": it lies outside of the flow folder, in the flow's source: bring it in by `additional_includes: [{way}]`"
    alike = _alike(top, folder)
    if alike:
        return f": the flow folder has {alike}, but no {top}.py: add that file (was it left out of git?)"
    return ""


def _outside_modules() -> dict[str, str]:
    try:
        found = json.loads(os.environ.get(OUTSIDE_MODULES) or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _alike(top: str, folder: str) -> str:
    """Return a file similar to the missing one: `config_example.py`, `config.py.template`, `Config.py`."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return ""
    for name in names:
        lower = name.lower()
        if lower == f"{top.lower()}.py" or (lower.startswith(f"{top.lower()}.py.") and not lower.endswith((".pyc", ".kept"))):
            return name
        words = lower.rpartition(".")[0].replace("-", "_").replace(".", "_").split("_")
        if lower.endswith(".py") and {"example", "sample", "template", "default", "dist"} & set(words) and top.lower() in words:
            return name
    return ""


def _there(top: str) -> bool:
    try:
        return importlib.util.find_spec(top) is not None
    except (ImportError, ValueError, AttributeError):
        return False


def _removed(top: str) -> str:
    since = distributions.REMOVED.get(top)
    if since is None or sys.version_info < since:
        return ""
    version = sys.version.split()[0]
    return f": Python {since[0]}.{since[1]} took it out, and this is {version}: use what replaces it, or an image with an older Python"


def _package(module: str) -> str:
    name = distributions.known(module)
    if name:
        return f": add {name} to the requirements, or build it into the image"
    top = module.partition(".")[0]
    near = difflib.get_close_matches(top, sorted(distributions.SAME_NAMES | distributions.OTHER_NAMES.keys()), 1, 0.8)
    if near:
        return f": is {near[0]!r} meant? No package is known for it; if the module is your own, add {top}.py to the flow folder"
    if "." in module and _there(top):
        return ": no package is known for it: add the one that brings it to the requirements, or correct the name"
    if top.lower() in OWN_NAMES:
        return f": no package is known for it, so it is probably your own: add {top}.py to the flow folder (was it left out of git?)"
    return (
        f": no package is known for it: if the module is your own, add {top}.py to the flow folder,"
        " else the package that brings it to the requirements"
    )
