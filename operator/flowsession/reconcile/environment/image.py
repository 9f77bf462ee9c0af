"""Which image a session starts from: the one that is asked for, and the digest that its environment stays on until it is updated."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from flowsession.api import GROUP
from flowsession.api.environment import ImageOrigin
from flowsession.images import reference as imageref
from flowsession.model import times
from flowsession.settings import Settings

if TYPE_CHECKING:
    from flowsession.reconcile.environment.resolve import Resolved

UPDATE = "update"
CHECK = "checkVersion"
UPDATE_ANNOTATION = f"{GROUP}/update-requested-at"
CHECK_ANNOTATION = f"{GROUP}/check-version-requested-at"
REQUESTS = {UPDATE: UPDATE_ANNOTATION, CHECK: CHECK_ANNOTATION}
"""What people ask of an environment's image."""


@dataclass(frozen=True)
class Standing:
    """What an environment's status says of its image, and what its annotations ask of it."""

    image: str = ""
    origin: str = ""
    digest: str = ""
    pull_anew: bool = False
    updated: str = ""
    """The update request that was handled last."""
    asked: str = ""
    """The update request that was not handled yet."""


@dataclass(frozen=True)
class Image:
    """The image of an environment's sessions, or of one session."""

    name: str
    """As it was asked for."""
    origin: ImageOrigin | None
    """None: the session itself."""
    pinned: str = ""
    """NAME@DIGEST, which the environment stays on; empty while no digest is known."""
    pull_anew: bool = False
    """Whether a node has to ask the registry although it has an image of this name."""
    update: str = ""
    """The environment's last update: pods from before it tell nothing of the image after it."""

    @property
    def reference(self) -> str:
        """What pods are started from."""
        return self.pinned or self.name

    @property
    def whose(self) -> str:
        """Who has chosen it, for sentences."""
        return "session's" if self.origin is None else "environment's"

    @property
    def digest(self) -> str:
        """The digest alone; empty while none is known."""
        return self.pinned.partition("@")[2]


def standing(status: Mapping[str, Any], requests: Mapping[str, str]) -> Standing:
    """What is so by the environment's status and annotations."""
    handled, asked = (status.get("handledRequests") or {}).get(UPDATE) or "", requests.get(UPDATE, "")
    return Standing(
        image=status.get("baseImage") or "",
        origin=status.get("baseImageFrom") or "",
        digest=status.get("imageDigest") or "",
        pull_anew=status.get("pullAnew") is True,
        updated=handled,
        asked=asked if asked != handled and times.parse(asked) is not None else "",
    )


def choose(spec_image: str, flow_image: str, stands: Standing, settings: Settings) -> Image:
    """The environment's image: the one that is asked for at once, and where none is the chart's default. An environment that has resolved
    to a default stays on that one until it is updated, and every environment on its digest."""
    name, origin = spec_image or flow_image, ImageOrigin.SPEC if spec_image else ImageOrigin.FLOW
    if not name:
        stays = stands.origin == ImageOrigin.DEFAULT and stands.image and not stands.asked
        name, origin = stands.image if stays else settings.runtime_image, ImageOrigin.DEFAULT
    image = Image(name, origin, update=stands.updated)
    if name != stands.image:
        return image
    own, digest = imageref.parse(name), imageref.digest_in(stands.digest, name)
    if own is None or own.digest or settings.image_pull_policy == "Never":
        return image  # with Never the nodes' images are the platform team's own affair, and may differ
    pinned = f"{imageref.without_tag(name)}@{digest}" if digest else ""
    return replace(image, pinned=pinned, pull_anew=stands.pull_anew and not pinned)


def refusal(name: str, where: str, settings: Settings) -> tuple[str, str] | None:
    """Why an image may not be used, as reason and sentence; None if it may. The default image is the platform team's own choice."""
    patterns = settings.images.allowed_registries
    if name == settings.runtime_image:
        return None
    reference = imageref.parse(name)
    if reference is None:
        return (
            "InvalidImageName",
            f"{where} {name!r} is not the name of an image; write REGISTRY/PATH:TAG, in small letters and without blanks",
        )
    if not patterns or imageref.allowed(reference, patterns):
        return None
    return "ImageNotAllowed", (
        f"{where} {name} is not of a registry that this cluster allows ({', '.join(patterns)}); push the image to one of these, or ask the"
        " platform team to add its registry to the chart's images.allowedRegistries"
    )


def with_own(environment: "Resolved", own: str) -> "Resolved":
    """What a session with an image of its own shall have: everything else is the environment's."""
    if own in ("", environment.image.name):
        return environment
    revision = hashlib.sha256(json.dumps([own, environment.packages_revision]).encode()).hexdigest()[:16]
    return replace(environment, image=Image(own, None), packages_revision=revision)
