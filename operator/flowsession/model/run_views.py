"""What the operator knows of a run: its agent's answers, trimmed, and the calls that this operator made."""

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
    """What an agent says of a run."""

    state: str
    """One of the protocol's RUN_STATES."""
    version: int = 0
    total: int = 0
    completed: int = 0
    failed: int = 0
    code: str = ""
    """Why it failed; empty: it did not."""
    message: str = ""
    """The cause; of one that goes on, what its lines wait for."""
    warnings: tuple[str, ...] = ()
    errors: tuple[RunFailure, ...] = ()
    metrics: Mapping[str, str] = field(default_factory=dict)
    tokens: Mapping[str, int] = field(default_factory=dict)
    log_tail: str = ""

    @property
    def over(self) -> bool:
        """Whether its lines are run no more."""
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
    """What this operator's calls found out about a run, in one pod."""

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
    """Whether the agent was told to go on with a run that an earlier one began."""
    refused: str = ""
    """Code of the last call's refusal; empty: it was none."""
    message: str = ""
    """The words of the refusal, or why there was no answer."""
    failures: int = 0
    """Calls in a row without an answer."""


@dataclass(frozen=True)
class Earlier:
    """The run whose outputs are to be data of another one."""

    name: str
    uid: str
    user: str
    phase: str
    """Empty: nothing is said of it yet."""
    config_maps: tuple[str, ...]
    """Where its outputs are kept."""
    claim: ClaimFolder | None = None
    """Or where on a claim."""
    waits_for: tuple[str, ...] = ()
    """The runs on which it builds in turn; they end with the first name that comes twice."""
    environment: str = ""
    spec: FlowRunSpec | None = None
    """Its settings: for one that was resumed those of the first of them; None: that one is gone."""
    yaml: RunYaml = field(default_factory=RunYaml)
    """What else the run.yml of that one says."""
    earlier: "Earlier | None" = None
    """The run whose outputs are its data."""
