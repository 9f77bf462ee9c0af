"""The only list of Debian packages that this project uses besides Python, Go and make, and their installation."""

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass

from localcluster import paths
from localcluster.say import CannotContinue, progress
from localcluster.shell import run

SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Package:
    """A Debian package with the programs (or, with a slash, files) in use. If these exist, it is installed."""

    name: str
    programs: tuple[str, ...]

    def missing(self) -> list[str]:
        """Return the programs that this machine lacks."""
        return [program for program in self.programs if shutil.which(program, path=SEARCH) is None]


_GIT = Package("git", ("git", "/usr/lib/git-core/git-http-backend"))
_IPROUTE = Package("iproute2", ("ip", "ss"))

CLUSTER = (
    Package("runc", ("runc",)),
    Package("containernetworking-plugins", (str(paths.CNI_PLUGINS / "ptp"),)),
    Package("nftables", ("nft",)),
    Package("openssl", ("openssl",)),
    Package("kmod", ("modprobe",)),
    _IPROUTE,
)
"""Packages for the local cluster."""

IMAGES = (Package("debootstrap", ("debootstrap",)), Package("buildah", ("buildah",)))
"""Packages for building images on a machine without Docker."""

TESTS = (
    _GIT,
    Package("openssh-client", ("ssh", "ssh-keygen", "ssh-keyscan")),
    Package("openssh-server", ("/usr/sbin/sshd",)),
    _IPROUTE,
    Package("procps", ("ps", "pgrep", "kill")),
    Package("jq", ("jq",)),
    Package("python3-venv", ("/usr/bin/python3",)),
    Package("python3-pip", ("/usr/bin/pip3",)),
)
"""Additional packages for the tests."""

GROUPS = {"cluster": CLUSTER, "images": IMAGES, "tests": TESTS}

REQUIRED = ("python", "python3", "make", "go")
"""Required by the README. Nothing here installs them."""

OPTIONAL = ("docker", "kubectl", "helm", "kind", "pip", "uv", "apt-get")
"""Used if present: the project builds its own kubectl and helm, and asks pip how this machine reaches the package index."""

ESSENTIAL = (
    "awk",
    "bash",
    "cat",
    "mount",
    "nice",
    "nsenter",
    "setpriv",
    "setsid",
    "sh",
    "sleep",
    "test",
    "timeout",
    "touch",
    "true",
    "umount",
    "unshare",
)
"""Part of every Debian, however small."""


def ensure(packages: Iterable[Package]) -> None:
    """Install the packages that this machine lacks. Raises CannotContinue with a remedy if that isn't possible."""
    missing = _lacking(packages)
    if not missing:
        return
    names = ", ".join(missing)
    if shutil.which("apt-get") is None:
        raise CannotContinue(f"this machine lacks {_told(missing)} and is no Debian to install them on; install them and run this again.")
    if os.geteuid() != 0:
        raise CannotContinue(f"this machine lacks {_told(missing)}; run `sudo apt-get install {' '.join(missing)}` and then this again.")
    progress(f"installing the Debian packages {names}")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    run("apt-get", "update", "-q", env=quiet)
    run("apt-get", "install", "-q", "-y", "--no-install-recommends", *missing, env=quiet)


def lacking(packages: Iterable[Package]) -> str:
    """Return one sentence on what this machine lacks of them, with a remedy, or an empty string if nothing is missing."""
    missing = _lacking(packages)
    return f"this machine lacks {_told(missing)}; run `make packages`, or install them by hand." if missing else ""


def known() -> set[str]:
    """Return the names of all programs that this project may start."""
    listed = {program.rpartition("/")[2] for group in GROUPS.values() for package in group for program in package.programs}
    return listed | {*REQUIRED, *OPTIONAL, *ESSENTIAL}


def _lacking(packages: Iterable[Package]) -> dict[str, list[str]]:
    return {package.name: missing for package in packages if (missing := package.missing())}


def _told(missing: dict[str, list[str]]) -> str:
    return ", ".join(f"{', '.join(programs)} (Debian package {name})" for name, programs in missing.items())
