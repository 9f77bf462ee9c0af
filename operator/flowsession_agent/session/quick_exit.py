"""Ends a process as Python would, but without tearing down prompt flow's 2,200 modules, which takes the time of a test.

Everything that a flow can notice still happens, in Python's order: threads are joined, `atexit` functions run, the flow's own modules and
objects are released, with their `__del__`, and files that are still open are flushed.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import io
import os
import sys
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterable

WRITERS = (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)


def leave(known: Iterable[str]) -> None:
    """Exit with code 0. Returns if this Python has no way to do so early. `known` names the modules imported before the flow."""
    finish_threads, run_at_exit = getattr(threading, "_shutdown", None), getattr(atexit, "_run_exitfuncs", None)
    if finish_threads is None or run_at_exit is None or sys.gettrace() is not None:
        return
    finish_threads()
    run_at_exit()
    _flush()  # first: a file that is collected with its module may lose its buffer
    for name in sys.modules.keys() - set(known):
        sys.modules.pop(name, None)
    gc.collect()
    _flush()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):  # Python's normal exit has a code for that
        return
    os._exit(0)


def _flush() -> None:
    for found in gc.get_objects():
        if issubclass(type(found), WRITERS):  # `isinstance` of a proxy may run the flow's code
            with contextlib.suppress(OSError, ValueError):  # closed
                found.flush()
