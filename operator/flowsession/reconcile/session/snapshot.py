"""What a decision about a session sees: typed, trimmed views of objects and of the agent's answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flowsession.api.environment import MinimumCompute
from flowsession.api.session import ComputeSessionSpec
from flowsession.manifests.common import Where
from flowsession.model.agent_views import AgentArchive, AgentView, Hint, SavedEdits
from flowsession.model.resolved import Resolved, Unresolved
from flowsession.model.sizes import Offer, QuotaView
from flowsession.model.views import Account, Authorship, InstanceView, PodView, Refusal, ScalingView
from flowsession.settings import Settings


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
    """Values of the request annotations, by request: reset, install, resume, keepAlive."""
    environment: Resolved | Unresolved | None
    """None: not resolved yet; the resolution causes the next decision. A missing environment is Unresolved."""
    environment_uid: str
    pods: tuple[PodView, ...]
    agent: AgentView | None
    refusal: Refusal | None
    older_session: str
    """Name of an older session of the same user and environment; empty: none."""
    pod_timestamps: Mapping[str, float] = field(default_factory=dict)
    """When this operator saw the steps of the present pod's start, such as Created and Running; the API has only whole seconds."""
    namespace_ending: bool = False
    offers: tuple[Offer, ...] = ()
    """All VM sizes, as a session would get them now."""
    quotas: tuple[QuotaView, ...] = ()
    """Of the session's namespace."""
    instances: Mapping[str, InstanceView] = field(default_factory=dict)
    """By name: the instance in the session's spec and the one that its pod is on."""
    other_instances: tuple[str, ...] = ()
    """Names of the user's instances in the namespace, if the one in the spec does not exist."""
    applied_by: str = ""
    """Name of the GitOps tool that applies the session; empty: none."""
    authorship: Authorship = field(default_factory=Authorship)
    """Who owns and who changed the environment."""
    minimum_compute: MinimumCompute | None = None
    """The minimum that the environment asks for."""
    scaling: ScalingView | None = None
    """The last Event of an autoscaler about the present pod, as last read."""
    accounts: tuple[Account, ...] | None = None
    """The namespace's ServiceAccounts; None: not read recently enough."""
    public_keys: str = "{}"
    agent_archive: AgentArchive = field(default=AgentArchive("", ""))
    refused_config_maps: Mapping[str, str] = field(default_factory=dict)
    """The operator's own ConfigMaps that the API server refused recently: name -> its message."""
    known_promptflow: Mapping[str, str] = field(default_factory=dict)
    """By the name of the ConfigMap with a list of packages: the version of prompt flow in the image."""
    known_config_maps: Mapping[str, int] = field(default_factory=dict)
    """The operator's own ConfigMaps that existed recently: name -> number of packages listed in it."""
    backlog: int = 0
    """Number of queued decisions or, if that is more, of sessions without a phase."""
    server_silent: bool = False
    """Whether the API server does not answer: the session could not be deleted, so its agent must not retire."""
    saved: SavedEdits | None = None
    """The newest saved edits of this user and environment; meaningless unless `saved_known`."""
    saved_known: bool = False
    """Whether the saved edits were read since the present incarnation began."""
    hint: Hint | None = None
    """The last announcements of the newest pod's agent."""
    gone_at: float | None = None
    """When the session was found to be gone while its pod remains, in seconds since 1970; None: it exists."""
    predecessor: bool = False
    """Whether the pod of a deleted session may still have unsaved edits of this user and environment."""
    settings: Settings = field(default_factory=Settings)

    @property
    def where(self) -> Where:
        """Its environment, as the owner of ConfigMaps."""
        return Where(self.namespace, self.spec.environment_ref.name, self.environment_uid)
