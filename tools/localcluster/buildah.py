"""buildah with its own store in the cache: builds images without an engine, and imports and exports them as archives."""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from localcluster import debian, package_index, paths
from localcluster.say import CannotContinue
from localcluster.shell import run

_CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
"""Where Debian's and Alpine's programs look for certificates, including Debian's pip."""


def image_id(reference: str) -> str | None:
    """Return the digest of the image's configuration, which Kubernetes calls the image id, or None if the store lacks the image."""
    debian.ensure(debian.IMAGES)
    found = json.loads(run(*_command(), "images", "--json", "--no-trunc") or "[]") or []
    for image in found:
        if reference in (image.get("names") or []):
            return f"sha256:{image['id'].removeprefix('sha256:')}"
    return None


def commit_tree(tree: Path, reference: str, *, command: str) -> None:
    """Make an image of one layer from a folder."""
    container = run(*_command(), "from", "scratch").strip()
    try:
        run(*_command(), "add", container, tree, "/")
        run(
            *_command(), "config", "--cmd", command, "--env", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", container
        )
        run(*_command(), "commit", "--quiet", container, reference)
    finally:
        run(*_command(), "rm", container)


def push(reference: str, destination: str, *, label: str) -> None:
    """Push the image with one more label, NAME=VALUE, to a registry that uses plain HTTP."""
    container = run(*_command(), "from", "--pull-never", reference).strip()
    try:
        run(*_command(), "config", "--label", label, container)
        changed = run(*_command(), "commit", "--quiet", container).strip()
    finally:
        run(*_command(), "rm", container)
    try:
        run(*_command(), "push", "--quiet", "--tls-verify=false", changed, f"docker://{destination}")
    finally:
        run(*_command(), "rmi", changed)


def load_archive(archive: Path, reference: str) -> None:
    """Load an image that `save_archive` wrote into the store."""
    run(*_command(), "pull", "--quiet", f"docker-archive:{archive}")
    if image_id(reference) is None:
        raise CannotContinue(f"{archive} holds no image named {reference}; remove the file and run this again.")


def save_archive(reference: str, archive: Path) -> None:
    """Write the image as a docker-archive, whole or not at all."""
    unfinished = archive.with_name(f".{archive.name}.{os.getpid()}")
    unfinished.unlink(missing_ok=True)
    try:
        run(*_command(), "push", "--quiet", reference, f"docker-archive:{unfinished}:{reference}")
        unfinished.replace(archive)
    finally:
        unfinished.unlink(missing_ok=True)


def build(reference: str, *, dockerfile: Path, context: Path, build_args: Mapping[str, str], log: Path) -> None:
    """Build a Dockerfile. Its steps reach the package index as the machine does, and the image keeps no trace of that.

    A Dockerfile may ask for the secrets `pip.conf` and `ca.pem`, which works with Docker too. For other Dockerfiles both are mounted
    where pip looks by default. They are not set as variables, because `--env` would stay in the image. buildah passes on proxy
    variables.
    """
    settings = package_index.read()
    words = [*_command(), "build", "--isolation", "chroot", "--layers", "--tag", reference, "--file", str(dockerfile)]
    for name, value in build_args.items():
        words += ["--build-arg", f"{name}={value}"]
    for name, path in package_index.build_secrets(settings, paths.cache("work")).items():
        words += ["--secret", f"id={name},src={path}"]
    if settings.pip:
        words += ["--volume", f"{paths.cache('work') / 'pip.conf'}:/etc/pip.conf:ro"]
    if settings.ca_bundle:
        words += ["--volume", f"{settings.ca_bundle}:{_CA_BUNDLE}:ro"]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        result = subprocess.run([*words, str(context)], stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False)
    if result.returncode != 0:
        last = " / ".join(log.read_text(errors="replace").strip().splitlines()[-4:])
        raise CannotContinue(f"building {reference} from {dockerfile} failed: {last} (all of it: {log})")


def remove(reference: str) -> None:
    """Remove the name from the image, and the image itself if it has no other name."""
    run(*_command(), "rmi", reference)


def names(repository: str) -> list[str]:
    """Return the references of the repository's images in the store, newest first."""
    found = json.loads(run(*_command(), "images", "--json") or "[]") or []
    named = [(image["createdatraw"], name) for image in found for name in image.get("names") or [] if name.rpartition(":")[0] == repository]
    return [name for _, name in sorted(named, reverse=True)]


def _command() -> list[str]:
    store = paths.cache("containers")
    return ["buildah", "--storage-driver", "overlay", "--root", str(store / "storage"), "--runroot", str(store / "run")]
