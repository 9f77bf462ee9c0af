"""What a machine must have before anything is built or started on it."""

import os
import sys
from pathlib import Path

from localcluster import binaries, cgroups
from localcluster.say import CannotContinue
from localcluster.shell import succeeds


def check() -> None:
    """Raise CannotContinue with one sentence on the first missing prerequisite. Takes milliseconds and changes nothing."""
    check_user()
    if not _has_overlayfs():
        raise CannotContinue("this kernel has no overlayfs, on which containers live, and `modprobe overlay` failed; use another kernel.")
    if not cgroups.has_memory():
        raise CannotContinue("this kernel has no memory cgroup, so pods could not be limited; boot it with cgroup_enable=memory.")
    if binaries.unbuilt(*binaries.ALL):
        binaries.check_go()


def check_user() -> None:
    """Raise CannotContinue unless this is root on Linux."""
    if sys.platform != "linux":
        raise CannotContinue("the local cluster needs Linux; on this system use Docker, with which `make demo` runs in kind.")
    if os.geteuid() != 0:
        raise CannotContinue("the local cluster needs root, for namespaces, mounts and cgroups; run this again with sudo.")


def _has_overlayfs() -> bool:
    def known() -> bool:
        return any(line.split()[-1] == "overlay" for line in Path("/proc/filesystems").read_text().splitlines())

    return known() or (succeeds("modprobe", "overlay") and known())
