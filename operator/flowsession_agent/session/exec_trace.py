"""Detect that a container runtime executes a command in this container, by the trace it leaves: it touches the container's cgroup.

Before the command starts, runc and crun read whether the container is frozen (cgroup v2). Those that don't let the kernel place the command
write its PID into `cgroup.procs`. inotify sees both from inside, although done outside (tried with runc 1.1.5 and 1.5.3).
"""

from __future__ import annotations

import contextlib
import time

from flowsession_agent.session import inotify

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from flowsession_agent.session.inotify import Inotify

CGROUP = "/sys/fs/cgroup"
WRITTEN = inotify.MODIFY | inotify.CLOSE_WRITE
FILES = {
    "cgroup.freeze": inotify.OPEN,
    "cgroup.procs": WRITTEN,
    "pids/cgroup.procs": WRITTEN,
    "memory/cgroup.procs": WRITTEN,
    "systemd/cgroup.procs": WRITTEN,
}
"""Files of cgroup v2 and of hierarchies of v1. The node's own monitoring doesn't open the first, nor the others for writing."""
RECENT_SECONDS = 3
"""Seconds after the trace within which the command starts, even on a busy node."""


class ExecTrace:
    """`proven` once a command has left a trace. From then on, no trace means no command. Until then, no trace means nothing."""

    def __init__(self, notices: Inotify | None, *, root: str = CGROUP, clock: Callable[[], float] = time.monotonic) -> None:
        self._notices = notices
        self._clock = clock
        self._seen_at = float("-inf")
        self.proven = False
        for name, mask in FILES.items():
            with contextlib.suppress(OSError):
                if notices is not None:
                    notices.watch(f"{root}/{name}", mask, self._take)

    def recent(self) -> bool:
        """Return whether a runtime has touched the cgroup within the last RECENT_SECONDS."""
        if self._notices is None:
            return False
        self._notices.pump()
        return self._clock() - self._seen_at <= RECENT_SECONDS

    def _take(self, mask: int, _: str) -> None:
        if mask & ~inotify.IGNORED:
            self._seen_at = self._clock()
