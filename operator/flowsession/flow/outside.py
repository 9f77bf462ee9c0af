"""Which Python modules a flow's source holds outside of the flow folder: what a flow lacks may be one of them."""

import itertools
import posixpath
from collections.abc import Mapping

from flowsession_protocol.limits import OUTSIDE_MODULES

MOST_LOOKED_AT = 5000
"""Python files of a source."""

DEEPEST = 4
"""Parts of a path that are looked at; modules that lie deeper are hardly meant."""


def modules(source: Mapping[str, bytes], folder: str, flow: Mapping[str, bytes]) -> dict[str, str]:
    """Modules and packages by name, with the way to each from the flow folder, as `additional_includes` takes it: the nearest one where
    several have a name, and none that `flow`, the folder with its includes, has itself."""
    own = {name.split("/", 1)[0].removesuffix(".py") for name in flow}
    found: dict[str, str] = {}
    scripts = itertools.islice((name for name in source if name.endswith(".py")), MOST_LOOKED_AT)
    places = {place for name in scripts for place in _places(name)}
    for path in sorted(places, key=lambda path: (path.count("/"), path)):
        name = posixpath.basename(path).removesuffix(".py")
        if name in own or name in found or not name.isidentifier() or name.startswith("__"):
            continue
        if folder in (".", path) or path.startswith(f"{folder}/") or folder.startswith(f"{path}/"):
            continue  # in the flow folder, or around it
        found[name] = posixpath.relpath(path, folder)
        if len(found) == OUTSIDE_MODULES:
            break
    return found


def _places(name: str) -> list[str]:
    """The file itself and the folders that it lies in, as modules: whichever of them the code names first."""
    parts = name.split("/")[: DEEPEST + 1]
    return ["/".join(parts[:length]) for length in range(1, len(parts) + 1)]
