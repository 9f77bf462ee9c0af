"""Image references as registries and kubelets read them, and the patterns that limit them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from flowsession.settings import Settings

DOCKER_HUB = "docker.io"
"""The registry of a reference that names none."""

_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")


@dataclass(frozen=True)
class ImageRef:
    """A complete reference, by the grammar of github.com/distribution/reference."""

    registry: str
    """Host, with its port if given, in lower case."""
    repository: str
    tag: str
    """The tag, by default latest; a digest takes precedence."""
    digest: str = ""

    @property
    def name(self) -> str:
        """Registry and repository."""
        return f"{self.registry}/{self.repository}"


def parse(text: str) -> ImageRef | None:
    """Return the complete reference, or None if the text is not a reference."""
    name, at, digest = text.partition("@")
    first, slash, rest = name.partition("/")
    registry, path = (first, rest) if slash and ("." in first or ":" in first or first == "localhost") else (DOCKER_HUB, name)
    repository, colon, tag = path.partition(":")
    if registry == "index.docker.io":
        registry = DOCKER_HUB
    if registry == DOCKER_HUB and "/" not in repository:
        repository = f"library/{repository}"
    fits = _HOST.fullmatch(registry) and _REPOSITORY.fullmatch(repository)
    if not fits or (colon and not _TAG.fullmatch(tag)) or (at and not _DIGEST.fullmatch(digest)):
        return None
    return ImageRef(registry.lower(), repository, tag or "latest", digest)


def without_tag(text: str) -> str:
    """Return the reference as written, up to its tag or digest."""
    name = text.partition("@")[0]
    head, slash, last = name.rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}"


def allowed(reference: ImageRef, patterns: Iterable[str]) -> bool:
    """Return whether one of the patterns matches: a registry, or a registry and a path below it.

    In both parts * matches any characters, but a registry's * does not extend into the path: otherwise evil.example/x.azurecr.io/y would
    match *.azurecr.io/*.
    """
    for pattern in patterns:
        registry, _, path = pattern.partition("/")
        if fnmatchcase(reference.registry, registry.lower()) and fnmatchcase(reference.repository, path or "*"):
            return True
    return False


def digest_in(image_id: str, image: str) -> str:
    """Return the registry's digest of the image that a node reports; empty if it has no digest in the repository of `image`.

    A node reports NAME@DIGEST for a pulled image, and the bare id of its configuration for a loaded one. For an image with several names it
    reports one of them, possibly of another repository.
    """
    reported, asked = parse(image_id.removeprefix("docker-pullable://")), parse(image)
    return reported.digest if reported and asked and reported.name == asked.name else ""


def refusal(name: str, where: str, settings: Settings) -> tuple[str, str] | None:
    """Return why an image may not be used, as reason and message, or None if it may. The default image always may."""
    patterns = settings.images.allowed_registries
    if name == settings.runtime_image:
        return None
    reference = parse(name)
    if reference is None:
        message = f"{where} {name!r} is not the name of an image; write REGISTRY/PATH:TAG, in small letters and without blanks"
        return "InvalidImageName", message
    if not patterns or allowed(reference, patterns):
        return None
    return "ImageNotAllowed", (
        f"{where} {name} is not of a registry that this cluster allows ({', '.join(patterns)}); push the image to one of these, or ask the"
        " platform team to add its registry to the chart's images.allowedRegistries"
    )
