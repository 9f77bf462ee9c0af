"""Finds the Python modules in a flow's source outside the flow folder: a module that the flow lacks may be one of them."""

import itertools
import posixpath
from collections.abc import Mapping

from flowsession_protocol.limits import OUTSIDE_MODULES

MAX_PYTHON_FILES = 5000
"""Python files of a source that are considered."""

DEEPEST = 4
"""Levels of folders that are searched; deeper modules are unlikely to be the missing one."""


def modules(source: Mapping[str, bytes], folder: str, flow: Mapping[str, bytes]) -> dict[str, str]:
    """Return modules and packages by name, each with its path from the flow folder, as `additional_includes` takes it.

    Of several with the same name, the least deeply nested one is returned. Modules of `flow`, the folder with its includes, are left out.
    """
    own = {name.split("/", 1)[0].removesuffix(".py") for name in flow}
    found: dict[str, str] = {}
    scripts = itertools.islice((name for name in source if name.endswith(".py")), MAX_PYTHON_FILES)
    places = {place for name in scripts for place in _places(name)}
    for path in sorted(places, key=lambda path: (path.count("/"), path)):
        name = posixpath.basename(path).removesuffix(".py")
        if name in own or name in found or not name.isidentifier() or name.startswith("__"):
            continue
        if folder in (".", path) or path.startswith(f"{folder}/") or folder.startswith(f"{path}/"):
            continue  # in the flow folder, or a folder that contains it
        found[name] = posixpath.relpath(path, folder)
        if len(found) == OUTSIDE_MODULES:
            break
    return found


def _places(name: str) -> list[str]:
    """Return the paths of the file and of its folders, outermost first: code may import any of them as its top-level module."""
    parts = name.split("/")[: DEEPEST + 1]
    return ["/".join(parts[:length]) for length in range(1, len(parts) + 1)]
