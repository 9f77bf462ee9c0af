"""Which image an environment stays on, and how people ask for another one."""

from dataclasses import dataclass

from flowsession.api import GROUP
from flowsession.api.environment import ImageOrigin

UPDATE = "update"


CHECK = "checkVersion"


UPDATE_ANNOTATION = f"{GROUP}/update-requested-at"


CHECK_ANNOTATION = f"{GROUP}/check-version-requested-at"


IMAGE_REQUESTS = {UPDATE: UPDATE_ANNOTATION, CHECK: CHECK_ANNOTATION}
"""What people ask of an environment's image."""


@dataclass(frozen=True)
class ImageInUse:
    """What an environment's status says of its image, and what its annotations ask of it."""

    image: str = ""
    origin: str = ""
    digest: str = ""
    pull_anew: bool = False
    updated: str = ""
    """The update request that was handled last."""
    asked: str = ""
    """The update request that was not handled yet."""


@dataclass(frozen=True)
class Image:
    """The image of an environment's sessions, or of one session."""

    name: str
    """As it was asked for."""
    origin: ImageOrigin | None
    """None: the session itself."""
    pinned: str = ""
    """NAME@DIGEST, which the environment stays on; empty while no digest is known."""
    pull_anew: bool = False
    """Whether a node has to ask the registry although it has an image of this name."""
    update: str = ""
    """The environment's last update: pods from before it tell nothing of the image after it."""

    @property
    def reference(self) -> str:
        """What pods are started from."""
        return self.pinned or self.name

    @property
    def whose(self) -> str:
        """Who has chosen it, for sentences."""
        return "session's" if self.origin is None else "environment's"

    @property
    def digest(self) -> str:
        """The digest alone; empty while none is known."""
        return self.pinned.partition("@")[2]
