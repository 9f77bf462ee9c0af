"""The images of pods: their digests, and whether they are still the ones that their sessions should run."""

from collections.abc import Iterable
from typing import NamedTuple

from flowsession.api.environment import ImageOrigin
from flowsession.images import reference
from flowsession.images.image import UPDATE_ANNOTATION, Image
from flowsession.model.views import PodView
from flowsession.settings import Settings


def digest_of(pod: PodView) -> str:
    """Return the digest of a pod's image, from its manifest or its node's report; empty if no registry knows the image."""
    started_from = reference.parse(pod.started_from)
    if started_from and started_from.digest:
        return started_from.digest
    return reference.digest_in(pod.container.image_id, pod.image) if pod.container else ""


def changed(pod: PodView, image: Image) -> bool:
    """Return whether the session's image has changed since its pod was created."""
    if pod.image != image.name:
        return True
    if image.digest:
        return digest_of(pod) not in ("", image.digest)
    return image.pull_anew and pod.image_update != image.update


def pull_advice(pod: PodView, image: Image, settings: Settings) -> str:
    """Return more advice for an image that can't be pulled: one that the environment stayed on may be gone from its registry."""
    if image.pinned and pod.started_from == image.pinned:
        what = "that digest, take the tag's present one"
    elif image.origin is ImageOrigin.DEFAULT and image.name != settings.runtime_image:
        what = f"that earlier default, take the present one, {settings.runtime_image},"
    else:
        return ""
    return f", or, if the registry has dropped {what} by the environment's annotation {UPDATE_ANNOTATION}"


class Report(NamedTuple):
    """A node's report of the image that a pod runs."""

    image: str
    """The name as requested."""
    update: str
    """The last update of the environment's image when the pod was created."""
    id: str
    """The image id, with the registry's digest; without a registry, the image's own id."""


def report(pod: PodView) -> Report | None:
    """Return the report of the pod's node, or None if it has not reported yet."""
    found = pod.container.image_id.removeprefix("docker-pullable://") if pod.container else ""
    return Report(pod.image, pod.image_update, found) if found else None


def reported(reports: Iterable[Report], image: Image, known: str) -> str:
    """Return the wanted `imageDigest` of an environment's status. A registry's digest stays once it is known. A bare image id, the only one
    without a registry, stays while a pod has it.

    Only pods count that were created with exactly this image after the environment's last update.
    """
    if reference.digest_in(known, image.name):
        return known
    ids = [report.id for report in reports if report.image == image.name and report.update == image.update]
    with_digest = next((found for found in ids if reference.digest_in(found, image.name)), "")
    return with_digest or (known if known in ids else "") or next(iter(ids), known)
