"""Questions to a registry about an environment's image, the registry's answers, and whether the operator may ask."""

from dataclasses import dataclass

from flowsession.images import reference as imageref
from flowsession.images.reference import ImageRef
from flowsession.settings import Settings


@dataclass(frozen=True)
class Question:
    """Which digest does the image's tag mean now, and has its base image moved?"""

    image: str
    token: str
    """What caused the question; a different token makes a different question."""
    known: str = ""
    """The digest in use, of the image or of one of its platforms."""


@dataclass(frozen=True)
class Base:
    """The base image, from an image's labels or annotations org.opencontainers.image.base.*."""

    name: str
    digest: str = ""
    """Its digest at the build; empty: unknown."""
    now: str = ""
    """Its tag's digest now; empty: unknown."""


@dataclass(frozen=True)
class ImageCheck:
    """A registry's answer."""

    question: Question
    digest: str = ""
    """The tag's digest now."""
    same: bool = False
    """Whether that is the digest in use, or of an index with the digest in use among its platforms."""
    base: Base | None = None
    reason: str = ""
    """Why there is no answer, as the condition's reason; empty: there is an answer."""
    message: str = ""


def may_ask(reference: ImageRef, settings: Settings) -> bool:
    """Return whether the operator may connect to the image's registry.

    Without a limit, whoever may create environments could make the operator send requests to any address that it reaches, and learn from
    the answers. So it asks only registries that the chart's images.allowedRegistries names (a pattern that matches all registries does not
    count), and the default image's repository.
    """
    default = imageref.parse(settings.runtime_image)
    if default is not None and reference.name == default.name:
        return True
    named = [pattern for pattern in settings.images.allowed_registries if pattern.partition("/")[0].strip("*")]
    return imageref.allowed(reference, named)
