"""Uses ctr with the nodes' containerds: whether they serve, what images they have, and importing images."""

from collections.abc import Container
from pathlib import Path

from localcluster import nodes, wait
from localcluster.binaries import CONTAINERD
from localcluster.layout import Node
from localcluster.say import CannotContinue, progress
from localcluster.shell import run, succeeds

_START_SECONDS = 60


def wait_until_serving(node: Node) -> None:
    """Wait until the node's containerd serves. Raises CannotContinue, naming the log, on timeout."""
    daemon = nodes.containerd(node)

    def serving() -> bool:
        daemon.check_alive()
        return succeeds(*_ctr(node), "version")

    if not wait.until(serving, seconds=_START_SECONDS, saying=daemon.name):
        raise CannotContinue(f"{daemon.name} doesn't answer after {_START_SECONDS} s; {daemon.last_words()}")


def check_up(node: Node) -> None:
    """Raise CannotContinue if the node's containerd isn't running."""
    if nodes.containerd(node).pid() is None:
        raise CannotContinue(f"{node.name} is not running; bring the local cluster up first (make cluster-up).")


def images(node: Node) -> dict[str, str]:
    """Return image reference -> digest of its manifest. An image also appears under `sha256:ID`, by its configuration's digest."""
    lines = run(*_ctr(node), "images", "list").splitlines()[1:]
    return {words[0]: words[2] for words in (line.split() for line in lines) if len(words) > 2}


def has(node: Node, reference: str, image_id: str) -> bool:
    """Return whether the node has exactly this image under this name."""
    known = images(node)
    return reference in known and known[reference] == known.get(image_id)


def import_archive(node: Node, archive: Path, reference: str) -> bool:
    """Import the archive's image on the node. Return False if it was there already."""
    if reference in images(node):
        return False
    run(*_ctr(node), "images", "import", "--local", archive)
    if reference not in images(node):
        raise CannotContinue(
            f"{archive} was imported on {node.name}, but holds no image named {reference}; remove the file and run this again."
        )
    progress(f"{reference} is on {node.name}")
    return True


def forget_others(node: Node, repository: str, *, keep: Container[str]) -> None:
    """Remove the repository's images except those to keep. A running container keeps its image's data."""
    for reference in images(node):
        if reference.rpartition(":")[0] == repository and reference not in keep:
            run(*_ctr(node), "images", "remove", reference)


def _ctr(node: Node) -> tuple[str | Path, ...]:
    return (CONTAINERD.binary("ctr"), "--address", nodes.socket(node), "--namespace", "k8s.io")
