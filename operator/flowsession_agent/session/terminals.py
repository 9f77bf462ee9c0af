"""Whether somebody may still be using a command that `kubectl exec` started.

When the client goes away, the kubelet and containerd leave the command running, and nothing inside the pod shows it: the terminal doesn't
hang up, the pipes stay open. But both cut a stream that carried no data for four hours. So nobody uses a command that did nothing at all
for longer than that. Until then it counts as used, because a person thinking at a prompt looks the same.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterable

    Signs = dict[str, int]

CUT_SECONDS = 4 * 3600
"""Default of the kubelet's `streamingConnectionIdleTimeout` and containerd's `stream_idle_timeout`."""

LOOK_SECONDS = 30
SWITCHES = (b"voluntary_ctxt_switches:", b"nonvoluntary_ctxt_switches:")


class Terminal:
    """One executed command with everything it started: when any of it last ran, by the caller's clock."""

    def __init__(self, *, now: float) -> None:
        self._signs: Signs = {}
        self._looked_at = now - LOOK_SECONDS
        self._ran_at = now

    def attended(self, proc: str, pids: Iterable[int], *, now: float) -> bool:
        """Return whether any of the processes ran within the last four hours. Looks twice a minute: there may be hundreds of threads."""
        if now - self._looked_at >= LOOK_SECONDS:
            self._looked_at = now
            signs = read_signs(proc, pids)
            if signs != self._signs:
                self._signs, self._ran_at = signs, now
        return now - self._ran_at <= CUT_SECONDS


def read_signs(proc: str, pids: Iterable[int]) -> Signs:
    """Return how often each thread left a CPU, by its folder (proc_pid_status(5)). It stays the same while all of them sleep."""
    signs = {}
    for pid in pids:
        try:
            threads = os.listdir(f"{proc}/{pid}/task")
        except OSError:
            continue
        for thread in threads:
            folder = f"{proc}/{pid}/task/{thread}"
            try:
                with open(f"{folder}/status", "rb") as file:
                    signs[folder] = sum(int(line.split()[1]) for line in file if line.startswith(SWITCHES))
            except (OSError, ValueError, IndexError):  # ended while we looked
                continue
    return signs
