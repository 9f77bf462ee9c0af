"""Starts operators quickly: imports everything once, forks for each line on standard input, and runs flowsession's own main there.

Importing the operator's libraries takes 1.5 s of CPU, and these tests kill and start it dozens of times. Each line is a JSON object
with `argv`, `log`, and `constants` ("module:NAME" -> value, for delays too long for a test). The response is a pid. The operators'
workers are forked too, on request of `forked_worker.py`, which an operator starts as its worker's command.
"""

import contextlib
import ctypes
import importlib
import json
import os
import select
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import flowsession.__main__ as operator
from flowsession.engine import resolutions, resolve_worker


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies, so that no process is left behind."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def main() -> None:
    """Fork operators and workers until standard input ends."""
    die_with_parent()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    name = f"flowsession-zygote-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as workers:
        workers.bind(f"\0{name}")
        workers.listen()
        stand_in = (sys.executable, "-IS", str(Path(__file__).with_name("forked_worker.py")), name)
        resolutions.WorkerResolutions.__init__.__kwdefaults__["command"] = stand_in
        orders = sys.stdin.buffer.raw  # type: ignore[attr-defined]
        while True:
            ready, _, _ = select.select([orders, workers], [], [])
            if workers in ready:
                _fork_worker(workers)
            if orders in ready:
                line = _line(orders)
                if not line:
                    return
                print(_fork_operator(json.loads(line), workers), flush=True)


def _line(orders: Any) -> bytes:
    """Return the next line. The tests write a line only after the response to the one before."""
    line = b""
    while not line.endswith(b"\n") and (piece := orders.read(65536)):
        line += piece
    return line


def _fork_operator(order: dict[str, Any], workers: socket.socket) -> int:
    pid = os.fork()
    if pid == 0:
        workers.close()
        _become(order)
        operator.main()
        sys.exit(0)
    return pid


def _fork_worker(workers: socket.socket) -> None:
    """Fork the worker, and a process that reports the worker's exit status to the caller."""
    caller, _ = workers.accept()
    _, streams, _, _ = socket.recv_fds(caller, 1, 3)
    if not os.fork():
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        pid = os.fork()
        if not pid:
            die_with_parent()
            caller.close()
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
                os.close(stream)
            # The worker takes their buffers and drops sys.stdout, which would close the descriptor that it writes to.
            kept = sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115
            resolve_worker.main()
            del kept
            os._exit(0)
        for stream in streams:
            os.close(stream)
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        with contextlib.suppress(OSError):  # its operator was killed
            caller.sendall(str(os.waitpid(pid, 0)[1]).encode())
        os._exit(0)
    caller.close()
    for stream in streams:
        os.close(stream)


def _become(order: dict) -> None:
    die_with_parent()
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.argv = ["flowsession-operator", *order["argv"]]
    for place, value in order["constants"].items():
        module, _, name = place.partition(":")
        found = importlib.import_module(module)
        assert hasattr(found, name), place
        setattr(found, name, value)


if __name__ == "__main__":
    main()
