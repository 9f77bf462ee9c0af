"""The cluster that a command works on, and what differs between them: how it starts and how images get to its nodes."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from demo import programs
from demo.kubectl import Kubectl
from localcluster import cluster, docker, images, package_index, paths
from localcluster.say import CannotContinue, progress
from localcluster.shell import run

KIND_NAME = "flowsession"


class Target(Protocol):
    """A cluster."""

    @property
    def title(self) -> str:
        """Return its name for people."""

    @property
    def kubeconfig(self) -> Path:
        """Return the kubeconfig with which to reach it once it is up."""

    @property
    def repository(self) -> str:
        """Return the prefix of image names."""

    @property
    def build_args(self) -> Mapping[str, str]:
        """Return the build arguments of the images."""

    @property
    def index(self) -> package_index.Settings | None:
        """Return how this machine reaches its package index if pods need the same, else None."""

    def up(self) -> None:
        """Return when the API server responds and nodes are Ready."""

    def load(self, image: images.ImageRef) -> None:
        """Return when every node can start pods of the image."""


def choose() -> Target:
    """Choose by CLUSTER, or by whether Docker responds. Raises CannotContinue if CLUSTER asks for something unavailable."""
    wanted = os.environ.get("CLUSTER", "")
    if wanted == "current":
        return _current()
    if wanted not in ("", "kind", "local"):
        raise CannotContinue(f"CLUSTER={wanted} is none of current, kind and local; unset it to have the choice made for you.")
    has_docker = docker.answers()
    if wanted == "kind" and not has_docker:
        raise CannotContinue("CLUSTER=kind needs a Docker engine, and none answers; start it, or unset CLUSTER for a cluster without it.")
    return Kind() if wanted != "local" and has_docker else Local()


def _current() -> Target:
    files = [Path(name) for name in os.environ.get("KUBECONFIG", "").split(os.pathsep) if name]
    if not files:
        raise CannotContinue("CLUSTER=current takes the cluster of KUBECONFIG, which is not set; export KUBECONFIG=FILE first.")
    if len(files) > 1 or not files[0].is_file():
        raise CannotContinue(f"KUBECONFIG={os.environ['KUBECONFIG']} is not one file that exists; name one kubeconfig file.")
    registry = os.environ.get("REGISTRY", "").rstrip("/")
    if not registry:
        raise CannotContinue(
            "with CLUSTER=current the images go by way of a registry; set REGISTRY=registry.example.com/team to one that you"
            " may push to and the cluster's nodes may pull from."
        )
    return Current(kubeconfig=files[0], repository=registry)


def _own_base() -> Mapping[str, str]:
    """Return the build argument for a base image made here. Without a Docker engine there is often no registry to pull one from."""
    return {} if docker.answers() else {"BASE": images.python_base()}


@dataclass(frozen=True)
class Local:
    """tools/localcluster: real kubelets on this machine, no Docker."""

    title: str = "local cluster without Docker"
    kubeconfig: Path = paths.KUBECONFIG
    repository: str = "localhost"

    @property
    def build_args(self) -> Mapping[str, str]:
        return _own_base()

    @property
    def index(self) -> package_index.Settings:
        return package_index.read()

    def up(self) -> None:
        cluster.up()

    def load(self, image: images.ImageRef) -> None:
        images.load(image)


@dataclass(frozen=True)
class Kind:
    """kind in this machine's Docker."""

    title: str = "kind"
    kubeconfig: Path = paths.STATE / "kind-kubeconfig"
    repository: str = "localhost"
    build_args: Mapping[str, str] = field(default_factory=dict)

    @property
    def index(self) -> package_index.Settings | None:
        return package_index.read()

    def up(self) -> None:
        self.kubeconfig.parent.mkdir(parents=True, exist_ok=True)
        kind = programs.kind()
        if KIND_NAME in run(kind, "get", "clusters").split():
            run(kind, "export", "kubeconfig", "--name", KIND_NAME, "--kubeconfig", self.kubeconfig)
            return
        progress(f"creating the kind cluster {KIND_NAME}; the first time its node image is pulled")
        configuration = Path(__file__).with_name("kind.yaml")
        run(kind, "create", "cluster", "--config", configuration, "--kubeconfig", self.kubeconfig, "--wait", "180s")

    def load(self, image: images.ImageRef) -> None:
        # kind itself skips nodes that have the image.
        run(programs.kind(), "load", "docker-image", image.name, "--name", KIND_NAME)


@dataclass(frozen=True)
class Current:
    """The cluster of KUBECONFIG, whose nodes pull from REGISTRY."""

    kubeconfig: Path
    repository: str
    title: str = "cluster of KUBECONFIG"
    build_args: Mapping[str, str] = field(default_factory=dict)
    index: None = None

    def up(self) -> None:
        Kubectl(programs.kubectl(), self.kubeconfig)("wait", "--for=condition=Ready", "nodes", "--all", "--timeout=60s")

    def load(self, image: images.ImageRef) -> None:
        progress(f"pushing {image.name}")
        if docker.answers():
            run("docker", "push", image.name)
        else:
            # tools/localcluster has its own store, and its archives serve to export images from it.
            run("buildah", "pull", "--quiet", f"docker-archive:{images.save(image)}")
            run("buildah", "push", "--quiet", image.name)
