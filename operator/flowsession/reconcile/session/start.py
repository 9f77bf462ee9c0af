"""The way to a running pod: create it, replace a lost one with back-off, and say what Kubernetes says while it isn't running."""

from typing import Any

from flowsession.api.session import Phase
from flowsession.manifests import anchor_pod, placement, pod_metadata
from flowsession.manifests import session_pod as pods
from flowsession.model import pod_images as podimages
from flowsession.model import times
from flowsession.model.resolved import Resolved
from flowsession.model.sizes import Offer
from flowsession.model.times import moment
from flowsession.model.views import PULL_REASONS, REFUSED_SECONDS, PodView
from flowsession.reconcile import identity as accounts
from flowsession.reconcile import scheduling
from flowsession.reconcile.restarts import BROKEN_REASONS, ENDED, cause_of_absence, cause_of_end, died, remove
from flowsession.reconcile.session import authorship, identity, missing_values, restart
from flowsession.reconcile.session.draft import Draft, Live
from flowsession.reconcile.session.snapshot import SessionSnapshot
from flowsession.reconcile.session.vm_size import allocate


def pod_of(snapshot: SessionSnapshot, environment: Resolved, incarnation: int) -> pods.SessionPod:
    """What the session's pod shall be."""
    return pods.SessionPod(
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


def have_a_pod(draft: Draft) -> bool:  # noqa: C901, PLR0911 - each way to have none has an end of its own
    """Sees to it that there is exactly one pod: none is created while another one of this session still exists."""
    snapshot, now = draft.snapshot, draft.now
    pod = draft.pod
    strays = [other for other in snapshot.pods if other is not pod]
    for stray in strays:
        remove(draft, stray)
    if pod is not None and pod.phase in ENDED:
        return restart.start_again(draft, *cause_of_end(pod))
    if pod is not None and _starts_in_vain(draft, pod):
        return False
    if pod is not None:
        return True
    if name := snapshot.status.get("podName"):
        return restart.start_again(draft, *cause_of_absence(str(name), snapshot.pods))
    if strays:
        return False  # the status says already that it is starting again
    due = moment(draft.status.get("startedAt"), 0.0) if draft.incarnation > 1 else 0.0
    if now < due:
        draft.look_again(due)
        return False
    if _must_wait(draft):
        return False
    allocated, size = allocate(draft)
    if not allocated:
        return False
    acts_as = identity.for_next_pod(draft)
    if acts_as is None:
        return False
    environment = snapshot.environment
    assert isinstance(environment, Resolved), "the stage before saw to it"
    wanted = pod_of(snapshot, environment, draft.incarnation)
    if wanted.brings_the_agent and not _bring_the_agent(draft):
        return False
    draft.only_progress(since=now)
    authorship.give(draft)
    manifest = accounts.with_identity(pods.manifest(wanted), acts_as)
    manifest = _where_it_belongs(snapshot, manifest, size)
    draft.create(pods.with_limited_storage(manifest, snapshot.settings.session.ephemeral_storage_limit))
    if environment.files is not None and not snapshot.saved_known and not snapshot.predecessor:
        draft.look_for_edits(draft.incarnation)
    return False


def _must_wait(draft: Draft) -> bool:
    """Whether no pod may be created as the environment and the session's spec are now; says why."""
    if said := authorship.withheld(draft):
        draft.judge("InSync", False, authorship.REASON, said)
        draft.not_ready(Phase.PENDING, authorship.REASON, said)
        return True
    if said := pod_metadata.refusal(draft.snapshot.spec, draft.snapshot.settings.session.pod_metadata):
        draft.judge("ComputeAllocated", False, pod_metadata.REASON, said)
        draft.not_ready(Phase.PENDING, pod_metadata.REASON, said)
        return True
    return False


def _bring_the_agent(draft: Draft) -> bool:
    """Sees to it that the ConfigMap with the agent is there; else the status says why it is not."""
    snapshot = draft.snapshot
    archive = pods.agent_config_map(snapshot.namespace, snapshot.agent_archive)
    name = archive["metadata"]["name"]
    if name in snapshot.refused_config_maps:
        said = f"the session's agent can't be brought to the pod: {snapshot.refused_config_maps[name]}"
        draft.judge("ComputeAllocated", False, "ConfigMapRefused", said)
        draft.not_ready(Phase.PENDING, "ConfigMapRefused", said)
        draft.look_again(draft.now + REFUSED_SECONDS)
        return False
    if name not in snapshot.known_config_maps:
        draft.create(archive)
    return True


def _where_it_belongs(snapshot: SessionSnapshot, manifest: dict[str, Any], size: Offer | None) -> dict[str, Any]:
    ref = snapshot.spec.compute.instance_ref
    if ref is not None:
        return anchor_pod.beside(manifest, snapshot.instances[ref.name], size)
    return placement.placed(manifest, size, snapshot.minimum_compute)


def _starts_in_vain(draft: Draft, pod: PodView) -> bool:
    """Lets go of a pod that can't start, where one that was created now could."""
    if _has_wrong_image(draft, pod):
        restart.leave_the_pod(draft)
        what = f"{_whose(draft)} image has changed before {pod.started_from or pod.image} ran; starting again with it"
        draft.not_ready(Phase.STARTING, "Starting", what)
        return True
    if _can_not_pull(draft, pod) and identity.pulls_in_vain(draft, pod):
        restart.leave_the_pod(draft)
        draft.not_ready(Phase.STARTING, "Starting", "the session's ServiceAccount has changed; starting again with it")
        return True
    if _has_wrong_settings(draft, pod):
        restart.leave_the_pod(draft)
        draft.not_ready(
            Phase.STARTING, "Starting", "spec.env or spec.podMetadata have changed before the session ran; starting again with them"
        )
        return True
    return False


def _whose(draft: Draft) -> str:
    environment = draft.snapshot.environment
    return f"the {environment.image.whose}" if isinstance(environment, Resolved) else "the"


def _has_wrong_image(draft: Draft, pod: PodView) -> bool:
    """A running session is never restarted for another image, but one whose image does not even start had better start with the right
    one."""
    environment = draft.snapshot.environment
    return (
        isinstance(environment, Resolved)
        and podimages.changed(pod, environment.image)
        and pod.container is not None
        and pod.container.waiting_reason in PULL_REASONS | BROKEN_REASONS
        and not draft.snapshot.status.get("readyAt")
    )


def _has_wrong_settings(draft: Draft, pod: PodView) -> bool:
    """Whether the container can't be created by the settings that the pod has, and the spec has others by now."""
    waits = pod.container.waiting_reason if pod.container else ""
    changed = bool(pod.settings) and pod.settings != pods.settings_of(draft.snapshot.spec)
    return changed and waits in BROKEN_REASONS and not draft.snapshot.status.get("readyAt")


def _can_not_pull(draft: Draft, pod: PodView) -> bool:
    """Whether the pod has not run yet since its image can't be pulled."""
    return pod.container is not None and pod.container.waiting_reason in PULL_REASONS and not draft.snapshot.status.get("readyAt")


def follow_the_pod(draft: Draft, live: Live) -> bool:
    """Says how far the pod is. Goes on when its container runs and has an address."""
    pod = live.pod
    _remember(draft, pod)
    if pod.running:
        draft.judge("ComputeAllocated", True, "Allocated", f"on node {pod.node}")
        return True
    container = pod.container
    if pod.unscheduled_message:
        reason, message = scheduling.unschedulable(draft, pod, draft.snapshot.scaling)
        draft.judge("ComputeAllocated", False, reason, message)
        draft.not_ready(Phase.PENDING, reason, message)
    elif container is not None and container.waiting_reason in PULL_REASONS:
        draft.judge("ComputeAllocated", True, "Allocated", f"on node {pod.node}")
        draft.not_ready(Phase.STARTING, "ImagePullFailed", _pull(draft, pod))
    elif container is not None and (container.waiting_reason in BROKEN_REASONS or container.ended_reason):
        draft.judge("ComputeAllocated", True, "Allocated", f"on node {pod.node}")
        reason, message = missing_values.cause(draft, pod) or died(pod)
        draft.not_ready(Phase.FAILED, reason, message)
    else:
        where = f"on node {pod.node}" if pod.node else "waiting for the scheduler"
        draft.judge("ComputeAllocated", True if pod.node else None, "Allocated" if pod.node else "Scheduling", where)
        draft.not_ready(Phase.STARTING, "Starting", f"pod {pod.name}: {where}, its container is being created")
        draft.only_progress(since=draft.began(pod))
    time_out(draft, pod, "its container runs")
    return False


def time_out(draft: Draft, pod: PodView, stage: str) -> None:
    """After `startTimeoutSeconds` the cause gets the words StartTimeout in front; the start goes on."""
    limit = draft.snapshot.spec.start_timeout_seconds
    began = max(pod.created_at, moment(draft.status.get("startedAt"), pod.created_at))
    if draft.now < began + limit:
        draft.look_again(began + limit)
        return
    said = draft.said("Ready")
    draft.not_ready(Phase.FAILED, "StartTimeout", f"not started after {limit} s, still waiting until {stage}: {said}")


def _remember(draft: Draft, pod: PodView) -> None:
    """What the status says of the pod itself."""
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
    said = container.waiting_message.strip() if container else ""
    before, cause = draft.was("Ready"), f"image {pod.started_from or pod.image} can't be pulled;"
    if container and container.waiting_reason == "ImagePullBackOff" and before and (at := before.message.find(cause)) >= 0:
        return before.message[at:]  # the back-off's own words name no cause
    said = said or "no further word from the node"
    environment = draft.snapshot.environment
    way = podimages.way_out(pod, environment.image, draft.snapshot.settings) if isinstance(environment, Resolved) else ""
    return f"{cause} check its name and the cluster's access to the registry{way}: {said}{identity.to_pull(draft, pod, said)}"
