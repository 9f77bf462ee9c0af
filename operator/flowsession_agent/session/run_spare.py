"""Runs in the session's Python before `run_flow` or `run_batch` does: imports prompt flow, and waits until the agent needs one of them.

`run_spare SOCKET BEGAN`: the number of an inherited socket, and the process's start time in nanoseconds. It sends `ready` after the import.
The agent's order is one line of JSON: the module, its arguments, and its working directory. If a process started now would import the
same, this one answers `fresh`, waits for the agent's `go`, and runs the module. Otherwise it exits, and the agent starts a new process.
"""

from __future__ import annotations

import contextlib
import gc
import glob
import importlib
import json
import os
import signal
import site
import socket
import sys

from flowsession_agent.scripts import SOURCES
from flowsession_agent.session import space

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any, Iterable

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

READY, FRESH, GO = b"ready\n", b"fresh\n", b"go\n"
CLOCK_NS = 20_000_000
"""Nanoseconds by which the time of a file may lag behind the clock: the kernel's tick."""


def main() -> ModuleType:
    """Return the module that the agent orders. Exits if it needs none or another process must run it, and on SIGINT and SIGTERM."""
    inherited, began = map(int, sys.argv[1:])
    agent = socket.socket(fileno=inherited)
    agent.set_inheritable(False)  # importing prompt flow runs `uname`
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    added = _load()
    sources = _sources()
    stamps = _stamps(sources)
    if any(max(stamp[:2], default=0) >= began - CLOCK_NS for stamp in stamps.values()):
        os._exit(0)  # changed during the import: before it was read, or after?
    agent.sendall(READY)
    line = _line(agent)
    order: dict[str, Any] = json.loads(line or "{}")
    if not line or _stamps(sources) != stamps or _hidden(added, order["cwd"]) or space.full(OSError()):
        os._exit(0)
    agent.sendall(FRESH)
    if _line(agent) != GO:
        os._exit(0)
    agent.close()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(order["cwd"])
    sys.argv[1:] = order["arguments"]
    return _module(order["module"])


def _load() -> set[str]:
    """Import prompt flow and what its tests import. Return the names of the modules and packages that only the latter added.

    Raises whatever prompt flow's import raises: a process started for the test will report it.
    """
    gc.disable()  # run_flow enables it again
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
        return importlib.import_module(f"flowsession_agent.session.{name}")
    finally:
        sys.path.remove(SOURCES)


def _hidden(added: set[str], folder: str) -> bool:
    """Return whether the flow has its own module by one of these names, which a new process would import instead."""
    return not added.isdisjoint(name.partition(".")[0] for name in os.listdir(folder))


def _sources() -> list[str]:
    """Return the paths that a process started now would read to import prompt flow, if this user could have changed them since."""
    folders = [path for path in (*sys.path, site.getusersitepackages()) if path]
    modules = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    paths = [path for path in (*folders, *modules) if isinstance(path, str)]
    paths += [path for folder in folders for path in glob.glob(os.path.join(glob.escape(folder), "*.pth"))]
    return [path for path in dict.fromkeys(paths) if _changeable(path)] + _configurations()


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


def _line(agent: socket.socket) -> bytes:
    """Return the next line from the agent; empty if it has closed the socket."""
    received = b""
    while not received.endswith(b"\n"):
        data = agent.recv(65536)
        if not data:
            return b""
        received += data
    return received
