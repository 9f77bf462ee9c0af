"""What the operator knows about a run: its agent's answers, trimmed, and the calls that this operator made."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from flowsession.api.run import ClaimFolder, FlowRunSpec
from flowsession.flow.run_yaml import RunYaml


@dataclass(frozen=True)
class RunFailure:
    """A line or an aggregation node that failed."""

    message: str
    line: int | None = None
    node: str = ""


@dataclass(frozen=True)
class RunAnswer:
    """An agent's answer about a run."""

    state: str
    """One of the protocol's RUN_STATES."""
    version: int = 0
    total: int = 0
    completed: int = 0
    failed: int = 0
    code: str = ""
    """Why it failed; empty: it did not fail."""
    message: str = ""
    """The cause, or what the lines of a running one wait for."""
    warnings: tuple[str, ...] = ()
    errors: tuple[RunFailure, ...] = ()
    metrics: Mapping[str, str] = field(default_factory=dict)
    tokens: Mapping[str, int] = field(default_factory=dict)
    log_tail: str = ""

    @property
    def over(self) -> bool:
        """Whether it has ended: no more lines are run."""
        return self.state != "Running"


@dataclass(frozen=True)
class RunReply:
    """The outcome of one call about a run: an answer, its outputs, or a refusal."""

    answer: RunAnswer | None = None
    archive: str = ""
    """The outputs, a .tar.gz in base64."""
    refused: str = ""
    """Code of the refusal."""
    message: str = ""


@dataclass(frozen=True)
class RunView:
    """What this operator's calls found out about a run in one pod."""

    pod: str = ""
    """The pod that was called."""
    calling: bool = False
    asked_at: float = 0.0
    """When the last call ended."""
    answer: RunAnswer | None = None
    archive: str = ""
    lost_outputs: str = ""
    """Why the outputs can't be kept."""
    cancel_asked: bool = False
    again_asked: bool = False
    """Whether the agent was asked to resume a run that an earlier agent began."""
    refused: str = ""
    """Code with which the last call was refused; empty: it was not."""
    message: str = ""
    """The refusal's message, or why there was no answer."""
    failures: int = 0
    """Consecutive calls without an answer."""


@dataclass(frozen=True)
class Earlier:
    """The run that another one builds on: its outputs are that run's data, or it is resumed."""

    name: str
    uid: str
    user: str
    phase: str
    """Empty: unknown yet."""
    config_maps: tuple[str, ...]
    """Where its outputs are kept."""
    claim: ClaimFolder | None = None
    """The folder on a claim where its outputs are kept instead."""
    waits_for: tuple[str, ...] = ()
    """The runs that it builds on in turn, up to the first name that occurs twice."""
    environment: str = ""
    spec: FlowRunSpec | None = None
    """Its settings. If it resumed another run, those of the first run of that chain; None: that run is gone."""
    yaml: RunYaml = field(default_factory=RunYaml)
    """The other settings in the run.yml of that run."""
    earlier: "Earlier | None" = None
    """The run whose outputs are that run's data."""
