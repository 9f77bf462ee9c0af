"""Mount points below a folder, and their removal."""

from pathlib import Path

from localcluster.shell import run


def below(folder: Path) -> list[str]:
    """Return the mount points under the folder in the order of mounting."""
    points = (line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
    # The kernel writes a space in a path as \040.
    return [point.replace("\\040", " ") for point in points if point.startswith(f"{folder}/")]


def unmount_below(folder: Path) -> None:
    """Unmount them, last one first. A mount in use disappears once its last user is gone."""
    for point in reversed(below(folder)):
        run("umount", "--lazy", point)
