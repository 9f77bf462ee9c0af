"""The revisions that the session should have, and those that its container has."""

from dataclasses import dataclass

from flowsession.api.session import OnChange
from flowsession.manifests.session_pod import claim_of, connections_of, tracing_of
from flowsession.model import pod_images
from flowsession.model.conditions import Verdict
from flowsession.model.resolved import Resolved
from flowsession.model.views import PodView
from flowsession.reconcile import requests
from flowsession.reconcile.session.draft import Draft

NOT_INSTALLED = (
    f"the environment's requirements could not be installed; correct them, or try again by the annotation {requests.REQUESTS['install']}"
)


@dataclass(frozen=True)
class Target:
    """Revisions of packages and flow folder."""

    packages: str
    flow: str


def target(draft: Draft, environment: Resolved) -> Target:
    """Return the revisions that the session should have: the environment's, but with `onChange: Wait` new packages only on request."""
    wanted = Target(environment.packages_revision, environment.flow_revision)
    pod = draft.pod
    if draft.snapshot.spec.on_change != OnChange.WAIT or requests.pending(draft, "install") or not pod:
        return wanted
    agent = draft.agent_of(pod)
    state = agent.state if agent else None
    has = (state.packages_revision if state else "") or draft.snapshot.status.get("packagesRevision")
    delivered = agent is not None and agent.delivered is not None and agent.delivered[0] == wanted.packages
    begun = state is not None and state.install.state == "Running" and state.install.packages_revision == wanted.packages
    waits = draft.was_ready and same_container(draft, pod) and not delivered and not begun
    return Target(has, wanted.flow) if waits and has else wanted


def settled(draft: Draft, pod: PodView) -> bool:
    """Return whether the status shows that no call is needed: this container has all it should have, or only a new pod could."""
    environment, status = draft.snapshot.environment, draft.snapshot.status
    if not isinstance(environment, Resolved) or not draft.was_ready or not same_container(draft, pod) or was_installing(draft):
        return False
    has = Target(status.get("packagesRevision") or "", status.get("flowRevision") or "")
    return (has == target(draft, environment) and not requests.pending(draft, "install")) or takes_another_pod(pod, environment) is not None


def was_installing(draft: Draft) -> bool:
    """Return whether the status reports a running install."""
    return draft.reason_before("PackagesInstalled") == "Installing"


def same_container(draft: Draft, pod: PodView) -> bool:
    """Return whether the status shows that this container was ready. Its restart count identifies it, since nodes' clocks differ."""
    status = draft.snapshot.status
    restarts = pod.container.restarts if pod.container else 0
    return bool(status.get("readyAt")) and status.get("podName") == pod.name and status.get("containerRestarts") == restarts


def out_of_sync(draft: Draft, environment: Resolved) -> str:
    """Return why the session's packages, which wait for a request, differ from the environment's."""
    tried = (draft.snapshot.status.get("install") or {}).get("revision") == environment.packages_revision
    before = draft.was("PackagesInstalled")
    if tried and before is not None and before.status == "False":
        return NOT_INSTALLED
    return f"the environment's requirements have changed; install them by the annotation {requests.REQUESTS['install']}"


def takes_another_pod(pod: PodView, environment: Resolved) -> Verdict | None:
    """Return the change of the environment that a running pod can't take up, or None."""
    if pod_images.changed(pod, environment.image):
        return Verdict(False, "ImageChanged", f"the {environment.image.whose} image is now {environment.image.reference}")
    if pod.claim != claim_of(environment.claim):
        now = f"the PersistentVolumeClaim {environment.claim.name!r}" if environment.claim else "no PersistentVolumeClaim any more"
        return Verdict(False, "FlowChanged", f"the environment's flow folder is now {now}, or another folder of it")
    if pod.connections != connections_of(environment.connections):
        now = ", ".join(sorted(connection.name for connection in environment.connections)) or "none"
        return Verdict(False, "ConnectionsChanged", f"the environment's connections, or their Secrets, have changed; they are now {now}")
    if pod.tracing != tracing_of(environment.tracing):
        now = f"spans of tests and runs now go to {environment.tracing.endpoint}" if environment.tracing else "spans now go nowhere"
        return Verdict(False, "TracingChanged", f"the tracing of the environment, or of the chart, has changed: {now}")
    return None
