"""The image of an environment, and the annotations that ask for another one."""

from dataclasses import dataclass

from flowsession.api import GROUP
from flowsession.api.environment import ImageOrigin

UPDATE = "update"
CHECK = "checkVersion"
UPDATE_ANNOTATION = f"{GROUP}/update-requested-at"
CHECK_ANNOTATION = f"{GROUP}/check-version-requested-at"
IMAGE_REQUESTS = {UPDATE: UPDATE_ANNOTATION, CHECK: CHECK_ANNOTATION}
"""The annotation of each request about an environment's image."""


@dataclass(frozen=True)
class ImageInUse:
    """An environment's image, from its status, and the update that its annotations ask for."""

    image: str = ""
    origin: str = ""
    digest: str = ""
    pull_anew: bool = False
    updated: str = ""
    """The update request handled last."""
    asked: str = ""
    """The pending update request; empty: none."""


@dataclass(frozen=True)
class Image:
    """The image of an environment's sessions, or of one session."""

    name: str
    """The name as requested."""
    origin: ImageOrigin | None
    """None: the session's own spec."""
    pinned: str = ""
    """NAME@DIGEST that the environment stays on; empty: no digest is known yet."""
    pull_anew: bool = False
    """Whether a node must pull even if it has an image of this name."""
    update: str = ""
    """The environment's last update: reports of earlier pods are about an earlier image."""

    @property
    def reference(self) -> str:
        """The reference that pods are started from."""
        return self.pinned or self.name

    @property
    def whose(self) -> str:
        """Whose image it is, for messages."""
        return "session's" if self.origin is None else "environment's"

    @property
    def digest(self) -> str:
        """The digest alone; empty: unknown yet."""
        return self.pinned.partition("@")[2]
