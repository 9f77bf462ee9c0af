"""What the kernel says of this container's memory."""

from __future__ import annotations

COUNTERS = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")
"""cgroup v2 and v1; both have a line `oom_kill N`."""


def killed_for_memory() -> int:
    """How many processes of this container the kernel has killed for memory so far; 0 where it doesn't say."""
    for path in COUNTERS:
        try:
            with open(path, encoding="ascii") as file:
                for line in file:
                    name, _, count = line.partition(" ")
                    if name == "oom_kill":
                        return int(count)
        except (OSError, ValueError):
            continue
    return 0
