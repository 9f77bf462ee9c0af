"""Ends a process that has prompt flow imported as Python would, but for taking 2,200 modules apart, which costs as much as a test.

What a flow can notice of its end is all there, in Python's order: threads are waited for, what `atexit` has is run, the flow's own modules
and objects are let go, with their `__del__`, and what was written to files that are still open is in them.
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
    """End with exit code 0; returns where this Python has no way to do so early. What is `known` by name was imported before the flow."""
    finish_threads, run_at_exit = getattr(threading, "_shutdown", None), getattr(atexit, "_run_exitfuncs", None)
    if finish_threads is None or run_at_exit is None or sys.gettrace() is not None:
        return
    finish_threads()
    run_at_exit()
    _flush()  # before: a file that is collected with its module may lose what it holds
    for name in sys.modules.keys() - set(known):
        sys.modules.pop(name, None)
    gc.collect()
    _flush()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):  # Python has an exit code for that
        return
    os._exit(0)


def _flush() -> None:
    for found in gc.get_objects():
        if issubclass(type(found), WRITERS):  # a proxy's `isinstance` may run code of the flow
            with contextlib.suppress(OSError, ValueError):  # closed
                found.flush()
