"""Ending what an executed command's client left: Kubernetes doesn't tell a command that `kubectl exec` is gone.

A client that can say so itself gives its command the variable CALL, and runs `flow hang-up` when it is ended. The terminal's processes
get what they would get if it closed.
"""

from __future__ import annotations

import contextlib
import os
import signal

from flowsession_protocol.variables import CALL


def hang_up(call: str, number: int, *, proc: str = "/proc") -> int:
    """Signal the command with that CALL: its process group, and that in the foreground of its terminal. What it has put into sessions
    of their own (`setsid`, `nohup ... &`) is left to it. Returns how many process groups there were."""
    mark = f"{CALL}={call}".encode()
    groups = {group for name in os.listdir(proc) if name.isdigit() for group in _groups(f"{proc}/{name}", mark)}
    for group in groups:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, number)
            os.killpg(group, signal.SIGCONT)  # a stopped one hears it as well
    return len(groups)


def _groups(process: str, mark: bytes) -> set[int]:
    """Its process group and that in the foreground of its terminal, if it came from outside with that mark (proc(5))."""
    try:
        with open(f"{process}/environ", "rb") as file:
            if mark not in file.read().split(b"\0"):
                return set()
        with open(f"{process}/stat", "rb") as file:
            _, parent, group, _, _, foreground = file.read().rpartition(b")")[2].split()[:6]
    except (OSError, ValueError):  # another user's, or ended while we looked
        return set()
    return {int(group), int(foreground)} - {-1, 0} if int(parent) == 0 else set()
