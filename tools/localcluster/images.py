"""Images without a registry: built once per content, loaded once per image onto the nodes."""

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from localcluster import base_image, buildah, context, docker, layout, paths, runtime
from localcluster.say import CannotContinue, progress

_KEPT = 3
"""Number of versions of an image kept in the cache and on the nodes: the one in use, and those that other work may still use."""


@dataclass(frozen=True)
class ImageRef:
    """A built image: `name` with its content-hash tag, `id` as Kubernetes reports it."""

    name: str
    id: str


def python_base() -> str:
    """Return the reference of our own Debian image with Python, for `--build-arg BASE=`. Builds it if needed."""
    return base_image.ensure()


def build(name: str, dockerfile: Path, folder: Path, build_args: Mapping[str, str] | None = None, *, tag: str | None = None) -> ImageRef:
    """Build `name`, e.g. localhost/flowsession-runtime, unless the same inputs were built before.

    The tag is a hash of the inputs, so a name with its tag never has two meanings. `tag` overrides that, and then the image is always
    built. Raises CannotContinue with the end of the build's output.
    """
    arguments = dict(build_args or {})
    engine = docker if docker.answers() else buildah
    reference = f"{name}:{tag or context.content_tag(dockerfile, folder, arguments)}"
    known = None if tag else engine.image_id(reference)
    if known is not None:
        return ImageRef(reference, known)
    started = time.monotonic()
    progress(f"building {reference} from {dockerfile}")
    engine.build(
        reference, dockerfile=dockerfile, context=folder, build_args=arguments, log=paths.cache("logs") / f"build-{_file_name(name)}.log"
    )
    built = engine.image_id(reference)
    if built is None:
        raise CannotContinue(f"{reference} was built, but is not in the image store; run this again.")
    progress(f"{reference} built in {time.monotonic() - started:.0f} s")
    return ImageRef(reference, built)


def find(reference: str) -> ImageRef:
    """Return an image that was built before. Raises CannotContinue if the image store lacks it."""
    found = (docker if docker.answers() else buildah).image_id(reference)
    if found is None:
        raise CannotContinue(f"no image {reference} was built on this machine; build it first (image-build).")
    return ImageRef(reference, found)


def load(ref: ImageRef) -> None:
    """Load the image onto every node of the local cluster that lacks it."""
    for node in layout.NODES:
        runtime.check_up(node)
    lacking = [node for node in layout.NODES if not runtime.has(node, ref.name, ref.id)]
    if not lacking:
        return
    archive = save(ref)
    started = time.monotonic()
    progress(f"importing {ref.name} ({archive.stat().st_size / 1e6:.0f} MB) on {', '.join(node.name for node in lacking)}")
    with ThreadPoolExecutor(len(lacking)) as pool:
        list(pool.map(lambda node: runtime.import_archive(node, archive, ref.name), lacking))
    progress(f"{ref.name} imported in {time.monotonic() - started:.0f} s")
    _forget_old(ref)


def load_archive(reference: str, archive: Path) -> None:
    """Load an archive's image onto every node, for archives from elsewhere."""
    for node in layout.NODES:
        runtime.check_up(node)
        runtime.import_archive(node, archive, reference)


def save(ref: ImageRef) -> Path:
    """Return the image as a docker-archive in the cache, written if needed. Deletes older versions of it."""
    stem = _file_name(ref.name.rpartition(":")[0])
    archive = paths.cache("images") / f"{stem}-{ref.id.removeprefix('sha256:')[:12]}.tar"
    if not archive.exists():
        progress(f"writing {ref.name} to {archive}")
        (docker if docker.answers() else buildah).save_archive(ref.name, archive)
    versions = sorted(archive.parent.glob(f"{stem}-{'?' * 12}.tar"), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in versions[_KEPT:]:
        old.unlink(missing_ok=True)
    return archive


def _forget_old(ref: ImageRef) -> None:
    """Delete old versions of the image. At half a gigabyte per code change, they would fill the disk within a day's work."""
    repository = ref.name.rpartition(":")[0]
    versions = [name for name in buildah.names(repository) if name != ref.name]
    keep = {ref.name, *versions[: _KEPT - 1]}
    for node in layout.NODES:
        runtime.forget_others(node, repository, keep=keep)
    for name in versions[_KEPT - 1 :]:
        buildah.remove(name)


def _file_name(name: str) -> str:
    return name.replace("/", "_").replace(":", "_")
