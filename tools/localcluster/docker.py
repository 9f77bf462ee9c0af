"""The Docker engine, where a machine has one that answers."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

from localcluster import package_index
from localcluster.say import CannotContinue
from localcluster.shell import succeeds


def answers() -> bool:
    """Whether there is an engine behind the docker command."""
    return succeeds("docker", "info")


def image_id(reference: str) -> str | None:
    """The image's id; None when the engine lacks it."""
    result = subprocess.run(["docker", "image", "inspect", "--format", "{{.Id}}", reference], capture_output=True, text=True, check=False)
    return result.stdout.strip() if result.returncode == 0 else None


def build(reference: str, *, dockerfile: Path, context: Path, build_args: Mapping[str, str], log: Path) -> None:
    """Builds a Dockerfile. The machine's index and proxy settings go in as build arguments, which the image doesn't keep."""
    words = ["docker", "build", "--tag", reference, "--file", str(dockerfile)]
    for name, value in {**package_index.read().variables, **build_args}.items():
        words += ["--build-arg", f"{name}={value}"]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        result = subprocess.run([*words, str(context)], stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False)
    if result.returncode != 0:
        last = " / ".join(log.read_text(errors="replace").strip().splitlines()[-4:])
        raise CannotContinue(f"building {reference} from {dockerfile} failed: {last} (all of it: {log})")


def save_archive(reference: str, archive: Path) -> None:
    """Writes the image as a docker-archive, whole or not at all."""
    unfinished = archive.with_name(f".{archive.name}.unfinished")
    result = subprocess.run(["docker", "save", "--output", str(unfinished), reference], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise CannotContinue(f"`docker save {reference}` failed: {result.stderr.strip()}")
    unfinished.replace(archive)
