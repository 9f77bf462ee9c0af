"""The JSON of the agent's HTTP API (docs/agent-protocol.md): types only, so that neither side can misname a member.

Input has these types only after validation: the agent refuses an invalid order (`server/order.py`), and the operator treats responses as
hostile input (`cluster/agent/answers.py`). Optional members are in separate classes, for Python 3.9.
"""

from __future__ import annotations

from typing import Any, Literal, Mapping, Sequence, TypedDict

INSTALL_STATES = ("None", "Running", "Succeeded", "Failed", "TimedOut")
CHECK_VERDICTS = ("Valid", "Invalid", "NoFlow", "NotChecked")
RUN_STATES = ("Running", "Completed", "Failed", "Canceled", "Lost")
RUN_FAILURES = ("AggregationFailed", "DataInvalid", "DataNotFound", "FlowInvalid", "LinesFailed", "RunFailed", "SessionIncompatible")
"""Reasons for which a run failed, as in conditions."""
CANCELED = "canceled"
"""Message of a canceled run, unless the agent knows which lines were running or which endpoint they waited for: then it reports that."""
RUN_END_SECONDS = 20
"""Seconds in which a canceled run's lines in progress may end; then all of its processes are killed."""
LAYERS = ("image", "requirements", "dependency")
"""Where a package comes from."""


class About(TypedDict):
    """The agent itself."""

    version: str
    protocol: int
    python: str


class Revisions(TypedDict):
    """What is in the session now; empty before the first delivery."""

    packagesRevision: str
    flowRevision: str


class Install(TypedDict):
    """The last install, running or finished."""

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
    """A problem that keeps the flow from running, or a warning; `file`, `line` and `node` are absent if unknown."""

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
    """The work in the session."""

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
    """The edits in the flow folder."""

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
    """The last process killed for lack of memory."""

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
    """The response to most requests."""

    memoryKill: MemoryKill


class _Package(TypedDict):
    name: str
    version: str
    layer: str
    requiredBy: list[str]


class Package(_Package, total=False):
    """One distribution. `replaces` is its version in the image."""

    replaces: str


class InstallProgress(TypedDict):
    """The whole lines that an installer's present command has printed so far, on the stream for its progress. `step` names the command."""

    step: str
    lines: int
    text: str


class EditsArchive(TypedDict):
    """The response to `GET /v1/edits`."""

    revision: str
    flowRevision: str
    files: list[str]
    deleted: list[str]
    base: dict[str, str]
    archive: str


class SourceWarning(TypedDict):
    """Something that people should know about a source, although it blocks nothing."""

    code: str
    file: str
    message: str


class _Source(TypedDict):
    state: str


class Source(_Source, total=False):
    """The response to `PUT /v1/source`: the source is being read, was read, or can't be read."""

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
    """The token for private feeds. `hosts` are the hosts that may receive it."""

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
    """The edits saved by an earlier session of the same user and environment."""

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
    """A folder of the mounted source."""

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
    """A file enclosed with an order; `content` is in base64."""

    name: str
    content: str


class EarlierRun(TypedDict):
    """An earlier run that a new one uses: its name in prompt flow, and its stored outputs, a .tar.gz in base64."""

    name: str
    archive: str


class GuestFlow(TypedDict):
    """The other environment that the flow in `files` belongs to, and its requirements."""

    environment: str
    requirements: Requirements | None


RunEnclosure = Literal["dataFile", "earlier", "resume"]


class ClaimPath(TypedDict):
    """A file or folder on a claim that the session mounts; an empty path is the claim's root."""

    claim: str
    path: str


class _RunOrder(TypedDict):
    id: str
    name: str
    columnMapping: Mapping[str, Any]


class RunOrder(_RunOrder, total=False):
    """The body of `PUT /v1/runs`: the session's flow over a file of the flow folder, an enclosed file, or an earlier run's outputs.

    With `guest`, the flow in `files` is run instead.
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
    """A failed line or aggregation node."""

    line: int
    node: str
    message: str


class Tokens(TypedDict, total=False):
    """Token counts of language models, over all lines."""

    prompt: int
    completion: int
    total: int


class Lines(TypedDict):
    """Number of lines of the data, and of those completed and failed so far. `total` is 0 until the data is read."""

    total: int
    completed: int
    failed: int


class _Run(TypedDict):
    id: str
    state: str
    version: int
    lines: Lines


class Run(_Run, total=False):
    """The response to `/v1/runs`. Until the run is over, it has at most `warnings` (what has no effect) and `message` (what lines wait for)
    in addition to the members of `_Run`."""

    warnings: list[str]
    code: str
    message: str
    errors: list[RunError]
    metrics: dict[str, str]
    tokens: Tokens
    logTail: str


class RunOutputs(TypedDict):
    """The response to `GET /v1/runs/outputs`."""

    id: str
    archive: str
