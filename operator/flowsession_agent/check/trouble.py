"""Explains an exception on a tool's import to the tool's author: where, what, and the way out."""

from __future__ import annotations

import os
import re
import traceback

from flowsession_agent.check.advice import missing, not_in
from flowsession_agent.session import space

RELATIVE = "RelativeImport"


def relative(written: str) -> str:
    """Return the sentence about `from .helper import f` in a file that prompt flow loads by itself."""
    first, _, rest = written.partition(" ")
    module, _, names = rest.partition(" import ")
    name = module.lstrip(".")
    plain = f"{first} {name} import {names}" if name else f"import {names}"
    return (
        f"`{written}`: relative imports do not work here, since prompt flow loads this file by itself and not in a package: write `{plain}`"
    )


class Trouble:
    """A problem's code, message and place."""

    def __init__(self, code: str, message: str, file: str, line: int | None) -> None:
        self.code = code
        self.message = message
        self.file = file
        self.line = line


def describe(error: BaseException, *, folder: str, default: str) -> Trouble:
    """Explain the error, placed at the innermost line of the flow's own files, or else in `default`, the file that was imported."""
    file, line = default, None
    frames = traceback.extract_tb(error.__traceback__)
    for frame in frames:
        if frame.filename.startswith(folder + os.sep):
            file, line = os.path.relpath(frame.filename, folder), frame.lineno
    words = str(error).replace(f"{folder}/", "")
    if isinstance(error, SyntaxError) and error.filename and error.filename.startswith(folder + os.sep):
        return Trouble("SyntaxError", f"not Python: {error.msg}", os.path.relpath(error.filename, folder), error.lineno)
    statement = frames[-1].line if frames else None
    code, message = _imported(error, words, folder, statement) if isinstance(error, ImportError) else _else(error, words, folder)
    return Trouble(code, message, file, line)


def _imported(error: ImportError, words: str, folder: str, statement: str | None) -> tuple[str, str]:
    if isinstance(error, ModuleNotFoundError) and error.name:
        # For `import azure.search.documents` the error may name only azure.search.
        whole = re.search(rf"\b{re.escape(error.name)}(?:\.\w+)*", statement or "")
        return "ModuleMissing", missing(whole.group() if whole else error.name, folder)
    if "attempted relative import" in words:
        message = "relative imports do not work here, since prompt flow loads this file by itself: name the module without the dot"
        return RELATIVE, message
    if error.path and not error.path.startswith(folder + os.sep):
        return "ImportFailed", f"its import fails: {type(error).__name__}: {words}{not_in(error.path)}"
    return "ImportFailed", f"its import fails: {type(error).__name__}: {words}"


def _else(error: BaseException, words: str, folder: str) -> tuple[str, str]:
    if isinstance(error, MemoryError):
        return "MemoryShort", "its import needs more memory than is free beside the session's work"
    if space.is_short(error):
        return "NoSpace", f"its import needs space, and none is left in {space.full(error) or 'the session'}"
    if isinstance(error, OSError) and _outside(error, folder):
        return "OutsideMissing", f"its import asks for {error.filename}: {error.strerror}"
    if isinstance(error, SystemExit):
        return "ImportFailed", f"its import ends the program by SystemExit({error.code!r}): do that in a function"
    return "ImportFailed", f"its import fails: {type(error).__name__}: {words}"


def _outside(error: OSError, folder: str) -> bool:
    """Return whether the error is about a relative path out of the flow folder, which leads elsewhere from the copy."""
    name = error.filename
    if not isinstance(name, str):
        return False
    path = os.path.normpath(os.path.join(folder, name))
    return ".." in name.split(os.sep) and not path.startswith(folder + os.sep)
