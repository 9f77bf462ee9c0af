"""Creates a session's pod, replaces a lost one with back-off, and reports its progress until it runs."""

from dataclasses import dataclass
from typing import Any

from flowsession.api.session import Phase
from flowsession.manifests import anchor_pod, placement, pod_metadata, session_pod
from flowsession.model import pod_images, times
from flowsession.model.resolved import Resolved
from flowsession.model.sizes import Offer
from flowsession.model.times import moment
from flowsession.model.views import PULL_REASONS, REFUSED_SECONDS, PodIdentity, PodView
from flowsession.reconcile import identity as accounts
from flowsession.reconcile import scheduling
from flowsession.reconcile.restarts import BROKEN_REASONS, ENDED, cause_of_absence, cause_of_container_end, cause_of_end, remove
from flowsession.reconcile.session import authorship, identity, missing_values, restart, vm_size
from flowsession.reconcile.session.draft import Draft, Live
from flowsession.reconcile.session.snapshot import SessionSnapshot
from flowsession.reconcile.size.choice import NoSize


@dataclass(frozen=True)
class Needs:
    """What a pod is created from."""

    pod: session_pod.SessionPod
    identity: PodIdentity
    size: Offer | None
    """None: the chart's defaults."""


@dataclass(frozen=True)
class Obstacle:
    """Why no pod can be created, and the condition that reports it in addition to Ready."""

    condition: str
    reason: str
    message: str
    look_again_at: float | None = None


def pod_of(snapshot: SessionSnapshot, environment: Resolved, incarnation: int) -> session_pod.SessionPod:
    """Return what the session's pod is made from."""
    return session_pod.SessionPod(
        namespace=snapshot.namespace,
        session=snapshot.name,
        uid=snapshot.uid,
        incarnation=incarnation,
        spec=snapshot.spec,
        environment=environment,
        environment_uid=snapshot.environment_uid,
        public_keys=snapshot.public_keys,
        agent=snapshot.agent_archive,
        settings=snapshot.settings,
    )


def have_a_pod(draft: Draft) -> bool:
    """Ensure that the session has exactly one pod. None is created while another pod of the session still exists."""
    pod = draft.pod
    others = [other for other in draft.snapshot.pods if other is not pod]
    for other in others:
        remove(draft, other)
    if pod is not None:
        return _stays(draft, pod)
    if name := draft.snapshot.status.get("podName"):
        restart.start_again(draft, *cause_of_absence(str(name), draft.snapshot.pods))
    elif not others and _is_due(draft):
        _create(draft)
    return False


def _stays(draft: Draft, pod: PodView) -> bool:
    """Return whether the session continues with this pod. If not, let the pod go."""
    if pod.phase in ENDED:
        return restart.start_again(draft, *cause_of_end(pod))
    outdated = _outdated(draft, pod)
    if outdated:
        restart.leave_the_pod(draft)
        draft.not_ready(Phase.STARTING, "Starting", outdated)
    return not outdated


def _is_due(draft: Draft) -> bool:
    """Return whether the back-off after a lost pod is over."""
    due = moment(draft.status.get("startedAt"), 0.0) if draft.incarnation > 1 else 0.0
    if draft.now < due:
        draft.look_again(due)
    return draft.now >= due


def _create(draft: Draft) -> None:
    """Create the pod, or write why it can't be created."""
    snapshot, needs = draft.snapshot, _needs(draft)
    if isinstance(needs, Obstacle):
        draft.set_condition(needs.condition, False, needs.reason, needs.message)
        draft.not_ready(Phase.PENDING, needs.reason, needs.message)
        if needs.look_again_at is not None:
            draft.look_again(needs.look_again_at)
    elif needs is not None:
        draft.only_progress(since=draft.now)
        authorship.give(draft)
        if needs.pod.brings_the_agent:
            _bring_the_agent(draft)
        manifest = accounts.with_identity(session_pod.manifest(needs.pod), needs.identity)
        manifest = _where_it_belongs(snapshot, manifest, needs.size)
        draft.create(session_pod.with_limited_storage(manifest, snapshot.settings.session.ephemeral_storage_limit))
        if needs.pod.environment.files is not None and not snapshot.saved_known and not snapshot.predecessor:
            draft.look_for_edits(draft.incarnation)


def _needs(draft: Draft) -> Needs | Obstacle | None:
    """Return what the pod is created from, or the first obstacle; None while the namespace's ServiceAccounts are being read."""
    snapshot, environment = draft.snapshot, draft.snapshot.environment
    assert isinstance(environment, Resolved), "the stage before ensures it"
    if message := authorship.withheld(draft):
        return Obstacle("InSync", authorship.REASON, message)
    if message := pod_metadata.refusal(snapshot.spec, snapshot.settings.session.pod_metadata):
        return Obstacle("ComputeAllocated", pod_metadata.REASON, message)
    size = vm_size.choose(snapshot, draft.now)
    if isinstance(size, NoSize):
        return Obstacle("ComputeAllocated", size.reason, size.message, size.look_again_at)
    acts_as = identity.for_next_pod(draft)
    if isinstance(acts_as, accounts.IdentityUnavailable):
        return Obstacle("ComputeAllocated", acts_as.reason, acts_as.message)
    pod = pod_of(snapshot, environment, draft.incarnation)
    if pod.brings_the_agent and (refused := snapshot.refused_config_maps.get(session_pod.agent_config_map_name(pod.agent.sha256))):
        message = f"the session's agent can't be brought to the pod: {refused}"
        return Obstacle("ComputeAllocated", "ConfigMapRefused", message, draft.now + REFUSED_SECONDS)
    return Needs(pod, acts_as, size) if acts_as is not None else None


def _bring_the_agent(draft: Draft) -> None:
    """Create the ConfigMap with the agent unless it exists."""
    archive = session_pod.agent_config_map(draft.snapshot.namespace, draft.snapshot.agent_archive)
    if archive["metadata"]["name"] not in draft.snapshot.known_config_maps:
        draft.create(archive)


def _where_it_belongs(snapshot: SessionSnapshot, manifest: dict[str, Any], size: Offer | None) -> dict[str, Any]:
    ref = snapshot.spec.compute.instance_ref
    if ref is not None:
        return anchor_pod.placed_on(manifest, snapshot.instances[ref.name], size)
    return placement.placed(manifest, size, snapshot.minimum_compute)


def _outdated(draft: Draft, pod: PodView) -> str:
    """Return why a pod that can't start is replaced by a new one, which may be able to; empty if it stays."""
    if _has_wrong_image(draft, pod):
        return f"{_whose(draft)} image has changed before {pod.started_from or pod.image} ran; starting again with it"
    if _can_not_pull(draft, pod) and identity.pulls_in_vain(draft, pod):
        return "the session's ServiceAccount has changed; starting again with it"
    changed = "spec.env, spec.claims or spec.podMetadata have changed before the session ran; starting again with them"
    return changed if _has_wrong_settings(draft, pod) else ""


def _whose(draft: Draft) -> str:
    environment = draft.snapshot.environment
    return f"the {environment.image.whose}" if isinstance(environment, Resolved) else "the"


def _has_wrong_image(draft: Draft, pod: PodView) -> bool:
    """Return whether the environment's image changed before the pod ever ran. A running session is not restarted for another image."""
    environment = draft.snapshot.environment
    return (
        isinstance(environment, Resolved)
        and pod_images.changed(pod, environment.image)
        and pod.container is not None
        and pod.container.waiting_reason in PULL_REASONS | BROKEN_REASONS
        and not draft.snapshot.status.get("readyAt")
    )


def _has_wrong_settings(draft: Draft, pod: PodView) -> bool:
    """Return whether the container can't be created with the pod's settings, and the spec now has others."""
    waits = pod.container.waiting_reason if pod.container else ""
    changed = bool(pod.settings) and pod.settings != session_pod.settings_of(draft.snapshot.spec)
    return changed and waits in BROKEN_REASONS and not draft.snapshot.status.get("readyAt")


def _can_not_pull(draft: Draft, pod: PodView) -> bool:
    """Return whether the pod has not run yet because its image can't be pulled."""
    return pod.container is not None and pod.container.waiting_reason in PULL_REASONS and not draft.snapshot.status.get("readyAt")


def follow_the_pod(draft: Draft, live: Live) -> bool:
    """Write the pod's progress, and return whether its container runs and has an address."""
    pod = live.pod
    _remember(draft, pod)
    if pod.running:
        draft.set_condition("ComputeAllocated", True, "Allocated", f"on node {pod.node}")
        return True
    container = pod.container
    if pod.unscheduled_message:
        reason, message = scheduling.unschedulable(draft, pod, draft.snapshot.scaling)
        draft.set_condition("ComputeAllocated", False, reason, message)
        draft.not_ready(Phase.PENDING, reason, message)
    elif container is not None and container.waiting_reason in PULL_REASONS:
        draft.set_condition("ComputeAllocated", True, "Allocated", f"on node {pod.node}")
        draft.not_ready(Phase.STARTING, "ImagePullFailed", _pull(draft, pod))
    elif container is not None and (container.waiting_reason in BROKEN_REASONS or container.ended_reason):
        draft.set_condition("ComputeAllocated", True, "Allocated", f"on node {pod.node}")
        reason, message = missing_values.cause(draft, pod) or cause_of_container_end(pod)
        draft.not_ready(Phase.FAILED, reason, message)
    else:
        where = f"on node {pod.node}" if pod.node else "waiting for the scheduler"
        draft.set_condition("ComputeAllocated", True if pod.node else None, "Allocated" if pod.node else "Scheduling", where)
        draft.not_ready(Phase.STARTING, "Starting", f"pod {pod.name}: {where}, its container is being created")
        draft.only_progress(since=draft.began(pod))
    time_out(draft, pod, "its container runs")
    return False


def time_out(draft: Draft, pod: PodView, stage: str) -> None:
    """Report StartTimeout with the present cause once `startTimeoutSeconds` have passed; the start continues.

    If the container is restarted after the session was Ready, the time counts from the end of the previous container.
    """
    limit = draft.snapshot.spec.start_timeout_seconds
    began = max(pod.created_at, moment(draft.status.get("startedAt"), pod.created_at))
    if draft.status.get("readyAt") and pod.container is not None:
        began = max(began, pod.container.ended_at or began)
    if draft.now < began + limit:
        draft.look_again(began + limit)
        return
    message = draft.message("Ready")
    draft.not_ready(Phase.FAILED, "StartTimeout", f"not started after {limit} s, still waiting until {stage}: {message}")


def _remember(draft: Draft, pod: PodView) -> None:
    """Write the fields of the status that describe the pod itself."""
    draft.put("podName", pod.name)
    draft.put("incarnation", draft.incarnation)
    draft.put("nodeName", pod.node or None)
    draft.put("identity", pod.identity.in_use())
    draft.put("vmSize", pod.vm_size or draft.snapshot.settings.session.size_name)
    if not draft.status.get("startedAt"):
        draft.put("startedAt", times.stamp(pod.created_at))
    draft.put("baseImage", pod.image)
    if pod.container and pod.container.image_id:
        draft.put("imageDigest", pod.container.image_id)


def _pull(draft: Draft, pod: PodView) -> str:
    container = pod.container
    message = container.waiting_message.strip() if container else ""
    before, cause = draft.was("Ready"), f"image {pod.started_from or pod.image} can't be pulled;"
    if container and container.waiting_reason == "ImagePullBackOff" and before and (at := before.message.find(cause)) >= 0:
        return before.message[at:]  # the back-off's message names no cause
    message = message or "the node gave no reason"
    environment = draft.snapshot.environment
    way = pod_images.pull_advice(pod, environment.image, draft.snapshot.settings) if isinstance(environment, Resolved) else ""
    return f"{cause} check its name and the cluster's access to the registry{way}: {message}{identity.to_pull(draft, pod, message)}"
