"""What decisions see of pods, of what the API server refused, and of instances: typed, trimmed views."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flowsession.api.identity import Identity


@dataclass(frozen=True)
class Authorship:
    """Who made an environment what it is, by the API server's word (api/mutations.py)."""

    uid: str = ""
    owner: str | None = None
    """Empty: the platform. None: from before environments had owners, or from a cluster without MutatingAdmissionPolicy."""
    changed_by: tuple[tuple[str, str], ...] = ()
    """Fields of its spec whose last change was not the owner's, each with the name of who made it."""
    config_maps: tuple[tuple[str, str | None], ...] = ()
    """The ConfigMaps that it names, each with who changed it last; None: not known."""


@dataclass(frozen=True)
class Account:
    """A ServiceAccount."""

    name: str
    version: str = ""
    """Its resourceVersion."""
    assignable: bool = False
    user: str = ""
    """The user whose own it is."""
    client_id: str = ""


@dataclass(frozen=True)
class PodIdentity:
    """What a pod was created with."""

    asked: str = ""
    """What was asked for, see `asked`."""
    account: str = ""
    """Name of the ServiceAccount; empty: none, and no credentials."""
    client_id: str = ""
    version: str = ""
    """resourceVersion of the pod's ServiceAccount then: its imagePullSecrets are copied into the pod when that is created."""

    def in_use(self) -> dict[str, Any] | None:
        """What a status says of it."""
        if not self.account:
            return None
        return {"serviceAccountName": self.account} | ({"clientID": self.client_id} if self.client_id else {})

    def __str__(self) -> str:
        return f"ServiceAccount {self.account!r}" if self.account else "no identity"


REFUSED_SECONDS = 60.0
"""How long a refusal of the API server is taken to hold before the same is tried again."""


@dataclass(frozen=True)
class ContainerView:
    """The session's container, as the kubelet reports it. Times in seconds since 1970."""

    running_since: float | None
    restarts: int
    waiting_reason: str
    waiting_message: str
    ended_reason: str
    """Why the last run of it ended: of the present state if it is terminated now, else of the last state."""
    ended_code: int
    ended_message: str
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
    """When its deletion was asked for plus its grace, that is metadata.deletionTimestamp; None while it is wanted."""
    phase: str
    reason: str
    message: str
    disruption: str
    """Reason of its DisruptionTarget condition, where something ended it on purpose."""
    image: str
    """The image that was asked for, whatever an admission webhook made of it, and by whichever digest."""
    ip: str
    node: str
    scheduled_at: float | None
    unscheduled_message: str
    container: ContainerView | None
    settings: str = ""
    """Hash of the session's settings for its pod when this one was created; see pod.settings_of."""
    vm_size: str = ""
    """Azure's name of the size that it was created with; empty: the chart's defaults."""
    size_terms: str = ""
    """What the size meant for pods when this one was created; see placement.terms."""
    memory_limit: str = ""
    """Of its container, as the manifest has it."""
    instance: str = ""
    """Name of the ComputeInstance that it is on, or holds the reservation of."""
    started_from: str = ""
    """The image as the manifest has it."""
    image_update: str = ""
    """The last update of the environment's image when this pod was created."""
    claim: str = ""
    """The claim's folder that it uses in place; see pod.claim_of."""
    environment_uid: str = ""
    """Of the environment that it was created for."""
    protected: bool | None = None
    """Whether autoscalers are told to leave it alone; None: its annotations are not of our making."""
    identity: PodIdentity = field(default_factory=PodIdentity)
    key_ids: frozenset[str] = frozenset()
    """Of the operator's keys that its agent knows; empty where the pod does not say."""

    @property
    def running(self) -> bool:
        """Whether its container runs and has an address."""
        return self.phase == "Running" and bool(self.ip) and self.container is not None and self.container.running_since is not None


@dataclass(frozen=True)
class Refusal:
    """The API server's refusal of the session's pod."""

    reason: str
    message: str
    at: float
    count: int
    """Rounds of refusals: in each, every size that there is quota for by what is known was tried once."""
    sizes: Mapping[str, str] = field(default_factory=dict)
    """The sizes (VMSize objects) that the quota admission refused in this round, with its words."""


@dataclass(frozen=True)
class ScalingView:
    """What the autoscalers and the scheduler said last of a pod that waits for a node."""

    read_at: float
    reason: str = ""
    message: str = ""


@dataclass(frozen=True)
class InstanceView:
    """A ComputeInstance, as the sessions on it see it."""

    name: str
    user: str
    stopped: str = ""
    """Why it does not run, or shall not: User or Idle; empty while it shall run."""
    node: str = ""
    """The node that is reserved; empty while none is."""
    vm_size: str = ""
    """Azure's name of the size of the present reservation."""
    resources: Mapping[str, str] = field(default_factory=dict)
    """What is reserved."""
    said: str = ""
    """Its own words about being not ready."""
    idle_seconds: int = 0
    """Its idle time."""
    idle_at: float | None = None
    """When it has been unused for that long, as far as is known; None: it is not stopped for idleness."""
    all_idle: bool = False
    """Whether every session on it was asked since then, and was without work."""
    identity: Identity = field(default_factory=Identity)


PULL_REASONS = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError", "RegistryUnavailable"}
)
