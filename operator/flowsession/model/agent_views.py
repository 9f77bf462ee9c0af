"""What is known of a session's agent: its answers, trimmed, and the calls that this operator made."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from flowsession.api.source import SourceWarning

FRESH_SECONDS = 5.0
"""How old an agent's word may be when it is acted on."""


AHEAD_SECONDS = 5.0
"""What may lie ahead of this operator's clock; more is the work of a clock that was wrong."""


REFUSED_PAUSE = 1.0
"""Seconds after which an agent is asked again that would not retire although it says that it has been idle for long enough."""


UNDONE_SECONDS = 1.0
"""Seconds after which an end is thought of again that should be done by then: the door of one that failed must not stay closed."""


LONGEST_WARNING = 300.0


_WARNING_SHARE = 0.1


def warned_for(timeout_seconds: float) -> float:
    """Seconds from the warning to the idle end: a tenth of the timeout, or 5 minutes, whichever is less."""
    return min(timeout_seconds * _WARNING_SHARE, LONGEST_WARNING)


AGAIN_SECONDS = 60.0
"""How often a quiet session's agent is asked again while another one on the instance can't be asked."""


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
class EditsView:
    """What the agent says of files of the flow folder that were changed inside the session."""

    revision: str = ""
    """Of the edits that are there now; empty: none that would have to be saved."""
    count: int = 0
    files: tuple[str, ...] = ()
    offered: str = ""
    """Name of the saved edits that the session was given."""
    restored: bool = False
    """Whether they lie in the flow folder."""
    problem: str = ""
    waiting: bool = False
    """Whether there are edits that nobody has saved yet, as far as the agent was told."""
    unheard: bool = False
    """Whether edits wait although the agent has told the operator so: what it sends does not arrive."""
    moved_aside: tuple[str, ...] = ()
    """Files that hold an edit which a push of the environment moved aside."""
    left_out: int = 0
    """Files that are not saved: their names look like those of secrets, or an ignore file names them."""


@dataclass(frozen=True)
class EditsArchive:
    """The answer to an edits call: the edited files, packed. Without a revision there are none; `problem` says why they can't be had."""

    revision: str = ""
    flow_revision: str = ""
    files: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    archive: str = ""
    """A .tar.gz in base64."""
    problem: str = ""
    base: Mapping[str, str] = field(default_factory=dict)
    """By path: the fingerprint of the pushed file that was edited."""


@dataclass(frozen=True)
class Hint:
    """An agent said that there is news: no more than a reason to ask it."""

    at: float = 0.0
    """When it said last that edits wait, in seconds since 1970; 0 for never."""
    ending: bool = False
    """It also said that its container is being stopped."""
    killed_at: float = 0.0
    """When it said last that a process was killed for memory; 0 for never."""


@dataclass(frozen=True)
class SavedEdits:
    """What earlier sessions of the same user and environment have saved; without a name: nothing that can be used."""

    name: str = ""
    """The ConfigMap."""
    saved_at: str = ""
    session: str = ""
    """The session that saved them."""
    revision: str = ""
    """Of these edits, by the agent that had them."""
    flow_revision: str = ""
    deleted: tuple[str, ...] = ()
    base: Mapping[str, str] = field(default_factory=dict)
    archive: str = ""
    """A .tar.gz in base64; empty once the agent has it."""
    lost: str = ""
    """Why what was edited after these could not be saved; empty: they are the last."""
    ignored: tuple[str, ...] = ()
    """ConfigMaps that claim to be saved edits and don't open: the operator did not write them."""


@dataclass(frozen=True)
class FlowProblem:
    """Something that keeps the flow from running, as the agent found it."""

    code: str
    message: str
    file: str = ""
    line: int = 0
    """From 1; 0 where there is none."""
    node: str = ""


@dataclass(frozen=True)
class CheckView:
    """What the agent says of its last check of the flow."""

    state: str = "None"
    """None, Running or Done."""
    flow_revision: str = ""
    packages_revision: str = ""
    verdict: str = ""
    """Valid, Invalid, NoFlow or NotChecked; empty while nothing is known. Invalid may be said before the check is over."""
    reason: str = ""
    nodes: int = 0
    count: int = 0
    problems: tuple[FlowProblem, ...] = ()


@dataclass(frozen=True)
class AgentState:
    """The agent's answer to a state call."""

    version: int
    packages_revision: str
    flow_revision: str
    install: InstallView
    busy: bool
    idle_seconds: float
    what: str
    packages: int
    retired: bool
    edits: EditsView = field(default=EditsView())
    check: CheckView = field(default=CheckView())
    memory_kill: str = ""
    """Names the last time that a process of the session was killed for memory; empty: none was."""
    killed_process: str = ""


@dataclass(frozen=True)
class PackageList:
    """The answer to a packages call: how many, and the two forms that the ConfigMap holds."""

    count: int
    table: str
    document: str
    promptflow: str = ""
    """The version of prompt flow that the image has, whatever was installed over it; empty if it has none."""


@dataclass(frozen=True)
class SourceAnswer:
    """The answer to a call for a source, in a pod that reads one."""

    state: str = "Running"
    """Running, Done or Failed."""
    code: str = ""
    message: str = ""
    """Why it failed."""
    revision: str = ""
    commit: str = ""
    archive: str = ""
    """A .tar.gz in base64."""
    unchanged: bool = False
    """The commit is the one that was known already; nothing was fetched."""
    warnings: tuple[SourceWarning, ...] = ()


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
    empty_polls: int = 0
    """Long polls in a row that brought no news, the version of the one before, although they did not wait for any."""
    polls: int = 0
    """Long polls in a row while it installed nothing: what it checks must come to an end."""
    delivered: tuple[str, str] | None = None
    """The (packagesRevision, flowRevision) that it was last told, whether it took them or refused them."""
    delivered_request: str = ""
    """The install request that it was last told for."""
    kept_alive: str = ""
    """The keep-alive request that it was last told of."""
    error: str = ""
    """Why the last call failed; empty when it was answered."""
    failures: int = 0
    """Calls that failed in a row."""
    failing_since: float = 0.0
    silence: float = 0.0
    """Seconds for which it did not answer: what lay between failed calls, each part capped, so that no clock that jumps adds to it."""
    refused: str = ""
    """The agent's own refusal of what it was told (400, 413): asking the same again is of no use."""
    packages: PackageList | None = None
    edits: EditsArchive | None = None
    edits_at: float = 0.0
    """When it was last asked for edits."""
    saved: str = ""
    """Revision of the edits that this operator saved last."""
    settled: str = ""
    """Revision of the edits that the agent was told are dealt with, saved or not."""
    source: SourceAnswer | None = None
    calls: float = 0.0
    """Calls that it was given lately, at the end of the last one; model/patience.py has how they are forgotten."""
    bad_answers: float = 0.0
    """Of them, those whose answers were of no use, forgotten more slowly."""


@dataclass(frozen=True)
class AgentArchive:
    """The file agent.pyz that images without an agent get."""

    sha256: str
    base64: str
