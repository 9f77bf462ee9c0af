"""The Debian image with Python that our Dockerfiles can start from on a machine without a registry."""

import hashlib
import shutil
import tempfile
from pathlib import Path

from localcluster import buildah, debian, mounts, paths
from localcluster.say import progress
from localcluster.shell import run

NAME = "localhost/python-base"
_SUITE = "bookworm"
_PACKAGES = ("python3", "python3-venv", "ca-certificates", "git", "openssh-client")
_RECIPE_VERSION = "1"
"""Increase it when `_make` changes what it does to the tree."""

# What debootstrap leaves of this machine and its own work: the mirror's address, host names, downloads, logs.
_REMOVED = (
    "etc/apt/sources.list",
    "etc/hostname",
    "etc/resolv.conf",
    "var/cache/apt",
    "var/cache/debconf",
    "var/cache/ldconfig",
    "var/lib/apt/lists",
    "var/log",
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/info",
)


def reference() -> str:
    """Return name and tag. The tag is a hash of the image's inputs."""
    key = hashlib.sha256("\n".join((_SUITE, *_PACKAGES, _RECIPE_VERSION)).encode()).hexdigest()[:12]
    return f"{NAME}:{key}"


def ensure() -> str:
    """Return the reference once buildah's store has the image, loaded from the cached archive or built in two minutes if needed."""
    if buildah.image_id(reference()) is not None:
        return reference()
    archive = paths.cache("images") / f"python-base-{reference().rpartition(':')[2]}.tar"
    if archive.exists():
        buildah.load_archive(archive, reference())
        return reference()
    debian.ensure(debian.IMAGES)
    progress(f"making the base image {reference()} by debootstrap, about 2 minutes the first time")
    _make()
    buildah.save_archive(reference(), archive)
    return reference()


def _make() -> None:
    for stale in paths.cache("work").glob("debootstrap.*"):
        _remove_tree(stale)
    tree = Path(tempfile.mkdtemp(dir=paths.cache("work"), prefix="debootstrap."))
    try:
        run("debootstrap", "--variant=minbase", f"--include={','.join(_PACKAGES)}", _SUITE, tree, *_mirror())
        for name in _REMOVED:
            path = tree / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
                path.mkdir()
            else:
                path.unlink(missing_ok=True)
        tree.chmod(0o755)
        buildah.commit_tree(tree, reference(), command="python3")
    finally:
        _remove_tree(tree)


def _remove_tree(tree: Path) -> None:
    """Unmount and remove the tree. A killed debootstrap leaves /proc and /sys mounted in it, and those must not be deleted."""
    mounts.unmount_below(tree)
    shutil.rmtree(tree, ignore_errors=True)


def _mirror() -> list[str]:
    """Return this machine's Debian mirror as debootstrap's last argument, or [] for debootstrap's default."""
    lines = run(
        "apt-get", "indextargets", "--format", "$(CODENAME) $(COMPONENT) $(ORIGIN) $(REPO_URI)", "Created-By: Packages"
    ).splitlines()
    for codename, component, origin, uri in (line.split(maxsplit=3) for line in lines if len(line.split()) == 4):
        if (codename, component, origin) == (_SUITE, "main", "Debian"):
            return [uri]
    return []
