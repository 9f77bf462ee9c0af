"""Runs in the session's Python, not in the agent's: forks, ahead of time, the process that prompt flow's batch engine is going to spawn.

The engine spawns one process, for a clean start, and forks the processes that run lines from it. A spawned process first imports prompt
flow, 1.5 s of CPU time, as this process just did. A process forked right after that import, before any of the flow's code, is equally
clean, has the import done, and shares its memory.
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


def fork_for_next_spawn() -> None:
    """Fork the process. The next spawn here takes it, if a spawned process would get the same environment variables.

    It has imported more modules than a spawned process. If the flow has its own module by one of these names, it is not taken either.
    Does nothing if threads run that a fork would lose. Those that prompt flow's import starts, for its telemetry, are daemons.
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
        os.close(write)  # so that it ends
        os.close(ended)
        return spawned(process)

    context.SpawnProcess._Popen = staticmethod(take_over)  # type: ignore[method-assign,assignment]


def own_modules() -> set[str]:
    """Return the names of modules and packages in the working directory. Other files don't count: data may be named like a module."""
    suffixes = tuple(machinery.all_suffixes())
    return {name.partition(".")[0] for name in os.listdir() if name.endswith(suffixes) or os.path.isdir(name)}


class _Popen(popen_spawn_posix.Popen):
    """multiprocessing's handle of a spawned process, for one that was forked ahead."""

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
    """Wait for the order of a process and run it as a spawned process would. Exit if the pipe closes without an order."""
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
