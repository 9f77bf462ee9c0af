"""The image of a session: the requested one, at the digest that the environment keeps until it is updated."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from flowsession.api.environment import ImageOrigin
from flowsession.images import reference as imageref
from flowsession.images.image import UPDATE, Image, ImageInUse
from flowsession.model import times
from flowsession.settings import Settings

if TYPE_CHECKING:
    from flowsession.model.resolved import Resolved


def image_in_use(status: Mapping[str, Any], requests: Mapping[str, str]) -> ImageInUse:
    """Return the image in use and the requested update, from the environment's status and annotations."""
    handled, asked = (status.get("handledRequests") or {}).get(UPDATE) or "", requests.get(UPDATE, "")
    return ImageInUse(
        image=status.get("baseImage") or "",
        origin=status.get("baseImageFrom") or "",
        digest=status.get("imageDigest") or "",
        pull_anew=status.get("pullAnew") is True,
        updated=handled,
        asked=asked if asked != handled and times.parse(asked) is not None else "",
    )


def choose(spec_image: str, flow_image: str, in_use: ImageInUse, settings: Settings) -> Image:
    """Return the environment's image: the requested one, else the chart's default. Until it is updated, an environment keeps the default
    that it first resolved to, and its image's digest."""
    name, origin = spec_image or flow_image, ImageOrigin.SPEC if spec_image else ImageOrigin.FLOW
    if not name:
        stays = in_use.origin == ImageOrigin.DEFAULT and in_use.image and not in_use.asked
        name, origin = in_use.image if stays else settings.runtime_image, ImageOrigin.DEFAULT
    image = Image(name, origin, update=in_use.updated)
    if name != in_use.image:
        return image
    own, digest = imageref.parse(name), imageref.digest_in(in_use.digest, name)
    if own is None or own.digest or settings.image_pull_policy == "Never":
        return image  # with Never the platform team loads images onto nodes, where they may differ
    pinned = f"{imageref.without_tag(name)}@{digest}" if digest else ""
    return replace(image, pinned=pinned, pull_anew=in_use.pull_anew and not pinned)


def with_own(environment: "Resolved", own: str) -> "Resolved":
    """Return what the environment resolves to for a session with its own image: only the image and the packages revision differ."""
    if own in ("", environment.image.name):
        return environment
    revision = hashlib.sha256(json.dumps([own, environment.packages_revision]).encode()).hexdigest()[:16]
    return replace(environment, image=Image(own, None), packages_revision=revision)
