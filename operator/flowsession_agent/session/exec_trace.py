"""What a container runtime leaves behind when it executes a command in this container: it touches the container's cgroup.

Before the command starts, runc and crun read whether the container is frozen (cgroup v2), and those that don't let the kernel do it write
the command's number into `cgroup.procs`. Both are seen from inside by inotify, although done outside (tried with runc 1.1.5 and 1.5.3).
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
"""cgroup v2, and hierarchies of v1; the nodes' own monitoring opens none of these for writing, nor the first."""
RECENT_SECONDS = 3
"""So long after the trace the command may start on a busy node."""


class ExecTrace:
    """`proven` once a command has come with a trace: from then on, no trace means no command. Until then a missing one means nothing."""

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
        """Return whether a runtime has touched the cgroup within the last seconds."""
        if self._notices is None:
            return False
        self._notices.pump()
        return self._clock() - self._seen_at <= RECENT_SECONDS

    def _take(self, mask: int, _: str) -> None:
        if mask & ~inotify.IGNORED:
            self._seen_at = self._clock()
