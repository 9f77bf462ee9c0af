"""What a decision asks for: writes, calls to the agent, Events, and when to decide again."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flowsession.images.check import Question
from flowsession_protocol import messages

Manifest = Mapping[str, Any]


@dataclass(frozen=True)
class Sealed:
    """The content of a ConfigMap of saved edits, to be encrypted: only the operator can read it."""

    about: Manifest
    archive: str
    """A .tar.gz in base64; empty: the edits could not be fetched."""
    pod_uid: str
    revision: str


@dataclass(frozen=True)
class Create:
    """POST this manifest. Its name is deterministic, so a repeated POST creates nothing."""

    manifest: Manifest
    sealed: Sealed | None = None


@dataclass(frozen=True)
class Delete:
    """DELETE one object, with its uid and, if given, its resourceVersion as preconditions.

    The uid is empty for objects whose names are derived from their content.
    """

    kind: str
    namespace: str
    name: str
    uid: str
    resource_version: str | None = None
    grace_seconds: int | None = None
    valid_until: float | None = None
    """Seconds since 1970 after which it must be decided again instead of sent: it is based on an agent's answer, which ages."""
    why: tuple[str, str] = field(default=("", ""), compare=False)
    """Why the object is deleted, as reason and message, for the log."""


@dataclass(frozen=True)
class PatchStatus:
    """Merge-PATCH of the status subresource, with the resourceVersion as precondition."""

    kind: str
    namespace: str
    name: str
    resource_version: str
    status: Manifest
    valid_until: float | None = None
    """As in Delete."""


@dataclass(frozen=True)
class Event:
    """A core/v1 Event about the plan's object, or about another one in its namespace."""

    warning: bool
    reason: str
    message: str
    about: "Subject | None" = None


@dataclass(frozen=True)
class Subject:
    """An object of this API; it may be gone."""

    kind: str
    name: str
    uid: str


@dataclass(frozen=True)
class Deliver:
    """PUT /v1/environment: deliver the session's desired content to the agent."""

    body: messages.Order
    request: str = ""
    """The install request to carry out; the agent retries a failed install for a new request."""
    feed_secret: str = ""
    """Name of the Secret with the token for private feeds; only the call reads it."""
    feed_problem: str = ""
    """Why the session must not have that token, and what to do; the Secret is not read then."""


@dataclass(frozen=True)
class Follow:
    """GET /v1/state as a long poll, while something is in progress."""

    since: int
    seconds: float = 30.0
    """Seconds for which the agent may hold the request."""


@dataclass(frozen=True)
class Probe:
    """GET /v1/state, answered at once."""


@dataclass(frozen=True)
class KeepAlive:
    """POST /v1/keepalive: count a user's request as work."""

    request: str


@dataclass(frozen=True)
class Retire:
    """POST /v1/retire: if still idle, refuse new work from now on."""

    idle_at_least: float


@dataclass(frozen=True)
class Reopen:
    """DELETE /v1/retire: accept work again."""


@dataclass(frozen=True)
class ListPackages:
    """GET /v1/packages."""


@dataclass(frozen=True)
class TakeEdits:
    """GET /v1/edits: the files of the flow folder that were changed inside the session."""


@dataclass(frozen=True)
class Settle:
    """POST /v1/edits/settle: the agent no longer has to wait for the edits of this revision."""

    revision: str
    saved: bool
    """False: they can't be saved."""


@dataclass(frozen=True)
class ReadSource:
    """PUT /v1/source: have the pod of this name read a source, or ask for the result."""

    pod: str
    body: messages.SourceOrder


@dataclass(frozen=True)
class Enclosed:
    """A key of a ConfigMap whose content is enclosed with an order; only the call reads it."""

    config_map: str
    key: str
    member: messages.RunEnclosure
    """The member of the order that it becomes."""
    name: str
    """Its name in that member."""
    missing: str
    """Reason with which the run fails if it is missing."""


@dataclass(frozen=True)
class BeginRun:
    """PUT /v1/runs: begin the run, unless this agent knows it."""

    pod: str
    body: messages.RunOrder
    enclosed: tuple[Enclosed, ...] = ()


@dataclass(frozen=True)
class FollowRun:
    """GET /v1/runs as a long poll."""

    pod: str
    run: str
    since: int


@dataclass(frozen=True)
class CancelRun:
    """DELETE /v1/runs: end the run soon."""

    pod: str
    run: str


@dataclass(frozen=True)
class FetchOutputs:
    """GET /v1/runs/outputs of a run that is over."""

    pod: str
    run: str


RunCall = BeginRun | FollowRun | CancelRun | FetchOutputs
"""Calls about a run, in addition to those about its session; each names the pod."""

AgentCall = Deliver | Follow | Probe | KeepAlive | Retire | Reopen | ListPackages | TakeEdits | Settle | ReadSource


@dataclass(frozen=True)
class Fetch:
    """GET a ConfigMap that no watch shows."""

    namespace: str
    name: str


@dataclass(frozen=True)
class FetchEdits:
    """LIST the edits that earlier sessions of the same user and environment saved."""

    namespace: str
    environment: str
    environment_uid: str
    user: str
    incarnation: int
    """The incarnation that they are for."""


@dataclass(frozen=True)
class AnnotatePod:
    """Merge-PATCH of annotations of exactly this pod; None removes one."""

    namespace: str
    name: str
    uid: str
    annotations: Mapping[str, str | None]


@dataclass(frozen=True)
class ReadEvents:
    """LIST of the Events about one pod, which no watch shows."""

    namespace: str
    pod: str
    uid: str


@dataclass(frozen=True)
class Plan:
    """All that follows from one snapshot. An empty plan: everything is as it should be."""

    creates: tuple[Create, ...] = ()
    deletes: tuple[Delete, ...] = ()
    status: PatchStatus | None = None
    call: AgentCall | None = None
    run_call: RunCall | None = None
    fetches: tuple[Fetch, ...] = ()
    events: tuple[Event, ...] = ()
    look_again_at: float | None = None
    """When to decide again, in seconds since 1970, if nothing happens before."""
    fetch_edits: FetchEdits | None = None
    annotate: AnnotatePod | None = None
    read_events: ReadEvents | None = None
    wants_accounts: bool = False
    """Read the namespace's ServiceAccounts and decide again at once, instead of carrying out the rest."""
    remember: Manifest | None = None
    """For a session that is gone: the `edits` that its status would have."""
    question: Question | None = None
    """Question to the registry of an environment's image."""

    @property
    def writes(self) -> bool:
        """Whether the plan writes to the API server."""
        return bool(self.creates or self.deletes or self.status or self.annotate)


ENDING_SECONDS = 30.0
"""Seconds for which a namespace is left alone after a write was refused because it is terminating."""
