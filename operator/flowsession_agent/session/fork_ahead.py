"""Runs in the session's Python, not in the agent's: forks the process ahead that prompt flow's batch engine is going to spawn.

The engine spawns one process, for a clean start, and forks those that run lines from it. What a spawned one does first is to import prompt
flow, 1.5 s of processor, as this process just did. One that was forked right after that import and before any of the flow's code is as
clean, has the import behind it, and shares its memory.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import os
import sys
import threading
from importlib import machinery
from multiprocessing import context, popen_spawn_posix, reduction, spawn, util

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from typing_extensions import Never


def offer() -> None:
    """Fork it; the next process that is spawned here is this one, if it would be given the same environment variables.

    It has imported more than one that was spawned. Where the flow has a module of its own by such a name, it is not used either.
    Does nothing where threads run that a fork would miss; those that prompt flow's import starts, for its telemetry, are daemons.
    """
    if not all(thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()):
        return
    read, write = os.pipe()
    ended, open_while_running = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(write)
        os.close(ended)
        _become(read)
    os.close(read)
    os.close(open_while_running)
    environ, modules, spawned = dict(os.environ), {name.partition(".")[0] for name in sys.modules}, context.SpawnProcess._Popen

    def take_over(process: Any) -> Any:
        context.SpawnProcess._Popen = spawned  # type: ignore[method-assign]
        if os.environ == environ and modules.isdisjoint(own_modules()):
            return _Popen(process, pid, write, ended)
        os.close(write)  # it ends
        os.close(ended)
        return spawned(process)

    context.SpawnProcess._Popen = staticmethod(take_over)  # type: ignore[method-assign,assignment]


def own_modules() -> set[str]:
    """Return the names by which modules and packages of the working directory can be imported; data may be called like a module."""
    suffixes = tuple(machinery.all_suffixes())
    return {name.partition(".")[0] for name in os.listdir() if name.endswith(suffixes) or os.path.isdir(name)}


class _Popen(popen_spawn_posix.Popen):
    """What multiprocessing knows of a process that it spawned, of one that was forked ahead."""

    def __init__(self, process: Any, pid: int, write: int, ended: int) -> None:
        self._ahead = pid, write, ended
        super().__init__(process)

    def _launch(self, process_obj: Any) -> None:
        pid, write, ended = self._ahead
        pickled = io.BytesIO()
        context.set_spawning_popen(self)
        try:
            reduction.dump(spawn.get_preparation_data(process_obj._name), pickled)
            reduction.dump(process_obj, pickled)
        finally:
            context.set_spawning_popen(None)
        with open(write, "wb") as order:
            if self._fds:  # type: ignore[attr-defined,unused-ignore]  # descriptors that were not open when it was forked
                os.close(ended)
                super()._launch(process_obj)  # type: ignore[misc,unused-ignore]
                return
            order.write(pickled.getbuffer())
        self.pid, self.sentinel = pid, ended
        self.finalizer = util.Finalize(self, util.close_fds, (ended,))  # type: ignore[attr-defined,unused-ignore]


def _become(read: int) -> Never:
    """Wait for the order to be a process, and be it, as one that was spawned; end where none comes."""
    code = 1
    try:
        code = spawn._main(read, os.dup(read))
        with contextlib.suppress(AttributeError):
            atexit._run_exitfuncs()
    except EOFError:
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
