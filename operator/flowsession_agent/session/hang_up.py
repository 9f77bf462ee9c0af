"""End what an executed command's client left behind: Kubernetes doesn't notify a command when its `kubectl exec` exits.

A client that can do so itself sets the variable CALL for its command, and runs `flow hang-up` when it is ended. The terminal's processes
get the signals that they would get if it closed.
"""

from __future__ import annotations

import contextlib
import os
import signal

from flowsession_protocol.variables import CALL


def hang_up(call: str, number: int, *, proc: str = "/proc") -> int:
    """Signal the command with that CALL: its process group, and the foreground group of its terminal. Return the number of groups.

    Processes that it has detached (`setsid`, `nohup ... &`) are left alone.
    """
    mark = f"{CALL}={call}".encode()
    groups = {group for name in os.listdir(proc) if name.isdigit() for group in _groups(f"{proc}/{name}", mark)}
    for group in groups:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, number)
            os.killpg(group, signal.SIGCONT)  # so that a stopped group handles the signal too
    return len(groups)


def _groups(process: str, mark: bytes) -> set[int]:
    """Return its process group and its terminal's foreground group if it came from outside with that mark (proc(5)), else nothing."""
    try:
        with open(f"{process}/environ", "rb") as file:
            if mark not in file.read().split(b"\0"):
                return set()
        with open(f"{process}/stat", "rb") as file:
            _, parent, group, _, _, foreground = file.read().rpartition(b")")[2].split()[:6]
    except (OSError, ValueError):  # another user's, or ended while we looked
        return set()
    return {int(group), int(foreground)} - {-1, 0} if int(parent) == 0 else set()
