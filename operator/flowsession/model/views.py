"""Typed, trimmed views of pods, of the API server's refusals and of instances, for decisions."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flowsession.api.identity import Identity


@dataclass(frozen=True)
class Authorship:
    """Who owns an environment and who changed it, as recorded by the API server (api/mutations.py)."""

    uid: str = ""
    owner: str | None = None
    """Empty: the platform. None: unknown, because the environment is older than spec.owner or the cluster has no
    MutatingAdmissionPolicy."""
    changed_by: tuple[tuple[str, str], ...] = ()
    """Fields of its spec that somebody other than the owner changed last, each with that user."""
    config_maps: tuple[tuple[str, str | None], ...] = ()
    """The ConfigMaps that it names, each with the user who changed it last; None: unknown."""


@dataclass(frozen=True)
class Account:
    """A ServiceAccount."""

    name: str
    version: str = ""
    """Its resourceVersion."""
    assignable: bool = False
    user: str = ""
    """The user whose own ServiceAccount it is."""
    client_id: str = ""


@dataclass(frozen=True)
class PodIdentity:
    """The identity that a pod was created with."""

    asked: str = ""
    """What the spec requested; see reconcile/identity.py, asked()."""
    account: str = ""
    """Name of the ServiceAccount; empty: none, so no credentials."""
    client_id: str = ""
    version: str = ""
    """resourceVersion of the ServiceAccount at the pod's creation, when its imagePullSecrets were copied into the pod."""

    def in_use(self) -> dict[str, Any] | None:
        """Return `identity` of a status; None: no ServiceAccount."""
        if not self.account:
            return None
        return {"serviceAccountName": self.account} | ({"clientID": self.client_id} if self.client_id else {})

    def __str__(self) -> str:
        return f"ServiceAccount {self.account!r}" if self.account else "no identity"


REFUSED_SECONDS = 60.0
"""Seconds for which a refusal of the API server holds before the same request is retried."""


@dataclass(frozen=True)
class ContainerView:
    """The session's container, as the kubelet reports it. Times in seconds since 1970."""

    running_since: float | None
    restarts: int
    waiting_reason: str
    waiting_message: str
    ended_reason: str
    """Why its last run ended: from the present state if that is terminated, else from the last state."""
    ended_code: int
    ended_message: str
    ended_at: float | None
    image_id: str


@dataclass(frozen=True)
class PodView:
    """A pod of the session."""

    name: str
    namespace: str
    uid: str
    resource_version: str
    created_at: float
    deleting_since: float | None
    """metadata.deletionTimestamp, which is the time of the deletion plus the grace period; None: not being deleted."""
    phase: str
    reason: str
    message: str
    disruption: str
    """Reason of its DisruptionTarget condition; empty: not disrupted."""
    image: str
    """The requested image, even if an admission webhook or a digest replaced it."""
    ip: str
    node: str
    scheduled_at: float | None
    unscheduled_message: str
    container: ContainerView | None
    unready: bool = False
    """Whether its condition Ready is False. While its container runs, that means that its node does not answer: session pods have no
    readiness probe."""
    settings: str = ""
    """Hash of the session's settings at the pod's creation; see session_pod.settings_of."""
    vm_size: str = ""
    """Azure's name of the size at its creation; empty: the chart's defaults."""
    size_terms: str = ""
    """Hash of what the size determined in a pod at its creation; see placement.terms."""
    memory_limit: str = ""
    """Memory limit of its container, from the manifest."""
    instance: str = ""
    """Name of the ComputeInstance that it is on, or whose anchor it is."""
    started_from: str = ""
    """The image in the manifest."""
    image_update: str = ""
    """The last update of the environment's image at the pod's creation."""
    claim: str = ""
    """The claim's folder that it uses in place; see session_pod.claim_of."""
    connections: str = ""
    """The connections that it has; see session_pod.connections_of."""
    tracing: str = ""
    """Where its spans go; see session_pod.tracing_of."""
    environment_uid: str = ""
    """uid of the environment that it was created for."""
    protected: bool | None = None
    """Whether its annotations keep autoscalers away; None: somebody else set them."""
    identity: PodIdentity = field(default_factory=PodIdentity)
    key_ids: frozenset[str] = frozenset()
    """Ids of the operator's keys that its agent knows; empty: unknown."""

    @property
    def running(self) -> bool:
        """Whether its container runs and has an address."""
        return self.phase == "Running" and bool(self.ip) and self.container is not None and self.container.running_since is not None

    @property
    def pending(self) -> bool:
        """Whether it has yet to start."""
        return self.phase == "Pending" and self.deleting_since is None

    @property
    def starting_well(self) -> bool:
        """Whether it has yet to start, and nothing is known that keeps it from that."""
        if not self.pending or self.reason or self.disruption or self.unscheduled_message:
            return False
        container = self.container
        return container is None or (
            container.waiting_reason in ("", "ContainerCreating", "PodInitializing") and not container.ended_reason
        )


@dataclass(frozen=True)
class Refusal:
    """The API server's refusal to create a pod."""

    reason: str
    message: str
    at: float
    count: int
    """Rounds of refusals; in each, every size with quota, as far as known, was tried once."""
    sizes: Mapping[str, str] = field(default_factory=dict)
    """The sizes (VMSize objects) that the quota admission refused in this round, with its messages."""


@dataclass(frozen=True)
class ScalingView:
    """The last Event of an autoscaler about a pod that waits for a node."""

    read_at: float
    reason: str = ""
    message: str = ""


@dataclass(frozen=True)
class InstanceView:
    """A ComputeInstance, as its sessions see it."""

    name: str
    user: str
    stopped: str = ""
    """Who stopped it: User or Idle; empty: it should run."""
    node: str = ""
    """The reserved node; empty: none yet."""
    vm_size: str = ""
    """Azure's name of the reserved size."""
    resources: Mapping[str, str] = field(default_factory=dict)
    """The reserved resources."""
    message: str = ""
    """Message of its Ready condition while it is not ready."""
    idle_seconds: int = 0
    """Its idle timeout."""
    idle_at: float | None = None
    """When it has been idle for that long, as far as known; None: it is never stopped for idleness."""
    all_idle: bool = False
    """Whether every session on it was probed since then, and was idle."""
    identity: Identity = field(default_factory=Identity)


PULL_REASONS = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError", "RegistryUnavailable"}
)
