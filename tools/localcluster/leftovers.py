"""What nodes leave on a machine: container processes, shims, mounts. Found by traits that only our own have."""

import os
import shutil
import signal
from pathlib import Path

from localcluster import binaries, cgroups, layout, mounts, nodes, paths, procfs, wait
from localcluster.say import CannotContinue

_SHIM = "containerd-shim-runc-v2"


def end_containers() -> None:
    """Kill every process of our pods, and the shims above them. The kubelets must be down, or they start new ones."""
    for node in layout.NODES:
        if not cgroups.kill(node.cgroup):
            raise CannotContinue(
                f"processes in the cgroup {node.cgroup} don't end: {sorted(cgroups.members(node.cgroup))}; they hang in the kernel, reboot."
            )
    wait.until(lambda: not _kill_shims(), seconds=20)


def end_strays() -> None:
    """Kill our programs that have no pid file, e.g. because somebody deleted our folder. Their command lines name the folder."""
    programs = {program for module in binaries.ALL for program in module.programs}

    def gone() -> bool:
        strays = [pid for pid in procfs.processes() if _is_stray(procfs.command_line(pid), programs)]
        for pid in strays:
            os.kill(pid, signal.SIGKILL)
        return not strays

    wait.until(gone, seconds=20)


def _is_stray(words: list[str], programs: set[str]) -> bool:
    return bool(words) and Path(words[0]).name in programs and any(f"{paths.RUN}/" in word for word in words[1:])


def _kill_shims() -> list[int]:
    """Kill our shims. A shim's command line names its containerd's socket, and ours are in our folder."""
    sockets = {str(nodes.socket(node)) for node in layout.NODES}
    ours = []
    for pid in procfs.processes():
        words = procfs.command_line(pid)
        if words and Path(words[0]).name == _SHIM and sockets.intersection(words) and procfs.start_time(pid) is not None:
            ours.append(pid)
            os.kill(pid, signal.SIGKILL)
    return ours


def remove_cgroups() -> None:
    """Remove the nodes' groups. The kernel releases a group a moment after its last process."""
    for node in layout.NODES:
        if not wait.until(lambda group=node.cgroup: cgroups.remove(group), seconds=10):  # type: ignore[misc]
            raise CannotContinue(
                f"the cgroup {node.cgroup} can't be removed; something still runs in it: {sorted(cgroups.members(node.cgroup))}."
            )


def unmount() -> None:
    """Unmount everything below our folder: container roots, pod volumes, network namespaces. Also what a killed image build left."""
    mounts.unmount_below(paths.RUN)
    store = str(paths.cache("containers"))
    if not any(any(store in word for word in procfs.command_line(pid)) for pid in procfs.processes()):
        mounts.unmount_below(paths.cache("containers"))


def remove_log_links() -> None:
    """Remove the links to our logs that kubelets create in a fixed place."""
    links = Path("/var/log/containers")
    for link in links.glob("*.log") if links.is_dir() else ():
        if link.is_symlink() and str(link.readlink()).startswith(f"{paths.RUN}/"):
            link.unlink()


def remove_data() -> None:
    """Remove our folder. Raises CannotContinue if something is still mounted in it, rather than delete that."""
    if mounts.below(paths.RUN):
        raise CannotContinue(
            f"{mounts.below(paths.RUN)[-1]} can't be unmounted, so its data stays; see who uses it (`fuser -vm`) and run this again."
        )
    if paths.RUN.exists():
        shutil.rmtree(paths.RUN)
