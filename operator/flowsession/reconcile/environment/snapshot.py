"""What a decision about a FlowEnvironment sees."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flowsession.api.environment import FlowEnvironmentSpec
from flowsession.images.check import ImageCheck
from flowsession.model.agent_views import AgentView
from flowsession.model.views import PodView, Refusal
from flowsession.reconcile.environment import last_reading
from flowsession.reconcile.environment.last_reading import LastReading
from flowsession.reconcile.environment.sources import ConfigMapView
from flowsession.reconcile.flow_valid import SessionCheck
from flowsession.settings import Settings


@dataclass(frozen=True)
class ImageFacts:
    """What an environment's sessions and its image's registry reported about the image."""

    reported: str = ""
    """The wanted `imageDigest`, from the nodes' reports; see pod_images.reported."""
    promptflow: bool | None = None
    """Whether the image has prompt flow, from its sessions' package lists; None: unknown."""
    check: ImageCheck | None = None
    """The registry's last answer."""


@dataclass(frozen=True)
class ResolverPod:
    """A pod, owned by this environment, that reads a source."""

    view: PodView
    source: str
    """Hash of the source that it reads."""
    refresh: str
    """The refresh request that it answers."""
    agent: AgentView | None = None


@dataclass(frozen=True)
class EnvironmentSnapshot:
    """All that a decision about an environment depends on."""

    namespace: str
    name: str
    generation: int
    resource_version: str
    spec: FlowEnvironmentSpec
    status: Mapping[str, Any]
    config_maps: Mapping[str, ConfigMapView]
    """The ConfigMaps that the environment needs, as last read; absent: not read yet."""
    sessions: int
    check: SessionCheck | None
    """The last verdict on the flow by one of its sessions."""
    written_at: float
    """When this operator last wrote the status, in seconds since 1970; 0 if never."""
    requests: Mapping[str, str] = field(default_factory=dict)
    """Values of the request annotations, by request: refresh, checkVersion, update."""
    image: ImageFacts = field(default=ImageFacts())
    uid: str = ""
    resolvers: tuple[ResolverPod, ...] = ()
    """The pods that read its source."""
    refusal: Refusal | None = None
    """The API server's refusal of the last of these pods."""
    refused_config_maps: Mapping[str, str] = field(default_factory=dict)
    public_keys: str = "{}"
    settings: Settings = field(default_factory=Settings)

    @property
    def last_reading(self) -> LastReading | None:
        """The last reading of the source by a pod; None: no pod reads this source."""
        return last_reading.of(self.spec, self.status)
