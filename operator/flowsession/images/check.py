"""What a registry is asked about an environment's image, and what it said; and whether it may be asked at all."""

from dataclasses import dataclass

from flowsession.images import reference as imageref
from flowsession.images.reference import ImageRef
from flowsession.settings import Settings


@dataclass(frozen=True)
class Question:
    """Which digest the image's tag means now, and whether the base that it was built on has moved."""

    image: str
    token: str
    """What made it be asked: another token is another question."""
    known: str = ""
    """The digest that the environment is on, of the tag's image or of one of its platforms."""


@dataclass(frozen=True)
class Base:
    """The image that an image says it was built on, by the labels or annotations org.opencontainers.image.base.*."""

    name: str
    digest: str = ""
    """Its digest then; empty where the image does not say."""
    now: str = ""
    """Its tag's digest now; empty where that could not be found out."""


@dataclass(frozen=True)
class ImageCheck:
    """A registry's answer."""

    question: Question
    digest: str = ""
    """What the tag means now."""
    same: bool = False
    """Whether that is, or has among its platforms, the digest that the environment is on."""
    base: Base | None = None
    reason: str = ""
    """Why there is no answer, as the condition's reason; empty if there is one."""
    message: str = ""


def may_ask(reference: ImageRef, settings: Settings) -> bool:
    """Whether the operator itself may connect to the image's registry.

    Whoever may create environments names images, so without a limit they could make the operator send requests to any address that it
    reaches, and learn from the answers. It asks only the registries that the platform team named: those of its allow-list, where a
    pattern for every registry names none, and the default image's own repository.
    """
    default = imageref.parse(settings.runtime_image)
    if default is not None and reference.name == default.name:
        return True
    named = [pattern for pattern in settings.images.allowed_registries if pattern.partition("/")[0].strip("*")]
    return imageref.allowed(reference, named)
