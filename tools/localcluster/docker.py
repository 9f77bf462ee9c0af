"""The Docker engine, if this machine has a working one."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

from localcluster import package_index, paths
from localcluster.say import CannotContinue
from localcluster.shell import succeeds


def answers() -> bool:
    """Return whether the docker command reaches an engine."""
    return succeeds("docker", "info")


def image_id(reference: str) -> str | None:
    """Return the image's id, or None if the engine lacks the image."""
    result = subprocess.run(["docker", "image", "inspect", "--format", "{{.Id}}", reference], capture_output=True, text=True, check=False)
    return result.stdout.strip() if result.returncode == 0 else None


def build(reference: str, *, dockerfile: Path, context: Path, build_args: Mapping[str, str], log: Path) -> None:
    """Build a Dockerfile. It may ask for the secrets `pip.conf` and `ca.pem`, which say how this machine reaches the package index."""
    settings = package_index.read()
    words = ["docker", "build", "--tag", reference, "--file", str(dockerfile)]
    # The proxy variables are arguments that every Dockerfile accepts without declaring them, and that images don't keep.
    for name, value in {**settings.proxy, **build_args}.items():
        words += ["--build-arg", f"{name}={value}"]
    for name, path in package_index.build_secrets(settings, paths.cache("work")).items():
        words += ["--secret", f"id={name},src={path}"]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        result = subprocess.run([*words, str(context)], stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False)
    if result.returncode != 0:
        last = " / ".join(log.read_text(errors="replace").strip().splitlines()[-4:])
        raise CannotContinue(f"building {reference} from {dockerfile} failed: {last} (all of it: {log})")


def save_archive(reference: str, archive: Path) -> None:
    """Write the image as a docker-archive, whole or not at all."""
    unfinished = archive.with_name(f".{archive.name}.unfinished")
    result = subprocess.run(["docker", "save", "--output", str(unfinished), reference], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise CannotContinue(f"`docker save {reference}` failed: {result.stderr.strip()}")
    unfinished.replace(archive)
