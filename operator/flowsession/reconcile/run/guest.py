"""A run in a session of another environment: whether the session can take it, and what is sent to the session with it.

The operator compares image and connections. The session's agent compares the installed packages with the requirements right before the run
begins: it knows the Python that markers are evaluated for, and what extras and links installed. Nothing is installed for such a run.
"""

import json

from flowsession.images import reference
from flowsession.images.image import Image
from flowsession.model import pod_images
from flowsession.model.resolved import Resolved, Unresolved
from flowsession.model.run_views import RunAnswer
from flowsession.model.views import PodView
from flowsession.reconcile.requests import REQUESTS
from flowsession.reconcile.run.snapshot import Place, RunSnapshot
from flowsession_protocol.messages import RunOrder

INCOMPATIBLE = "SessionIncompatible"
OWN = "leave sessionRef out in a new run, which gets a session of its own environment"
SHOWN_DIGEST = 19
"""Characters of a digest in messages, its algorithm included."""


def is_one(snapshot: RunSnapshot, place: Place) -> bool:
    """Return whether the run would be in a session of another environment."""
    return place.environment != snapshot.spec.environment_ref.name


def waits(snapshot: RunSnapshot) -> tuple[str, str] | None:
    """Return what a run in a session of another environment waits for, as reason and message, or None if for nothing."""
    name = snapshot.spec.environment_ref.name
    if not any(is_one(snapshot, place) for place in snapshot.sessions) or isinstance(snapshot.environment, Resolved):
        return None
    if isinstance(snapshot.environment, Unresolved) and snapshot.environment.reason != "Resolving":
        return "EnvironmentNotReady", f"environment {name!r}: {snapshot.environment.message}"
    return "Resolving", f"environment {name!r} is being read"


def refusal(snapshot: RunSnapshot, place: Place) -> tuple[str, str] | None:
    """Return why a session of another environment can't take the run, as reason and message, or None. Packages are not compared here."""
    environment, name, pod = snapshot.environment, snapshot.spec.environment_ref.name, place.running
    if not isinstance(environment, Resolved) or pod is None:
        return None
    if environment.claim is not None:
        message = f"environment {name!r} has its flow folder on claim {environment.claim.name!r}, which only its own sessions have"
        return INCOMPATIBLE, f"{message}: {OWN}"
    if not _same_image(pod, environment.image):
        message = f"session {place.session!r} runs image {_shown(pod.image, pod_images.digest_of(pod))}, and environment {name!r} asks for"
        way = f"{OWN}, or let both environments have one image and reset the session"
        return INCOMPATIBLE, f"{message} {_asked(environment.image)}: {way}"
    has = {str(connection[0]) for connection in json.loads(pod.connections or "[]")}
    if missing := sorted({connection.name for connection in environment.connections} - has):
        message = f"environment {name!r} names connections that session {place.session!r} has not: {', '.join(missing)}"
        return "ConnectionMissing", f"{message}; add them to environment {place.environment!r} and reset the session, or {OWN}"
    return None


def guest_members(snapshot: RunSnapshot) -> RunOrder:
    """Return the members of the order with another environment's flow; empty in a session of the run's own environment."""
    environment = snapshot.environment
    if not isinstance(environment, Resolved):
        return {}  # type: ignore[typeddict-item] # the order has the others already
    asked = environment.wire["requirements"]
    return {  # type: ignore[typeddict-item]
        "guest": {"environment": snapshot.spec.environment_ref.name, "requirements": asked},
        "files": environment.wire["files"] or {},
    }


def words(snapshot: RunSnapshot, answer: RunAnswer) -> str:
    """Return the message about packages that the session lacks, with advice."""
    session, name = snapshot.status.get("sessionName"), snapshot.spec.environment_ref.name
    theirs = next((place.environment for place in snapshot.sessions), "")
    install = f"add them to the requirements of environment {theirs!r} and install them by the session's annotation {REQUESTS['install']}"
    return f"session {session!r} can't run the flow of environment {name!r}: {answer.message}. {OWN[0].upper()}{OWN[1:]}, or {install}"


def _same_image(pod: PodView, image: Image) -> bool:
    """Return whether a pod runs an image. If a digest is unknown, as for images that came from no registry, the name decides: the
    environment's own session, too, would use what its node has under that name."""
    wanted, has = _digest(image), pod_images.digest_of(pod)
    if wanted and has:
        return wanted == has
    return pod.image == image.name and not image.pull_anew


def _digest(image: Image) -> str:
    named = reference.parse(image.name)
    return image.digest or (named.digest if named else "")


def _asked(image: Image) -> str:
    return f"{_shown(image.name, _digest(image))}{', pulled anew' if image.pull_anew else ''}"


def _shown(image: str, digest: str) -> str:
    return f"{image} ({digest[:SHOWN_DIGEST]})" if digest and "@" not in image else image
