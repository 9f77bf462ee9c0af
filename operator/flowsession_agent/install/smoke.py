"""Import a module; report the first error and the distribution that caused it. Runs in the session's Python, not in the agent's.

`smoke MODULE LAYER`: exits with 1 on failure, with the traceback on standard error and one JSON object on standard output: `error`, the
first exception of the chain, and `culprit`, the distribution in the folder LAYER that it points to, or empty.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import re
import sys
import traceback

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterator

CHAIN_LIMIT = 100
PLACE = re.compile(r" \((?:/[^()]*|unknown location)\)$")  # where Python found the module


def main() -> None:
    """Import the module."""
    module, layer = sys.argv[1:]
    gc.disable()  # imports leave no garbage, and looking for it would take a fifth of the time
    try:
        importlib.import_module(module)
    except BaseException as error:
        traceback.print_exc()
        first = root(error)
        text = PLACE.sub("", " ".join(str(first).split()))
        json.dump({"error": f"{type(first).__name__}: {text}", "culprit": culprit(first, layer)}, sys.stdout)
        sys.stdout.flush()
        os._exit(1)
    os._exit(0)  # threads that the import started must not delay the install


def root(error: BaseException) -> BaseException:
    """Return the first exception of the chain, which caused the others."""
    for _ in range(CHAIN_LIMIT):
        before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if before is None:
            break
        error = before
    return error


def culprit(error: BaseException, layer: str) -> str:
    """Return the layer's distribution that the error points to, by the module that it names or else by where it was raised."""
    owners = None
    for file in _files(error):
        if file.startswith(layer):
            owners = owners if owners is not None else _owners(layer)
            found = owners.get(os.path.realpath(file))
            if found:
                return found
    return ""


def _files(error: BaseException) -> Iterator[str]:
    if isinstance(error, ImportError):
        yield from filter(None, [error.path])
        parts = (error.name or "").split(".")
        for length in range(len(parts), 0, -1):
            yield from filter(None, [_file_of(".".join(parts[:length]))])
    yield from filter(None, [getattr(getattr(error, "obj", None), "__file__", None)])  # AttributeError has it from Python 3.10 on
    frames = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    yield from reversed(frames)


def _file_of(module: str) -> str | None:
    return getattr(sys.modules.get(module), "__file__", None)


def _owners(layer: str) -> dict[str, str]:
    from importlib.metadata import distributions

    return {
        os.path.realpath(str(distribution.locate_file(file))): distribution.metadata["Name"]
        for distribution in distributions()
        if str(distribution.locate_file("")).startswith(layer)
        for file in distribution.files or ()
    }
