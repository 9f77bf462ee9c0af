"""Whether a session may get the token of its environment's feed: not if its user decides which programs handle the token."""

from flowsession.api.environment import ImageOrigin
from flowsession.api.pod_settings import controls_loading
from flowsession.manifests.session_pod import settings_of
from flowsession.model import pod_images
from flowsession.model.resolved import Resolved
from flowsession.model.views import PodView
from flowsession.reconcile.requests import REQUESTS
from flowsession.reconcile.session.snapshot import SessionSnapshot


def problem(snapshot: SessionSnapshot, pod: PodView, environment: Resolved) -> str:
    """Return why this pod must not get the token of the environment's Secret and what to do, without a final period; empty if it may.

    The agent compares the Secret's hosts with the feeds (flowsession_agent.feeds.credentials).
    """
    whose = "the token of the environment's Secret is not given to a session"
    if names := sorted({variable.name for variable in snapshot.spec.env or () if controls_loading(variable.name)}):
        return (
            f"{whose} whose spec.env sets {', '.join(names)}, which decides what programs see the token: remove that, and reset the session"
        )
    if environment.image.origin is None:
        way = "leave spec.baseImage of the session empty, or have the image set as spec.baseImage of the environment"
        return f"{whose} with an image of its user's choice: {way}"
    if environment.image.origin is ImageOrigin.FLOW and not snapshot.settings.images.allowed_registries:
        way = (
            "have somebody who may read the Secret set it as spec.baseImage of the environment, or set the chart's images.allowedRegistries"
        )
        return f"{whose} whose image {environment.image.name} is named by flow.dag.yaml alone, which others may write: {way}"
    if pod_images.changed(pod, environment.image) or (pod.settings and pod.settings != settings_of(snapshot.spec)):
        return f"{whose} whose pod has another image or other variables than its spec says now: reset it by {REQUESTS['reset']}"
    return ""
