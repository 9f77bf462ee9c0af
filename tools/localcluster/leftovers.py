"""What nodes leave on a machine: container processes, shims, mounts. Found by marks only our own things carry."""

import os
import shutil
import signal
from pathlib import Path

from localcluster import binaries, cgroups, layout, mounts, nodes, paths, procfs, wait
from localcluster.say import CannotContinue

_SHIM = "containerd-shim-runc-v2"


def end_containers() -> None:
    """Ends every process of our pods and the shims above them. The kubelets must be down, or they start new ones."""
    for node in layout.NODES:
        if not cgroups.kill(node.cgroup):
            raise CannotContinue(
                f"processes in the cgroup {node.cgroup} don't end: {sorted(cgroups.members(node.cgroup))}; they hang in the kernel, reboot."
            )
    wait.until(lambda: not _kill_shims(), seconds=20)


def end_strays() -> None:
    """Ends our programs that no pid file speaks of, e.g. because somebody deleted our folder: it is named on their command lines."""
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
    """Shims say on their command line whose containerd they serve; the socket is in our folder, so they are ours."""
    sockets = {str(nodes.socket(node)) for node in layout.NODES}
    ours = []
    for pid in procfs.processes():
        words = procfs.command_line(pid)
        if words and Path(words[0]).name == _SHIM and sockets.intersection(words) and procfs.start_time(pid) is not None:
            ours.append(pid)
            os.kill(pid, signal.SIGKILL)
    return ours


def remove_cgroups() -> None:
    """Removes the nodes' groups; the kernel needs a moment after the last process before it lets go of them."""
    for node in layout.NODES:
        if not wait.until(lambda group=node.cgroup: cgroups.remove(group), seconds=10):  # type: ignore[misc]
            raise CannotContinue(
                f"the cgroup {node.cgroup} can't be removed; something still runs in it: {sorted(cgroups.members(node.cgroup))}."
            )


def unmount() -> None:
    """Unmounts everything below our folder: container roots, pod volumes, network namespaces; and what a killed image build left."""
    mounts.unmount_below(paths.RUN)
    store = str(paths.cache("containers"))
    if not any(any(store in word for word in procfs.command_line(pid)) for pid in procfs.processes()):
        mounts.unmount_below(paths.cache("containers"))


def remove_log_links() -> None:
    """Removes the links to our logs that kubelets make in a place they don't let anyone choose."""
    links = Path("/var/log/containers")
    for link in links.glob("*.log") if links.is_dir() else ():
        if link.is_symlink() and str(link.readlink()).startswith(f"{paths.RUN}/"):
            link.unlink()


def remove_data() -> None:
    """Removes our folder. Raises CannotContinue rather than delete into something that is still mounted."""
    if mounts.below(paths.RUN):
        raise CannotContinue(
            f"{mounts.below(paths.RUN)[-1]} can't be unmounted, so its data stays; see who uses it (`fuser -vm`) and run this again."
        )
    if paths.RUN.exists():
        shutil.rmtree(paths.RUN)
