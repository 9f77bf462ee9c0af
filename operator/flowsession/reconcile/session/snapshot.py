"""What a decision about a session sees: typed, trimmed views of the objects and of what the agent said."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flowsession.api.environment import MinimumCompute
from flowsession.api.identity import Identity
from flowsession.api.session import ComputeSessionSpec
from flowsession.manifests.common import Where
from flowsession.model.agent_views import AgentArchive, AgentView, Hint, SavedEdits
from flowsession.reconcile.environment.resolve import Resolved, Unresolved
from flowsession.reconcile.identity import Account, PodIdentity
from flowsession.reconcile.session.authorship import Authorship
from flowsession.reconcile.size.offer import Offer
from flowsession.reconcile.size.quota import QuotaView
from flowsession.settings import Settings


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
    marked: bool | None = None
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
    quiet_at: float | None = None
    """When it has been unused for that long, as far as is known; None: it is not stopped for idleness."""
    all_quiet: bool = False
    """Whether every session on it was asked since then, and was without work."""
    identity: Identity = field(default_factory=Identity)


@dataclass(frozen=True)
class SessionSnapshot:
    """All that a decision about a session depends on."""

    namespace: str
    name: str
    uid: str
    resource_version: str
    generation: int
    created_at: float
    deleting: bool
    spec: ComputeSessionSpec
    status: Mapping[str, Any]
    requests: Mapping[str, str]
    """The request annotations, by what they ask for: reset, install, resume, keepAlive."""
    environment: Resolved | Unresolved | None
    """None: not known yet, look again when it is. A missing environment is Unresolved."""
    environment_uid: str
    pods: tuple[PodView, ...]
    agent: AgentView | None
    refusal: Refusal | None
    elder: str
    """Name of an older session of the same user and environment, or empty."""
    marks: Mapping[str, float] = field(default_factory=dict)
    """When this operator saw the present pod's steps, such as Created and Running, finer than the API's whole seconds."""
    namespace_ending: bool = False
    offers: tuple[Offer, ...] = ()
    """Every VM size, as a session would get it now."""
    quotas: tuple[QuotaView, ...] = ()
    """Of the session's namespace."""
    instances: Mapping[str, InstanceView] = field(default_factory=dict)
    """Those that concern the session, by name: the one that its spec names and the one that its pod is on."""
    other_instances: tuple[str, ...] = ()
    """Names of all instances of its user in the namespace, where the one that the spec names is not there."""
    authorship: Authorship = field(default_factory=Authorship)
    """Who made the environment what it is."""
    minimum_compute: MinimumCompute | None = None
    """What the environment asks for."""
    scaling: ScalingView | None = None
    """What was last read of the present pod's Events."""
    accounts: tuple[Account, ...] | None = None
    """The namespace's ServiceAccounts; None: not read just now."""
    public_keys: str = "{}"
    agent_archive: AgentArchive = field(default=AgentArchive("", ""))
    refused_config_maps: Mapping[str, str] = field(default_factory=dict)
    """ConfigMaps of the operator's own that the API server lately refused, with its words."""
    known_promptflow: Mapping[str, str] = field(default_factory=dict)
    """What those of them that list packages say of prompt flow in the image."""
    known_config_maps: Mapping[str, int] = field(default_factory=dict)
    """ConfigMaps of the operator's own that were lately known to exist, name -> number of packages listed in it."""
    server_silent: bool = False
    """Whether the API server does not answer: nothing can be ended, so nobody's door is to be closed."""
    saved: SavedEdits | None = None
    """The newest edits that this user and environment have saved, as far as `saved_known`."""
    saved_known: bool = False
    """Whether it was looked for since the present incarnation began."""
    hint: Hint | None = None
    """What the agent of the newest pod has last said by itself."""
    gone_at: float | None = None
    """When the session was found to be gone; what is left of it are its pod and what may have been edited there."""
    predecessor: bool = False
    """Whether the pod of a session that is gone may still have edits of this user and environment that nobody has saved."""
    settings: Settings = field(default_factory=Settings)

    @property
    def where(self) -> Where:
        """Its environment, for the ConfigMaps that are kept for that."""
        return Where(self.namespace, self.spec.environment_ref.name, self.environment_uid)
