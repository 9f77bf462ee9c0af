"""Runs in the session's Python: has prompt flow imported, and forks for each test that the agent asks for over a socket.

`warm SOCKET`: the number of an inherited socket. An order is one JSON object with the descriptors for the test's standard output and error;
the answers are `{"ready"}`, `{"stale"}`, `{"pid"}` and `{"status"}`. One test at a time. Code of the flow runs in forks only.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sys
import threading

from flowsession_agent.session import run_flow

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Files = dict[str, tuple[int, int, int]]

ORDER_LIMIT = 65536
SUBREAPER = 36
"""PR_SET_CHILD_SUBREAPER of linux/prctl.h."""


def main() -> None:
    """Serve until the agent closes its end, or asks to end by SIGTERM or SIGINT."""
    agent = socket.socket(fileno=int(sys.argv[1]))
    _adopt_orphans()
    _load()
    if threading.active_count() > 1:
        os._exit(1)  # a fork takes no thread along, but the locks that threads hold
    files = _files()
    gc.collect()
    gc.freeze()
    _say(agent, ready=True)
    while True:
        message, descriptors, _, _ = socket.recv_fds(agent, ORDER_LIMIT, 2)
        if not message:
            os._exit(0)
        if _files() != files:
            _say(agent, stale=True)
            os._exit(0)
        _test(agent, json.loads(message), descriptors)


def _adopt_orphans() -> None:
    """Become the parent of whatever a test leaves running, so that it is found and killed."""
    import ctypes

    if ctypes.CDLL(None, use_errno=True).prctl(SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def _load() -> None:
    """Import prompt flow, without the threads that it starts for its telemetry, which is off in a session."""
    start = threading.Thread.start
    setattr(threading.Thread, "start", lambda _: None)  # noqa: B010
    gc.disable()
    try:
        import promptflow.client  # type: ignore[import-not-found,unused-ignore] # noqa: F401
    finally:
        setattr(threading.Thread, "start", start)  # noqa: B010


def _files() -> Files:
    """The files of the imported modules and the folders that modules come from, by what changes when they do."""
    paths = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    found = {}
    for path in (*paths, *sys.path):
        if isinstance(path, str):
            try:
                status = os.stat(path)
            except OSError:
                found[path] = (0, 0, 0)
            else:
                found[path] = (status.st_mtime_ns, status.st_size, status.st_ino)
    return found


def _test(agent: socket.socket, order: dict[str, Any], descriptors: list[int]) -> None:
    sys.stdout.flush()  # what is in the buffers would be printed by each child again
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        agent.close()
        _become(order, descriptors)
        _run()
    for descriptor in descriptors:
        os.close(descriptor)
    _say(agent, pid=pid)
    status = os.waitpid(pid, 0)[1]
    _end_orphans()
    _say(agent, status=status)


def _become(order: dict[str, Any], descriptors: list[int]) -> None:
    """Make this fork what a process started for the test would be."""
    os.setsid()
    for target, descriptor in enumerate(descriptors, 1):
        os.dup2(descriptor, target)
        os.close(descriptor)
    os.chdir(order["cwd"])
    sys.argv[1:] = order["arguments"]
    import importlib

    importlib.invalidate_caches()
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed()  # Python's own generator does so at each fork, numpy's doesn't
    gc.enable()


def _run() -> None:
    """Run the test and end as an interpreter ends, but for taking itself apart."""
    import atexit
    import traceback

    code = 1
    try:
        run_flow.main()
        code = 0
    except SystemExit as error:
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
        else:
            code = error.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            threading._shutdown()  # type: ignore[attr-defined]
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)


def _end_orphans() -> None:
    """Kill what the test has left running, until nothing is left."""
    while True:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                continue
        except ChildProcessError:
            return
        for pid in _children():
            os.kill(pid, signal.SIGKILL)
        os.waitpid(-1, 0)


def _children() -> list[int]:
    own, found = os.getpid(), []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == own:
            found.append(int(name))
    return found


def _say(agent: socket.socket, **members: Any) -> None:
    agent.sendall(json.dumps(members).encode() + b"\n")
