"""What nodes leave on a machine: container processes, shims, mounts. Found by marks only our own things carry."""

import os
import shutil
import signal
from pathlib import Path

from localcluster import cgroups, layout, nodes, paths, procfs, wait
from localcluster.say import CannotContinue
from localcluster.shell import run

_SHIM = "containerd-shim-runc-v2"


def end_containers() -> None:
    """Ends every process of our pods and the shims above them. The kubelets must be down, or they start new ones."""
    for node in layout.NODES:
        if not cgroups.kill(node.cgroup):
            raise CannotContinue(f"processes in the cgroup {node.cgroup} don't end: {sorted(cgroups.members(node.cgroup))}; they hang in the kernel, reboot.")
    wait.until(lambda: not _kill_shims(), seconds=20)


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
            raise CannotContinue(f"the cgroup {node.cgroup} can't be removed; something still runs in it: {sorted(cgroups.members(node.cgroup))}.")


def unmount() -> None:
    """Unmounts everything below our folder: container roots, pod volumes, network namespaces."""
    for point in reversed(mounts()):
        run("umount", "--lazy", point)


def mounts() -> list[str]:
    """Mount points below our folder, in the order of mounting."""
    points = (line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
    # The kernel writes a space in a path as \040.
    return [point.replace("\\040", " ") for point in points if point.startswith(f"{paths.RUN}/")]


def remove_log_links() -> None:
    """Removes the links to our logs that kubelets make in a place they don't let anyone choose."""
    links = Path("/var/log/containers")
    for link in links.glob("*.log") if links.is_dir() else ():
        if link.is_symlink() and str(link.readlink()).startswith(f"{paths.RUN}/"):
            link.unlink()


def remove_data() -> None:
    """Removes our folder. Raises CannotContinue rather than delete into something that is still mounted."""
    if mounts():
        raise CannotContinue(
            f"{mounts()[-1]} can't be unmounted, so the cluster's data in {paths.RUN} stays; see who uses it (`fuser -vm`) and run this again."
        )
    if paths.RUN.exists():
        shutil.rmtree(paths.RUN)
