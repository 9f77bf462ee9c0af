"""What an environment resolves to: everything that its sessions get."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from flowsession.api.environment import FlowSummary
from flowsession.api.source import SourceWarning
from flowsession.flow.packed import EncodedFolder, PackedFolder
from flowsession.images.image import Image
from flowsession.requirements.review import Review
from flowsession_protocol import messages


@dataclass(frozen=True)
class Claim:
    """A PersistentVolumeClaim's folder that sessions use in place, and the flow folder in it."""

    name: str
    path: str
    flow_path: str


@dataclass(frozen=True)
class Connection:
    """A connection of prompt flow, and the Secret that has its fields."""

    name: str
    secret: str


@dataclass(frozen=True)
class Tracing:
    """The endpoint for spans of tests and runs."""

    endpoint: str
    headers_secret: str
    """Name of the Secret with HTTP headers for the endpoint; empty: none."""
    content: bool
    """Whether spans have inputs and outputs."""


@dataclass(frozen=True)
class Requirements:
    """The requirements to install, with their review."""

    text: str
    path: str | None
    """The file's path, relative to the flow folder, as `status.requirementsFile` has it; None: no file."""
    review: Review
    warnings: tuple[SourceWarning, ...]

    @property
    def shown(self) -> str:
        """Its name in messages."""
        return self.path or IN_SPEC

    @property
    def in_folder(self) -> str | None:
        """The file's name in the flow folder; None: it is outside, and sessions get only its text."""
        return None if self.path is None or leads_outside(self.path) else self.path

    @property
    def texts(self) -> Mapping[str, str]:
        """All texts that were read, by name."""
        return {self.shown: self.text, **self.review.included}


@dataclass(frozen=True)
class Unresolved:
    """Why the environment does not resolve, as reason and message of its Ready condition."""

    reason: str
    message: str
    own: bool = False
    """Whether the session's own spec is at fault, not its environment's."""


@dataclass(frozen=True)
class Resolved:
    """What a session of this environment gets."""

    image: Image
    requirements: Requirements
    packages_revision: str
    flow_revision: str
    files: Mapping[str, bytes] | None
    flow: FlowSummary | None
    warnings: tuple[SourceWarning, ...]
    installer: messages.Installer = field(hash=False)
    content: str = ""
    """Hash of everything that the environment's spec and source contribute to a session."""
    feed_secret: str = ""
    """Name of the Secret with the token for private feeds; empty if nothing is installed."""
    outside_modules: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Modules of the source outside of the flow folder, with their paths: for advice about a missing module."""
    claim: Claim | None = None
    """The claim whose folder sessions use in place; `files` is None then."""
    connections: tuple[Connection, ...] = ()
    """Prompt flow's connections, whose Secrets the pod mounts."""
    tracing: Tracing | None = None
    """None: spans are not sent."""

    @property
    def base_image(self) -> str:
        """The image as requested."""
        return self.image.name

    @property
    def requirements_text(self) -> str | None:
        """The requirements to install; None: there is nothing to install."""
        return self.requirements.text if self.requirements_count else None

    @property
    def requirements_path(self) -> str | None:
        """The file's path, relative to the flow folder; None: no file."""
        return self.requirements.path

    @property
    def requirements_count(self) -> int:
        """How many packages are required."""
        return self.requirements.review.count

    @property
    def keeps_something(self) -> bool:
        """Whether a session has something that must survive its container: a flow folder or packages."""
        return self.files is not None or self.requirements_count > 0

    @cached_property
    def wire(self) -> messages.Order:
        """The body of PUT /v1/environment."""
        files: Mapping[str, str] | None
        if isinstance(self.files, PackedFolder):
            files = EncodedFolder(self.files)
        else:
            files = None if self.files is None else {name: base64.b64encode(data).decode() for name, data in self.files.items()}
        asked = self.requirements
        wanted: messages.Requirements | None = (
            {"text": asked.text, "path": asked.in_folder, "shown": asked.shown} if asked.review.count else None
        )
        order: messages.Order = {
            "packagesRevision": self.packages_revision,
            "flowRevision": self.flow_revision,
            "files": files,
            "requirements": wanted,
            # A CA bundle may be larger than all the rest, and only an install reads it.
            "installer": self.installer if wanted else {**self.installer, "caBundle": ""},
        }
        if self.outside_modules:
            order["outsideModules"] = dict(self.outside_modules)
        return order


IN_SPEC = "spec.requirementsText"


def leads_outside(path: str) -> bool:
    """Return whether a normalized relative path leads out of its folder."""
    return path == ".." or path.startswith("../")
