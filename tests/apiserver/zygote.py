"""Starts operators quickly: has all imported already, forks for each line on standard input, and runs flowsession's own main there.

Importing the operator's libraries takes 1.5 s of CPU, and these tests kill and start it dozens of times. Each line is a JSON object
with `argv`, `log`, and `constants` ("module:NAME" -> value, for pauses that no test can wait for); the answer is a pid.
"""

import ctypes
import importlib
import json
import os
import signal
import sys

import flowsession.__main__ as operator


def die_with_parent() -> None:
    """No process is left behind, however the tests end."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def main() -> None:
    """Until standard input ends."""
    die_with_parent()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _become(order)
            operator.main()
            sys.exit(0)
        print(pid, flush=True)


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
