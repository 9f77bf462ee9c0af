"""Runs in the session's Python: has prompt flow imported, and forks for each test that the agent asks for over a socket.

`warm SOCKET FLOW`: the number of an inherited socket, and the flow's file. An order is a JSON object, with the descriptors for the test's
standard output and error; the answers are `{"ready"}`, `{"stale"}`, `{"pid"}` and `{"status"}`. One test at a time. The flow's own code
runs in forks only.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading

from flowsession_agent.session import run_flow

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterator

ORDER_LIMIT = 65536
SUBREAPER = 36
"""PR_SET_CHILD_SUBREAPER of linux/prctl.h."""
SAMPLE = {
    "flow.dag.yaml": """\
inputs:
  text: {type: string, default: a}
outputs:
  text: {type: string, reference: "${echo.output}"}
nodes:
- name: echo
  type: python
  source: {type: code, path: echo_tool.py}
  inputs: {text: "${inputs.text}"}
""",
    "echo_tool.py": "from promptflow.core import tool\n\n\n@tool\ndef echo(text: str) -> str:\n    return text\n",
}
"""A flow of one tool."""


def main() -> None:
    """Serve until the agent closes its end, or asks to end by SIGTERM or SIGINT."""
    agent = socket.socket(fileno=int(sys.argv[1]))
    _adopt_orphans()
    _load()
    with contextlib.suppress(Exception):  # whatever is wrong with the flow's file is for its tests to say
        _fill_caches(sys.argv[2])
    if threading.active_count() > 1:
        os._exit(1)  # a fork takes no thread along, but the locks that threads hold
    sources = _sources()
    stamps = _stamps(sources)
    gc.collect()
    gc.freeze()
    _say(agent, ready=True)
    while True:
        message, descriptors, _, _ = socket.recv_fds(agent, ORDER_LIMIT, 2)
        if not message:
            os._exit(0)
        if _stamps(sources) != stamps:
            _say(agent, stale=True)
            os._exit(0)
        _test(agent, json.loads(message), descriptors)


def _adopt_orphans() -> None:
    """Become the parent of whatever a test leaves running, so that it is found and killed."""
    import ctypes

    if ctypes.CDLL(None, use_errno=True).prctl(SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def _load() -> None:
    """Import prompt flow, without the daemon threads that it starts for its telemetry, which is off in a session.

    Other threads, those of pools for instance, end with the import.
    """
    gc.disable()
    with _no_daemon_threads():
        import promptflow.client  # type: ignore[import-not-found,unused-ignore] # noqa: F401

        run_flow.parse_once()
        for name in _imported_late():
            with contextlib.suppress(Exception):
                importlib.import_module(name)


def _fill_caches(flow: str) -> None:
    """Have in memory what every test of the flow looks up by content: parsed YAML, compiled patterns, where distributions lie."""
    import datetime
    from importlib import metadata

    from promptflow._utils import yaml_utils  # type: ignore[import-not-found,unused-ignore]

    datetime.datetime.strptime("2999-01-01 00:00:00.000000", "%Y-%m-%d %H:%M:%S.%f")  # noqa: DTZ007 - prompt flow's version check
    metadata.version("promptflow-devkit")
    for path in (flow, os.path.join(os.environ["PF_HOME_DIRECTORY"], "pf.yaml")):
        with open(path, encoding="utf-8") as file:
            content = yaml_utils.load_yaml_string(file.read())
        yaml_utils.load_yaml_string(yaml_utils.dump_yaml(content))  # a test writes the flow's file anew, with its variant chosen


@contextlib.contextmanager
def _no_daemon_threads() -> Iterator[None]:
    start = threading.Thread.start

    def start_unless_daemon(thread: threading.Thread) -> None:
        if thread.daemon:
            setattr(thread, "join", lambda timeout=None: timeout and None)  # noqa: B010 - prompt flow joins them when it exits
        else:
            start(thread)

    setattr(threading.Thread, "start", start_unless_daemon)  # noqa: B010
    try:
        yield
    finally:
        setattr(threading.Thread, "start", start)  # noqa: B010


def _imported_late() -> list[str]:
    """What prompt flow imports when it runs a flow of one tool, found out by a fork that does so; in the order of their import."""
    receiver, sender = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            before = set(sys.modules)
            folder = tempfile.mkdtemp()
            try:
                for name, text in SAMPLE.items():
                    with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                        file.write(text)
                os.chdir(folder)
                run_flow.run(os.path.join(folder, "flow.dag.yaml"), {})
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            names = [name for name, module in list(sys.modules.items()) if name not in before and not _is_in(module, folder)]
            os.write(sender, "\n".join(names).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(sender)
    with open(receiver, encoding="utf-8") as file:
        names = file.read().split()
    os.waitpid(pid, 0)
    return names


def _is_in(module: object, folder: str) -> bool:
    return str(getattr(module, "__file__", None) or "").startswith(folder)


def _sources() -> list[str]:
    """The files of the imported modules and the folders that modules come from, where this user could change them."""
    paths = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    found = dict.fromkeys(path for path in (*paths, *sys.path) if isinstance(path, str) and path)
    return [path for path in found if os.access(path, os.W_OK) or os.access(os.path.dirname(path), os.W_OK)]


def _stamps(paths: list[str]) -> list[tuple[int, int, int] | None]:
    """What changes when these files do."""
    found: list[tuple[int, int, int] | None] = []
    for path in paths:
        try:
            status = os.stat(path)
        except OSError:
            found.append(None)
        else:
            found.append((status.st_mtime_ns, status.st_size, status.st_ino))
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
