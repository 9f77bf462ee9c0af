"""The JSON of the agent's HTTP API, by docs/agent-protocol.md: types only, so that neither side can misname a member.

What comes in is no such thing before it was read: the agent refuses an order that makes no sense (`server/order.py`), the operator takes an
answer as hostile input (`cluster/agent/answers.py`). Members that may be absent stand in a class of their own, for Python 3.9.
"""

from __future__ import annotations

from typing import Any, Literal, Mapping, Sequence, TypedDict

INSTALL_STATES = ("None", "Running", "Succeeded", "Failed", "TimedOut")
CHECK_VERDICTS = ("Valid", "Invalid", "NoFlow", "NotChecked")
RUN_STATES = ("Running", "Completed", "Failed", "Canceled", "Lost")
RUN_FAILURES = ("AggregationFailed", "DataInvalid", "DataNotFound", "FlowInvalid", "LinesFailed", "RunFailed", "SessionIncompatible")
"""Why a run failed, as conditions have it."""
CANCELED = "canceled"
"""Message of a run that was canceled; in its place the last refusal of an endpoint that its log has, if there is one."""
RUN_END_SECONDS = 20
"""How long the lines of a canceled run that are under way have to end; then all of its processes are killed."""
LAYERS = ("image", "requirements", "dependency")
"""Where a package comes from."""


class About(TypedDict):
    """The agent itself."""

    version: str
    protocol: int
    python: str


class Revisions(TypedDict):
    """What is in the session now; empty before the first."""

    packagesRevision: str
    flowRevision: str


class Install(TypedDict):
    """The last install, running or over."""

    state: str
    packagesRevision: str
    tool: str
    exitCode: int
    seconds: float
    changed: int
    code: str
    message: str
    stdoutTail: str
    stderrTail: str
    warnings: list[str]


class Problem(TypedDict, total=False):
    """Something that keeps the flow from running, or a warning; `file`, `line` and `node` where there is one."""

    code: str
    message: str
    file: str
    line: int
    node: str


class Check(TypedDict):
    """The last check of the flow."""

    state: str
    flowRevision: str
    packagesRevision: str
    verdict: str
    reason: str
    nodes: int | None
    count: int
    problems: list[Problem]
    warnings: list[Problem]
    seconds: float


class Activity(TypedDict):
    """What works in the session."""

    busy: bool
    idleSeconds: float
    what: str


class Count(TypedDict):
    """How many packages are installed."""

    count: int


class _Edits(TypedDict):
    count: int
    files: list[str]
    bytes: int
    revision: str
    offered: str
    restored: bool


class Edits(_Edits, total=False):
    """What was edited in the flow folder."""

    waiting: bool
    unheard: bool
    leftOut: int
    leftOutFiles: list[str]
    kept: list[str]
    more: bool
    discarded: bool
    saved: bool
    problem: str


class MemoryKill(TypedDict):
    """The last process that was killed for memory."""

    id: str
    process: str


class _State(TypedDict):
    podUID: str
    agent: About
    bootID: str
    version: int
    environment: Revisions
    install: Install
    check: Check
    packages: Count
    retired: bool
    activity: Activity
    edits: Edits


class State(_State, total=False):
    """The answer to most calls."""

    memoryKill: MemoryKill


class _Package(TypedDict):
    name: str
    version: str
    layer: str
    requiredBy: list[str]


class Package(_Package, total=False):
    """One distribution. `replaces`: the image's version of it."""

    replaces: str


class InstallWords(TypedDict):
    """What an installer's present command has printed so far, on the stream on which it talks: whole lines. `step` names the command."""

    step: str
    lines: int
    text: str


class EditsArchive(TypedDict):
    """The members of `GET /v1/edits`."""

    revision: str
    flowRevision: str
    files: list[str]
    deleted: list[str]
    base: dict[str, str]
    archive: str


class SourceWarning(TypedDict):
    """What people should know of a source although it stops nothing."""

    code: str
    file: str
    message: str


class _Source(TypedDict):
    state: str


class Source(_Source, total=False):
    """The members of `PUT /v1/source`, of a source that is being read, was read, or can't be."""

    code: str
    message: str
    revision: str
    commit: str
    archive: str
    unchanged: bool
    warnings: list[SourceWarning]


class Requirements(TypedDict):
    """What to install."""

    text: str
    path: str | None
    shown: str


_Feed = TypedDict("_Feed", {"token": str, "from": str, "problem": str})


class Feed(_Feed, total=False):
    """The token for private feeds. `hosts`: where it may go."""

    hosts: Sequence[str]


class _Installer(TypedDict):
    tool: str
    timeoutSeconds: float
    indexURL: str
    extraIndexURLs: Sequence[str]
    caBundle: str
    onlyBinary: bool
    environment: Mapping[str, str]
    cache: Mapping[str, str]
    identityFeedHosts: Sequence[str]


class Installer(_Installer, total=False):
    """How to install."""

    feed: Feed


class SavedEdits(TypedDict):
    """What an earlier session of the same user and environment has saved."""

    name: str
    savedAt: str
    flowRevision: str
    archive: str
    deleted: Sequence[str]
    base: Mapping[str, str]


class _Order(TypedDict):
    packagesRevision: str
    flowRevision: str
    files: Mapping[str, str] | None
    requirements: Requirements | None
    installer: Installer


class Order(_Order, total=False):
    """The body of `PUT /v1/environment`."""

    retry: bool
    savedEdits: SavedEdits
    outsideModules: Mapping[str, str]
    editsAddress: str


class GitOrder(TypedDict):
    """A folder of a repository."""

    url: str
    revision: str
    path: str
    known: str


class FolderOrder(TypedDict):
    """A folder of what is mounted."""

    path: str
    outline: bool


class SourceOrder(TypedDict, total=False):
    """The body of `PUT /v1/source`."""

    git: GitOrder
    folder: FolderOrder
    seconds: float
    caBundle: str
    environment: Mapping[str, str]


class RunFile(TypedDict):
    """A file that comes with an order; `content` in base64."""

    name: str
    content: str


class EarlierRun(TypedDict):
    """An earlier run whose outputs are data now: its name for prompt flow, and what was kept of it, a .tar.gz in base64."""

    name: str
    archive: str


class GuestFlow(TypedDict):
    """Of which other environment the flow in `files` is, and what it asks for."""

    environment: str
    requirements: Requirements | None


RunInclosure = Literal["dataFile", "earlier", "resume"]


class ClaimPath(TypedDict):
    """A file or folder on a claim that the session mounts; an empty path is the claim's root."""

    claim: str
    path: str


class _RunOrder(TypedDict):
    id: str
    name: str
    columnMapping: Mapping[str, Any]


class RunOrder(_RunOrder, total=False):
    """The body of `PUT /v1/runs`: the session's flow over a file of the flow folder, one that comes along, or an earlier run's outputs.

    With `guest`, it is the flow in `files` that is run.
    """

    data: str
    dataFile: RunFile
    earlier: EarlierRun
    resume: EarlierRun
    dataClaim: ClaimPath
    earlierClaim: ClaimPath
    resumeClaim: ClaimPath
    outputsClaim: ClaimPath
    again: bool
    variant: str
    environmentVariables: Mapping[str, str]
    connections: Mapping[str, Mapping[str, str]]
    init: Mapping[str, Any]
    environmentFile: str
    initFile: str
    displayName: str
    tags: Mapping[str, str]
    concurrency: int
    lineSeconds: int
    guest: GuestFlow
    files: Mapping[str, str]


class RunError(TypedDict, total=False):
    """A line that failed, or a node that aggregates."""

    line: int
    node: str
    message: str


class Tokens(TypedDict, total=False):
    """What language models counted in all lines."""

    prompt: int
    completion: int
    total: int


class Lines(TypedDict):
    """How many lines the data has, and what has become of them so far. `total` is 0 until the data is read."""

    total: int
    completed: int
    failed: int


class _Run(TypedDict):
    id: str
    state: str
    version: int
    lines: Lines


class Run(_Run, total=False):
    """The members of `/v1/runs`; all but those of `_Run` once it is over, and before that what it has no use for, and waits for."""

    warnings: list[str]
    code: str
    message: str
    errors: list[RunError]
    metrics: dict[str, str]
    tokens: Tokens
    logTail: str


class RunOutputs(TypedDict):
    """The members of `GET /v1/runs/outputs`."""

    id: str
    archive: str
