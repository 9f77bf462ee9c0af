"""What a decision about a session sees: typed, trimmed views of the objects and of what the agent said."""

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
    """The request annotations, by what they ask for: reset, install, resume, keepAlive."""
    environment: Resolved | Unresolved | None
    """None: not known yet, look again when it is. A missing environment is Unresolved."""
    environment_uid: str
    pods: tuple[PodView, ...]
    agent: AgentView | None
    refusal: Refusal | None
    older_session: str
    """Name of an older session of the same user and environment, or empty."""
    pod_timestamps: Mapping[str, float] = field(default_factory=dict)
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
    queued: int = 0
    """How many objects wait for a decision."""
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
