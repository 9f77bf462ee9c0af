"""Runs in the session's Python: imports prompt flow, and forks a process for each test, run or check that the agent orders.

`run_forks SOCKET BEGAN`: the number of an inherited socket, and the process's start time in nanoseconds. It sends `ready` after the import.
An order is three descriptors, for standard output, standard error and the forked process's own socket, and one line of JSON: the module,
its arguments, working directory and environment variables. A forked process sends its PID and its parent's on its socket, waits for the
agent's `go`, answers `begun`, and runs the module. If a new process would not import the same, this one exits; if that concerns this order
alone, the answer is `refused`; if a fork can't be made here that is as a new process, it is `unfit`.

The forked process is as a new one would be: a child of the agent, in its own session, with its own mark. This one runs nothing of the
flow, so that no thread of the flow holds a lock at the fork. The only other threads are those of prompt flow's telemetry, which wait.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import glob
import importlib
import json
import os
import signal
import site
import socket
import sys
import tempfile
import threading
import time

from flowsession_agent.scripts import SOURCES
from flowsession_agent.session import space
from flowsession_agent.session.job import MARK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any, Callable, Iterable

    Stamps = dict[str, tuple[int, ...]]

LATE = (
    "_strptime",
    "flowsession_agent.check.yaml_file",
    "flowsession_agent.session.flow_inputs",
    "openai.resources.chat.completions.completions",
    "openai.resources.completions",
    "openai.resources.embeddings",
    "promptflow._sdk._version_hint_utils",
)
"""Modules that a test of any flow imports after `promptflow.client` and before the flow's own code, of packages imported by then."""

READY, REFUSED, UNFIT, GO, BEGUN = b"ready\n", b"refused\n", b"unfit\n", b"go\n", b"begun\n"
CLOCK_NS = 20_000_000
"""Nanoseconds by which the time of a file may lag behind the clock: the kernel's tick."""


def main() -> ModuleType:
    """Return the module that the agent orders, in a forked process. Exits if a new process must run it, and on SIGINT and SIGTERM.

    The exit code is 1 if forks of it will never do.
    """
    inherited, began = map(int, sys.argv[1:])
    agent = socket.socket(fileno=inherited)
    agent.set_inheritable(False)  # importing prompt flow runs `uname`
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    started_with = dict(os.environ)
    searched = _searched()
    found = _stamps(searched)
    added = _load()
    modules = _stamps(_modules())
    if _stamps(searched) != found or any(max(stamp[:2], default=0) >= began - CLOCK_NS for stamp in modules.values()):
        os._exit(0)  # changed during the import: before it was read, or after?
    stamps = {**found, **modules}
    locks = _locks()
    if locks is None or not all(thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()):
        os._exit(1)  # another version of prompt flow, of which no fork is as a new process
    gc.freeze()  # the forked processes share the memory, and their collections leave these objects alone
    agent.sendall(READY)
    while True:
        _, descriptors, _, _ = socket.recv_fds(agent, 1, 3)
        order: dict[str, Any] = json.loads(read_line(agent) or "{}")
        if not order or _stamps(stamps) != stamps:
            os._exit(0)
        if _hidden(added, order["cwd"]) or space.full(OSError()):
            os.write(descriptors[2], REFUSED)
        elif _fork():
            agent.close()
            return _begin(order, started_with, locks, *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _fork() -> bool:
    """Fork twice, so that the new process becomes the agent's child. Return True in it."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
        return False
    parent = os.getpid()
    if os.fork():
        os._exit(0)
    os.setsid()
    while os.getppid() == parent:
        time.sleep(0.001)
    return True


def _begin(
    order: dict[str, Any], started_with: dict[str, str], locks: list[Callable[[], None]], output: int, errors: int, control: int
) -> ModuleType:
    """Return the ordered module, after making this process one that was started for it. Exits unless the agent says `go`."""
    with socket.socket(fileno=control) as agent:
        try:
            for renew in locks:
                renew()
            _change_mark(order["environ"][MARK])
        except Exception as error:
            agent.sendall(REFUSED if isinstance(error, OSError) and space.is_short(error) else UNFIT)
            os._exit(0)
        os.dup2(output, 1)
        os.dup2(errors, 2)
        os.close(output)
        os.close(errors)
        _change_environ(started_with, order["environ"])
        tempfile.tempdir = None
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.chdir(order["cwd"])
        sys.argv[1:] = order["arguments"]
        agent.sendall(b"%d %d\n" % (os.getpid(), os.getppid()))
        if read_line(agent) != GO:
            os._exit(0)
        agent.sendall(BEGUN)
    return _module(order["module"])


def _change_environ(before: dict[str, str], after: dict[str, str]) -> None:
    """Change the environment variables from those at the start to those of the order. What the import has set stays."""
    for name in before.keys() - after.keys():
        os.environ.pop(name, None)
    for name, value in after.items():
        if before.get(name) != value:
            os.environ[name] = value


def _locks() -> list[Callable[[], None]] | None:
    """Return what makes each of prompt flow's locks between processes a new one, as the import in a new process would have made it.

    A fork would share those of multiprocessing with all others, and filelock refuses those that a fork has inherited. None is held now.
    Returns None if there is a kind that can't be made new.
    """
    from multiprocessing import get_context, synchronize

    base = getattr(sys.modules.get("filelock"), "BaseFileLock", ())
    found: list[Callable[[], None]] = []
    for lock in gc.get_objects():
        kind = type(lock)  # `isinstance` of a proxy may run code
        if issubclass(kind, base):
            found.append(functools.partial(kind.__init__, lock, lock.lock_file, timeout=lock.timeout))
        elif kind in (synchronize.Lock, synchronize.RLock):
            found.append(functools.partial(kind.__init__, lock, ctx=get_context()))
        elif issubclass(kind, synchronize.SemLock):
            return None
    return found


def _change_mark(mark: str) -> None:
    """Change the mark in the memory that /proc/PID/environ shows (proc(5)): a fork shares its parent's, and would be killed with it."""
    before, after = (f"{MARK}={value}".encode() for value in (os.environ[MARK], mark))
    with open("/proc/self/stat", "rb") as file:
        start, end = map(int, file.read().rpartition(b")")[2].split()[47:49])
    with open("/proc/self/mem", "r+b", buffering=0) as memory:
        memory.seek(start)
        memory.seek(start + memory.read(end - start).index(before))
        memory.write(after)


def _load() -> set[str]:
    """Import prompt flow and what its tests import. Return the names of the modules and packages that only the latter added.

    Raises whatever prompt flow's import raises: a process started for the test will report it.
    """
    gc.disable()  # run_flow and run_batch enable it again
    import promptflow.client  # type: ignore[import-not-found,unused-ignore] # noqa: F401

    before = {name.partition(".")[0] for name in sys.modules}
    for name in LATE:
        if name.partition(".")[0] in before | {name}:
            with contextlib.suppress(Exception):  # missing in another version: then a test doesn't import it either
                importlib.import_module(name)
    return {name.partition(".")[0] for name in sys.modules} - before


def _module(name: str) -> ModuleType:
    """Import one of the agent's modules when a new process would, so that no more of the standard library is loaded than there."""
    sys.path.insert(0, SOURCES)
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(SOURCES)


def _hidden(added: set[str], folder: str) -> bool:
    """Return whether the flow has its own module by one of these names, which a new process would import instead."""
    return not added.isdisjoint(name.partition(".")[0] for name in os.listdir(folder))


def _searched() -> list[str]:
    """Return the paths that an import looks at, and prompt flow's configuration, if this user could change them."""
    folders = [path for path in (*sys.path, site.getusersitepackages()) if path]
    paths = [*folders, *(path for folder in folders for path in glob.glob(os.path.join(glob.escape(folder), "*.pth")))]
    return [path for path in dict.fromkeys(paths) if _changeable(path)] + _configurations()


def _modules() -> list[str]:
    """Return the files of all imported modules, if this user could change them."""
    paths = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    return [path for path in dict.fromkeys(path for path in paths if isinstance(path, str)) if _changeable(path)]


def _changeable(path: str) -> bool:
    return os.access(path, os.W_OK) or os.access(os.path.dirname(path), os.W_OK) or not os.path.exists(path)


def _configurations() -> list[str]:
    """Return the files that prompt flow reads as configuration on import: in its home, the working directory and the folders above."""
    folder = os.path.realpath(os.getcwd())
    folders = [os.environ.get("PF_HOME_DIRECTORY", ""), folder]
    while os.path.dirname(folder) != folder:
        folder = os.path.dirname(folder)
        folders.append(folder)
    return [os.path.join(folder, "pf.yaml") for folder in folders]


def _stamps(paths: Iterable[str]) -> Stamps:
    """Return what changes when these files do: mtime, ctime, inode number and size; an empty tuple for a missing file."""
    found: Stamps = {}
    for path in paths:
        try:
            status = os.stat(path)
        except OSError:
            found[path] = ()
        else:
            found[path] = (status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_size)
    return found


def read_line(connection: socket.socket) -> bytes:
    """Return the next line, after which the other side waits; empty if it has closed the connection. Raises OSError."""
    received = b""
    while not received.endswith(b"\n"):
        data = connection.recv(65536)
        if not data:
            return b""
        received += data
    return received
