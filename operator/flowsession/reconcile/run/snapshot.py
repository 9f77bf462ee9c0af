"""What a decision about a FlowRun sees."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flowsession.api.identity import Identity
from flowsession.api.run import FlowRunSpec
from flowsession.flow.run_yaml import RunYaml
from flowsession.model.resolved import Resolved, Unresolved
from flowsession.model.run_views import Earlier, RunView
from flowsession.model.views import PodView


@dataclass(frozen=True)
class Place:
    """A session in which the run may be placed."""

    session: str
    user: str
    environment: str
    pod: str
    """Name of its pod; empty: the session is not Ready."""
    phase: str
    size: str = ""
    """Its VM size; empty: not chosen yet."""
    instance: str = ""
    """Its ComputeInstance."""
    identity: Identity = field(default_factory=Identity)
    claims: Mapping[str, bool] = field(default_factory=dict)
    """The claims that it mounts, and whether it may write there."""
    running: PodView | None = None
    """Its running pod, if any."""


@dataclass(frozen=True)
class Rival:
    """Another run of the same user that is not over."""

    name: str
    order: tuple[float, str]
    """Creation time and uid: the order in which runs get their turn."""
    session: str
    """The session that it is in, or that it names; empty: any."""
    placed: bool
    """Whether it was its turn already: its status names a pod."""
    environment: str


@dataclass(frozen=True)
class RunSnapshot:
    """All that a decision about a FlowRun depends on."""

    namespace: str
    name: str
    uid: str
    resource_version: str
    generation: int
    created_at: float
    deleting: bool
    spec: FlowRunSpec
    """Including the settings in its run.yml."""
    status: Mapping[str, Any]
    yaml: RunYaml = field(default_factory=RunYaml)
    """The rest of its run.yml."""
    problem: str = ""
    """Why its run.yml can't be used; empty: it can."""
    sessions: tuple[Place, ...] = ()
    """The session that the spec names, else all sessions of the user and environment, oldest first."""
    environment: Resolved | Unresolved | None = None
    """What the run's environment resolves to, if the spec names a session of another environment; None: unknown yet, or not needed."""
    pod: PodView | None = None
    """The pod of status.podName."""
    rivals: tuple[Rival, ...] = ()
    refusal: str = ""
    """Why the API server refused to create a session for the run."""
    earlier: Earlier | None = None
    """The run that spec.run or spec.resumeFrom names; None: it names none, or the run does not exist."""
    view: RunView = field(default_factory=RunView)
    refused_config_maps: Mapping[str, str] = field(default_factory=dict)
    """ConfigMaps that the API server refused recently, with its messages."""
    namespace_ending: bool = False
    written_at: float = 0.0
