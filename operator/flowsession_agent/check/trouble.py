"""What an exception at the import of a tool means for its author: where, what, and the way out."""

from __future__ import annotations

import os
import traceback

from flowsession_agent.check.distributions import missing


class Trouble:
    """A problem's code, sentence and place."""

    def __init__(self, code: str, message: str, file: str, line: int | None) -> None:
        self.code = code
        self.message = message
        self.file = file
        self.line = line


def describe(error: BaseException, *, folder: str, default: str) -> Trouble:
    """`default` is the file that was imported; the innermost line of the flow's own files is blamed."""
    file, line = default, None
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename.startswith(folder + os.sep):
            file, line = os.path.relpath(frame.filename, folder), frame.lineno
    words = str(error).replace(f"{folder}/", "")
    if isinstance(error, ModuleNotFoundError) and error.name:
        return Trouble("ModuleMissing", missing(error.name), file, line)
    if isinstance(error, SyntaxError) and error.filename and error.filename.startswith(folder + os.sep):
        return Trouble("SyntaxError", f"not Python: {error.msg}", os.path.relpath(error.filename, folder), error.lineno)
    if isinstance(error, MemoryError):
        return Trouble("MemoryShort", "its import needs more memory than is free beside the session's work", file, line)
    if isinstance(error, OSError) and _outside(error, folder):
        return Trouble("OutsideMissing", f"its import asks for {error.filename}: {error.strerror}", file, line)
    if isinstance(error, SystemExit):
        return Trouble("ImportFailed", f"its import ends the program by SystemExit({error.code!r}): do that in a function", file, line)
    return Trouble("ImportFailed", f"its import fails: {type(error).__name__}: {words}", file, line)


def _outside(error: OSError, folder: str) -> bool:
    """Whether a file outside of the flow folder was asked for by a relative path: in the copy it is somewhere else."""
    name = error.filename
    if not isinstance(name, str):
        return False
    path = os.path.normpath(os.path.join(folder, name))
    return ".." in name.split(os.sep) and not path.startswith(folder + os.sep)
