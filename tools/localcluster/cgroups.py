"""The nodes' cgroups, one per node in every hierarchy, and their processes."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from localcluster import wait

_MOUNT = Path("/sys/fs/cgroup")
_CPUSET_FILES = ("cpuset.cpus", "cpuset.mems")


def hierarchies() -> list[Path]:
    """Return the mount points: one per controller with cgroup v1 (plus the unified one, if mounted), just one with v2."""
    if is_v2():
        return [_MOUNT]
    found: dict[Path, None] = {}
    for line in Path("/proc/mounts").read_text().splitlines():
        _, point, kind, *_ = line.split()
        if kind in ("cgroup", "cgroup2"):
            found[Path(point).resolve()] = None
    return list(found)


def is_v2() -> bool:
    """Return whether the machine has the unified hierarchy only."""
    return (_MOUNT / "cgroup.controllers").exists()


def has_memory() -> bool:
    """Return whether memory limits can be enforced at all."""
    if is_v2():
        return "memory" in (_MOUNT / "cgroup.controllers").read_text().split()
    return (_MOUNT / "memory" / "memory.limit_in_bytes").exists()


def ensure(name: str) -> None:
    """Create the group (`/name`) in every hierarchy. The kubelet expects its root to exist."""
    for hierarchy in hierarchies():
        group = hierarchy / name.lstrip("/")
        group.mkdir(exist_ok=True)
        if is_v2():
            _delegate(hierarchy)
        # With v1 a new cpuset has no processor until it is given some.
        for file in _CPUSET_FILES:
            if not is_v2() and (hierarchy / file).exists() and not (group / file).read_text().strip():
                (group / file).write_text((hierarchy / file).read_text())


def _delegate(root: Path) -> None:
    """Give the group's children every controller of the machine (cgroup v2)."""
    for controller in (root / "cgroup.controllers").read_text().split():
        # One at a time, because a controller that the kernel refuses would fail the others too. The kubelet reports what it lacks.
        with contextlib.suppress(OSError):
            (root / "cgroup.subtree_control").write_text(f"+{controller}")


def members(name: str) -> set[int]:
    """Return the process ids in the group and below it."""
    found: set[int] = set()
    for group in _groups(name):
        try:
            found.update(int(pid) for pid in (group / "cgroup.procs").read_text().split())
        except OSError:
            continue
    return found - {0}


def kill(name: str, *, seconds: float = 20) -> bool:
    """Kill every process in the group, and return whether all are gone."""

    def gone() -> bool:
        alive = members(name)
        for pid in alive:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        return not alive

    return wait.until(gone, seconds=seconds)


def remove(name: str) -> bool:
    """Remove the empty group in every hierarchy, and return whether nothing is left of it."""
    for group in _groups(name):
        try:
            group.rmdir()
        except OSError:
            continue
    return not any(True for _ in _groups(name))


def _groups(name: str) -> Iterator[Path]:
    """Yield the group and all groups below it in every hierarchy, deepest first."""
    for hierarchy in hierarchies():
        for folder, _, _ in os.walk(hierarchy / name.lstrip("/"), topdown=False):
            yield Path(folder)
