"""What the operator knows about a session's agent: its answers, trimmed, and the calls that this operator made."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from flowsession.api.source import SourceWarning

FRESH_SECONDS = 5.0
"""Maximum age of an agent's answer that is acted on."""

AHEAD_SECONDS = 5.0
"""Seconds by which a timestamp may be ahead of this operator's clock; if it is further ahead, some clock was wrong."""

REFUSED_PAUSE = 1.0
"""Seconds until an agent is asked again after it refused to retire although it reports enough idleness."""

UNDONE_SECONDS = 1.0
"""Seconds until an end is decided again. Normally it is done by then; if it failed, the session must not stay retired."""

AGAIN_SECONDS = 60.0
"""Seconds between two probes of an idle session whose instance waits for another session's agent."""

LONGEST_WARNING = 300.0

_WARNING_SHARE = 0.1


def warned_for(timeout_seconds: float) -> float:
    """Return the seconds from the warning to the idle end: a tenth of the timeout, at most 5 minutes."""
    return min(timeout_seconds * _WARNING_SHARE, LONGEST_WARNING)


@dataclass(frozen=True)
class InstallView:
    """The last install, as the agent reports it."""

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
    """The files of the flow folder that were changed inside the session, as the agent reports them."""

    revision: str = ""
    """Revision of the present edits; empty: there is nothing to save."""
    count: int = 0
    files: tuple[str, ...] = ()
    offered: str = ""
    """Name of the saved edits that the session was offered."""
    restored: bool = False
    """Whether the offered edits were written to the flow folder."""
    problem: str = ""
    waiting: bool = False
    """Whether some edits are unsaved, as far as the agent knows."""
    unheard: bool = False
    """Whether edits are still unsaved after the agent's datagrams, which means that these don't arrive."""
    moved_aside: tuple[str, ...] = ()
    """Files with edits that a push of the environment moved aside."""
    left_out: int = 0
    """Number of files that are not saved, because an ignore file names them or their names look like those of secrets."""


@dataclass(frozen=True)
class EditsArchive:
    """The answer to an edits call: the edited files, packed. Empty revision: there are none, or `problem` says why they are missing."""

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
    """An agent's unsolicited announcement, which is only a reason to call the agent."""

    at: float = 0.0
    """When it last announced unsaved edits, in seconds since 1970; 0: never."""
    ending: bool = False
    """Whether it also announced that its container is being stopped."""
    killed_at: float = 0.0
    """When it last announced that a process was killed for lack of memory; 0: never."""
    checked_at: float = 0.0
    """When it last announced another verdict on its flow; 0: never."""


@dataclass(frozen=True)
class SavedEdits:
    """What earlier sessions of the same user and environment saved; an empty name: nothing usable."""

    name: str = ""
    """The ConfigMap."""
    saved_at: str = ""
    session: str = ""
    """The session that saved them."""
    revision: str = ""
    """Revision of these edits, as computed by their agent."""
    flow_revision: str = ""
    deleted: tuple[str, ...] = ()
    base: Mapping[str, str] = field(default_factory=dict)
    archive: str = ""
    """A .tar.gz in base64; empty once it was delivered to the agent."""
    lost: str = ""
    """Why later edits could not be saved; empty: there are none."""
    ignored: tuple[str, ...] = ()
    """ConfigMaps that are labeled as saved edits but can't be decrypted: the operator did not write them."""


@dataclass(frozen=True)
class FlowProblem:
    """Something that keeps the flow from running, found by the agent."""

    code: str
    message: str
    file: str = ""
    line: int = 0
    """From 1; 0 if unknown."""
    node: str = ""


@dataclass(frozen=True)
class CheckView:
    """The last check of the flow, as the agent reports it."""

    state: str = "None"
    """None, Running or Done."""
    flow_revision: str = ""
    packages_revision: str = ""
    verdict: str = ""
    """Valid, Invalid, NoFlow or NotChecked; empty: unknown yet. Invalid may appear before the check is over."""
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
    """Id of the last kill of a process for lack of memory; empty: no process was killed."""
    killed_process: str = ""


@dataclass(frozen=True)
class PackageList:
    """The answer to a packages call: the count, and the two forms that the ConfigMap holds."""

    count: int
    table: str
    document: str
    promptflow: str = ""
    """Version of prompt flow in the image, whatever was installed over it; empty: the image has none."""


@dataclass(frozen=True)
class SourceAnswer:
    """The answer of a pod that reads a source."""

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
    """Whether the commit is the one that the request named; nothing was fetched then."""
    warnings: tuple[SourceWarning, ...] = ()


@dataclass(frozen=True)
class AgentView:
    """What this operator's calls found out about the agent in the present pod."""

    restarts: int
    """Restart count of the container at the call: a different count means a different agent."""
    calling: bool = False
    """Whether a call is in flight; its answer causes the next decision."""
    following: bool = False
    """Whether that call is a long poll, which other calls may interrupt."""
    asked_at: float = 0.0
    """When the last call ended, whatever its outcome."""
    state: AgentState | None = None
    state_at: float = 0.0
    empty_polls: int = 0
    """Consecutive long polls that returned at once without news."""
    polls: int = 0
    """Consecutive long polls without a running install, which limit how long a check may take."""
    delivered: tuple[str, str] | None = None
    """The (packagesRevision, flowRevision) delivered last, accepted or refused."""
    delivered_request: str = ""
    """The install request of that delivery."""
    kept_alive: str = ""
    """The keep-alive request delivered last."""
    error: str = ""
    """Why the last call failed; empty: it was answered."""
    failures: int = 0
    """Consecutive failed calls."""
    failing_since: float = 0.0
    silence: float = 0.0
    """Seconds between consecutive failed calls, each interval capped, so that a clock that jumps does not inflate it."""
    refused: str = ""
    """Why the agent refused the delivery (400, 413): the same delivery would be refused again."""
    packages: PackageList | None = None
    edits: EditsArchive | None = None
    edits_at: float = 0.0
    """When it last answered with its edits, in seconds since 1970."""
    edits_asked_at: float = 0.0
    """When that call began: edits announced since may be missing from its answer."""
    saved: str = ""
    """Revision of the edits that this operator saved last."""
    settled: str = ""
    """Revision of the edits that the agent no longer has to wait for, saved or not."""
    source: SourceAnswer | None = None
    calls: float = 0.0
    """Recent calls, decayed until the end of the last one (model/call_limits.py)."""
    bad_answers: float = 0.0
    """Recent calls with useless answers; they decay more slowly."""


@dataclass(frozen=True)
class AgentArchive:
    """The file agent.pyz, for images without an agent."""

    sha256: str
    base64: str
