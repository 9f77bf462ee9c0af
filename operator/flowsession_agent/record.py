"""What outlives a restart of the container on a volume: which revisions lie in the session's folder, and which files were pushed."""

from __future__ import annotations

import json
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Record:
    """`environment.json`, rewritten as a whole at every success."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.packages_revision = ""
        self.flow_revision = ""
        self.venv = ""  # the folder below venvs/, empty when the image's own packages are enough
        self.install: dict[str, Any] | None = None
        self.pushed: list[str] = []
        self.names: list[str] = []  # the distributions that the installed requirements name

    def load(self) -> None:
        """Read what an earlier start wrote; a file that is missing or isn't ours counts as nothing installed and nothing pushed."""
        try:
            with open(self._path, encoding="utf-8") as file:
                found = json.load(file)
            pushed, names = found["pushed"], found["names"]
            values = [found[name] for name in ("packagesRevision", "flowRevision", "venv")]
            if not all(isinstance(value, str) for value in values + pushed + names) or not isinstance(found["install"], (dict, type(None))):
                return
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return
        self.packages_revision, self.flow_revision, self.venv = values
        self.install, self.pushed, self.names = found["install"], pushed, names

    def save(self) -> None:
        """Write all of it atomically; raises OSError when there is no room."""
        members = {
            "packagesRevision": self.packages_revision,
            "flowRevision": self.flow_revision,
            "venv": self.venv,
            "install": self.install,
            "pushed": self.pushed,
            "names": self.names,
        }
        temporary = f"{self._path}.{os.urandom(4).hex()}"
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(members, file)
        os.replace(temporary, self._path)
