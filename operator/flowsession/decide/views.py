"""What a decision about a session sees: typed, trimmed views of the objects and of what the agent said."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flowsession.api.environment import MinimumCompute
from flowsession.api.session import ComputeSessionSpec
from flowsession.decide.quota import QuotaView
from flowsession.decide.resolution import Resolved, Unresolved
from flowsession.decide.sizes import Offer
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
    ip: str
    node: str
    scheduled_at: float | None
    unscheduled_message: str
    container: ContainerView | None
    vm_size: str = ""
    """Azure's name of the size that it was created with; empty: the chart's defaults."""
    size_terms: str = ""
    """What the size meant for pods when this one was created; see placement.terms."""
    memory_limit: str = ""
    """Of its container, as the manifest has it."""
    marked: bool | None = None
    """Whether autoscalers are told to leave it alone; None: its annotations are not of our making."""

    @property
    def running(self) -> bool:
        """Whether its container runs and has an address."""
        return self.phase == "Running" and bool(self.ip) and self.container is not None and self.container.running_since is not None


@dataclass(frozen=True)
class InstallView:
    """What the agent says of the last install."""

    state: str = "None"
    packages_revision: str = ""
    tool: str = ""
    exit_code: int | None = None
    seconds: float = 0.0
    changed: int = 0
    code: str = ""
    message: str = ""
    stdout_tail: str = ""
    stderr_tail: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class AgentState:
    """The agent's answer to a state call."""

    boot_id: str
    version: int
    packages_revision: str
    flow_revision: str
    install: InstallView
    busy: bool
    idle_seconds: float
    what: str
    packages: int
    retired: bool


@dataclass(frozen=True)
class PackageList:
    """The answer to a packages call: how many, and the two forms that the ConfigMap holds."""

    count: int
    table: str
    document: str


@dataclass(frozen=True)
class AgentView:
    """What is known of the agent in the present pod, by calls that this operator made."""

    restarts: int
    """Restart count of the container when it was asked: another one means another agent."""
    calling: bool = False
    """Whether a call is under way; its answer will bring this key up again."""
    following: bool = False
    """Whether that call is only a long poll, which a call with something to say may cut short."""
    asked_at: float = 0.0
    """When the last call ended, well or not."""
    state: AgentState | None = None
    state_at: float = 0.0
    quiet: bool = False
    """Whether the last state brought no news: the version of the one before."""
    told: tuple[str, str] | None = None
    """The (packagesRevision, flowRevision) that it was last told, whether it took them or refused them."""
    told_request: str = ""
    """The install request that it was last told for."""
    kept: str = ""
    """The keep-alive request that it was last told of."""
    error: str = ""
    """Why the last call failed; empty when it was answered."""
    failures: int = 0
    """Calls that failed in a row."""
    failing_since: float = 0.0
    refused: str = ""
    """The agent's own refusal of what it was told (400, 413): asking the same again is of no use."""
    packages: PackageList | None = None


@dataclass(frozen=True)
class AgentArchive:
    """The file agent.pyz that images without an agent get."""

    sha256: str
    base64: str


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
    """When this operator saw the present pod's steps (Created, Scheduled, Running, AgentReady), finer than the API's whole seconds."""
    namespace_ending: bool = False
    offers: tuple[Offer, ...] = ()
    """Every VM size, as a session would get it now."""
    quotas: tuple[QuotaView, ...] = ()
    """Of the session's namespace."""
    minimum_compute: MinimumCompute | None = None
    """What the environment asks for."""
    scaling: ScalingView | None = None
    """What was last read of the present pod's Events."""
    public_keys: str = "{}"
    agent_archive: AgentArchive = field(default=AgentArchive("", ""))
    refused_config_maps: Mapping[str, str] = field(default_factory=dict)
    """ConfigMaps of the operator's own that the API server lately refused, with its words."""
    known_config_maps: Mapping[str, int] = field(default_factory=dict)
    """ConfigMaps of the operator's own that were lately known to exist, name -> number of packages listed in it."""
    settings: Settings = field(default_factory=Settings)
