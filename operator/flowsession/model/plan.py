"""What a decision asks for: writes, calls to the agent, events, and when to look again."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flowsession.images.check import Question
from flowsession_protocol import messages

Manifest = Mapping[str, Any]


@dataclass(frozen=True)
class Sealed:
    """What goes into a ConfigMap of saved edits so that only the operator can read it."""

    about: Manifest
    archive: str
    """A .tar.gz in base64; empty where none could be had."""
    pod_uid: str
    revision: str


@dataclass(frozen=True)
class Create:
    """POST this manifest; its name is deterministic, so that twice is once."""

    manifest: Manifest
    sealed: Sealed | None = None


@dataclass(frozen=True)
class Delete:
    """DELETE one object, only this very one: the uid is a precondition, and the resourceVersion too where one is given.

    An empty uid is for names that say all about their content.
    """

    kind: str
    namespace: str
    name: str
    uid: str
    resource_version: str | None = None
    grace_seconds: int | None = None
    valid_until: float | None = None
    """Seconds since 1970 after which it must not be sent any more, and is decided anew instead: it builds on a word that ages."""
    why: tuple[str, str] = field(default=("", ""), compare=False)
    """Why the object ends, as reason and sentence: for the log."""


@dataclass(frozen=True)
class DeletePackages:
    """DELETE the package lists of an environment: no session looks at them any more."""

    namespace: str
    environment: str


@dataclass(frozen=True)
class PatchStatus:
    """Merge-PATCH of the status subresource, valid for one resourceVersion only."""

    kind: str
    namespace: str
    name: str
    resource_version: str
    status: Manifest
    valid_until: float | None = None
    """As for a Delete."""


@dataclass(frozen=True)
class Event:
    """A core/v1 Event about the object that the plan is for, or about another one of its namespace."""

    warning: bool
    reason: str
    message: str
    about: "Subject | None" = None


@dataclass(frozen=True)
class Subject:
    """An object of ours; it may be gone."""

    kind: str
    name: str
    uid: str


@dataclass(frozen=True)
class Deliver:
    """PUT /v1/environment: tell the agent what the session shall have."""

    body: messages.Order
    request: str = ""
    """The install request that this is the answer to; the agent tries a failed install again for a new one."""
    feed_secret: str = ""
    """Name of the Secret with the token for private feeds: read when the call is made, and in no plan."""
    feed_problem: str = ""
    """Why the session must not have that token, and the way out; the Secret is not read then."""


@dataclass(frozen=True)
class Follow:
    """GET /v1/state as a long poll, while something is under way."""

    since: int
    seconds: float = 30.0
    """How long the agent may wait for news."""


@dataclass(frozen=True)
class Probe:
    """GET /v1/state at once: a probe that changes nothing."""


@dataclass(frozen=True)
class KeepAlive:
    """POST /v1/keepalive: count as work, at this request of a user's."""

    request: str


@dataclass(frozen=True)
class Retire:
    """POST /v1/retire: if still idle, close the door to new work."""

    idle_at_least: float


@dataclass(frozen=True)
class Reopen:
    """DELETE /v1/retire: the end was called off."""


@dataclass(frozen=True)
class ListPackages:
    """GET /v1/packages."""


@dataclass(frozen=True)
class TakeEdits:
    """GET /v1/edits: the files of the flow folder that were changed inside the session."""


@dataclass(frozen=True)
class Settle:
    """POST /v1/edits/settle: nobody need wait for the edits of this revision any more."""

    revision: str
    saved: bool
    """False: they can't be saved."""


@dataclass(frozen=True)
class ReadSource:
    """PUT /v1/source: have a source read, in the pod of this name, or ask what came of it."""

    pod: str
    body: messages.SourceOrder


AgentCall = Deliver | Follow | Probe | KeepAlive | Retire | Reopen | ListPackages | TakeEdits | Settle | ReadSource


@dataclass(frozen=True)
class Fetch:
    """GET a ConfigMap that no watch shows."""

    namespace: str
    name: str


@dataclass(frozen=True)
class FetchEdits:
    """Look for what earlier sessions of the same user and environment have saved."""

    namespace: str
    environment: str
    environment_uid: str
    user: str
    incarnation: int
    """The start that they are for."""


@dataclass(frozen=True)
class AnnotatePod:
    """Merge-PATCH of annotations of one very pod; None takes one off."""

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
    """All that follows from one snapshot. An empty plan means: everything is as it shall be."""

    creates: tuple[Create, ...] = ()
    deletes: tuple[Delete, ...] = ()
    status: PatchStatus | None = None
    call: AgentCall | None = None
    fetches: tuple[Fetch, ...] = ()
    events: tuple[Event, ...] = ()
    look_again_at: float | None = None
    """Seconds since 1970 at which the same key is to be decided again, if nothing happens before."""
    clean: DeletePackages | None = None
    fetch_edits: FetchEdits | None = None
    annotate: AnnotatePod | None = None
    read_events: ReadEvents | None = None
    wants_accounts: bool = False
    """The namespace's ServiceAccounts are to be read, and then decided anew at once, before anything else of this plan."""
    remember: Manifest | None = None
    """Of a session that is gone: what its status would say of its edits, could it still be written."""
    question: Question | None = None
    """What the registry of an environment's image is to be asked."""

    @property
    def writes(self) -> bool:
        """Whether anything would be written to the API server."""
        return bool(self.creates or self.deletes or self.status or self.annotate)


ENDING_SECONDS = 30.0
"""How long a namespace is left alone after it refused a write because it ends."""
