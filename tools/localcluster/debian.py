"""Installs the Debian packages that the cluster and the image builds use."""

import shutil

from localcluster import paths
from localcluster.say import CannotContinue, progress
from localcluster.shell import run

# package -> a program of it (or, with a slash, a file) that shows it is there, whoever installed it
_FOR_CLUSTER = {
    "runc": "runc",
    "containernetworking-plugins": str(paths.CNI_PLUGINS / "ptp"),
    "nftables": "nft",
    "iproute2": "ip",
    "openssl": "openssl",
}
_FOR_IMAGES = {"debootstrap": "debootstrap", "buildah": "buildah"}


def ensure_for_cluster() -> None:
    """runc, the CNI plugins and network tools."""
    _ensure(_FOR_CLUSTER)


def ensure_for_images() -> None:
    """debootstrap and buildah, for machines without Docker."""
    _ensure(_FOR_IMAGES)


def _ensure(packages: dict[str, str]) -> None:
    search = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    missing = [package for package, program in packages.items() if shutil.which(program, path=search) is None]
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise CannotContinue(
            f"this machine lacks {', '.join(missing)} and is no Debian to install them on; install them and run this again."
        )
    progress(f"installing the Debian packages {', '.join(missing)}")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    run("apt-get", "update", "-q", env=quiet)
    run("apt-get", "install", "-q", "-y", "--no-install-recommends", *missing, env=quiet)
