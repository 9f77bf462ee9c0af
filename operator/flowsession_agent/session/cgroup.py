"""Read the memory and CPU figures of this container's cgroup."""

from __future__ import annotations

import os

COUNTERS = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")
"""Files of cgroup v2 and v1. Both have a line `oom_kill N`."""


def killed_for_memory() -> int:
    """Return how many processes of this container the kernel has killed for memory so far; 0 if unknown."""
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


def free_memory() -> int | None:
    """Return the bytes left below this container's limit, counting reclaimable file cache as free; None without a known limit."""
    folder = "/sys/fs/cgroup"
    try:
        limit = _first(f"{folder}/memory.max")
        if limit == "max":
            return None
        return int(limit) - int(_first(f"{folder}/memory.current")) + _statistic(f"{folder}/memory.stat", "inactive_file")
    except (OSError, ValueError):
        pass
    try:  # cgroup v1
        folder = f"{folder}/memory"
        bytes_limit = int(_first(f"{folder}/memory.limit_in_bytes"))
        if bytes_limit >= 2**60:
            return None
        return bytes_limit - int(_first(f"{folder}/memory.usage_in_bytes")) + _statistic(f"{folder}/memory.stat", "total_inactive_file")
    except (OSError, ValueError):
        return None


def processors() -> int:
    """Return how many processors this container may keep busy, at least one."""
    try:
        quota, period = _first("/sys/fs/cgroup/cpu.max").split()
    except (OSError, ValueError):
        try:  # cgroup v1
            quota, period = (_first(f"/sys/fs/cgroup/cpu/cpu.cfs_{name}_us") for name in ("quota", "period"))
        except OSError:
            quota, period = "max", "1"
    there = len(os.sched_getaffinity(0))
    if not quota.isdigit() or not period.isdigit():  # "max", or -1 in v1
        return there
    return max(1, min(there, -(-int(quota) // int(period))))


def _first(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.readline().strip()


def _statistic(path: str, wanted: str) -> int:
    with open(path, encoding="ascii") as file:
        for line in file:
            name, _, count = line.partition(" ")
            if name == wanted:
                return int(count)
    return 0
