"""Builds the cluster's programs from Go modules, once per content of their go.mod and go.sum."""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from localcluster import paths
from localcluster.say import CannotContinue, progress

KUBERNETES_VERSION = "v1.37.2"
_MAJOR, _MINOR, _ = KUBERNETES_VERSION.removeprefix("v").split(".")
_STAMP = "k8s.io/component-base/version"
# Without gitVersion the server calls itself v0.0.0 and refuses its own clients' feature negotiation.
_KUBERNETES_LDFLAGS = (
    f"-s -w -X {_STAMP}.gitVersion={KUBERNETES_VERSION} -X {_STAMP}.gitMajor={_MAJOR} -X {_STAMP}.gitMinor={_MINOR}"
    f" -X {_STAMP}.gitTreeState=clean"
)


@dataclass(frozen=True)
class Module:
    """One of our go.mod files, and the programs built from it: name -> package."""

    name: str
    programs: dict[str, str]
    ldflags: str = "-s -w"
    tags: str = ""

    @property
    def folder(self) -> Path:
        return paths.MODULES / self.name

    def key(self) -> str:
        """Return a hash of everything that affects the build."""
        files = [self.folder / "go.mod", self.folder / "go.sum", *sorted(self.folder.glob("*.go"))]
        text = b"".join(file.read_bytes() for file in files)
        return hashlib.sha256(text + self.ldflags.encode() + self.tags.encode()).hexdigest()[:16]

    def binary(self, program: str) -> Path:
        """Return the program's path in the cache, whether it is built or not."""
        return paths.cache("bin", f"{self.name}-{self.key()}") / program


KUBERNETES = Module(
    "kubernetes",
    {
        "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
        "etcd": "go.etcd.io/etcd/server/v3",
        "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
        "kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler",
        "kubelet": "k8s.io/kubernetes/cmd/kubelet",
        "kube-proxy": "k8s.io/kubernetes/cmd/kube-proxy",
        "kubectl": "k8s.io/kubernetes/cmd/kubectl",
    },
    ldflags=_KUBERNETES_LDFLAGS,
)
CONTAINERD = Module(
    "containerd",
    {program: f"github.com/containerd/containerd/v2/cmd/{program}" for program in ("containerd", "containerd-shim-runc-v2", "ctr")},
    tags="no_btrfs no_zfs no_devmapper",
)
HELM = Module("helm", {"helm": "helm.sh/helm/v4/cmd/helm"})
PAUSE = Module("pause", {"pause": "flowsession.dev/tools/pause"})
ALL = (KUBERNETES, CONTAINERD, HELM, PAUSE)
"""The modules of the local cluster."""

KWOK = Module("kwok", {"kwok": "sigs.k8s.io/kwok/cmd/kwok"})
KARPENTER = Module("karpenter", {"karpenter": "sigs.k8s.io/karpenter/kwok"})
REGISTRY = Module("registry", {"registry": "github.com/distribution/distribution/v3/cmd/registry"})
"""An OCI registry, for tests of images whose tags move."""

SCALE = (KWOK, KARPENTER)
"""Additional modules for the tests of placement and autoscaling. Building them takes three minutes on 2 cores, so only these tests do."""


def unbuilt(*modules: Module) -> list[tuple[Module, str]]:
    """Return the programs missing from the cache."""
    return [(module, program) for module in modules for program in module.programs if not module.binary(program).exists()]


def build(*modules: Module) -> None:
    """Build the programs missing from the cache. A killed build leaves nothing half-done, and the next call continues from there.

    Of several concurrent callers, one builds and the others wait.
    """
    if not unbuilt(*modules):
        return
    check_go()
    with (paths.cache("bin") / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _build_missing(modules)


def _build_missing(modules: tuple[Module, ...]) -> None:
    missing = unbuilt(*modules)
    if not missing:
        return
    progress(f"building {len(missing)} programs from Go modules, once: {', '.join(program for _, program in missing)}")
    if KUBERNETES in (module for module, _ in missing):
        progress(
            f"this takes 10 to 15 minutes on 2 cores, because Kubernetes itself is compiled; later runs find them in {paths.cache('bin')}"
        )
    for number, (module, program) in enumerate(missing, 1):
        started = time.monotonic()
        progress(f"({number}/{len(missing)}) go build {program} ...")
        _go_build(module, program)
        progress(f"({number}/{len(missing)}) {program} built in {time.monotonic() - started:.0f} s")


def check_go() -> None:
    """Raise CannotContinue if Go is not installed."""
    if shutil.which("go") is None:
        raise CannotContinue(
            "Go is not installed, and the local cluster's programs are compiled from Go modules;"
            " install Go 1.26 or newer (https://go.dev/dl) and run this again."
        )


def _go_build(module: Module, program: str) -> None:
    target = module.binary(program)
    unfinished = target.with_name(f".{program}.{os.getpid()}")
    command = ["go", "build", "-mod=readonly", "-trimpath", "-ldflags", module.ldflags, "-o", str(unfinished)]
    if module.tags:
        command += ["-tags", module.tags]
    result = subprocess.run(
        ["nice", *command, module.programs[program]],
        cwd=module.folder,
        check=False,
        env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false", "GOWORK": "off"},
        capture_output=True,
        text=True,
    )
    if result.returncode != 0:
        unfinished.unlink(missing_ok=True)
        last = "\n".join(result.stderr.strip().splitlines()[-10:])
        raise CannotContinue(f"go build of {program} failed; Go's last lines were:\n{last}")
    unfinished.rename(target)


def source(module: Module, path: str) -> Path:
    """Return the folder, fetched if needed, of a dependency of `module` such as sigs.k8s.io/karpenter, with its CRDs and examples."""
    check_go()
    result = subprocess.run(
        ["go", "mod", "download", "-json", path],
        cwd=module.folder,
        check=False,
        env={**os.environ, "GOFLAGS": "-mod=readonly", "GOWORK": "off"},
        capture_output=True,
        text=True,
    )
    if result.returncode != 0:
        raise CannotContinue(f"go mod download of {path} failed: {result.stdout.strip()} {result.stderr.strip()}")
    return Path(json.loads(result.stdout)["Dir"])


def install_folder() -> Path:
    """Return a folder for PATH with links into the cache: every built program under its plain name."""
    folder = paths.cache("bin", "current")
    for module in ALL:
        for program in module.programs:
            link = folder / program
            if not module.binary(program).exists() or (link.is_symlink() and link.readlink() == module.binary(program)):
                continue
            fresh = link.with_name(f".{program}.{os.getpid()}")
            fresh.symlink_to(module.binary(program))
            fresh.replace(link)
    return folder
