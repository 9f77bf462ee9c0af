"""What survives a container restart on the volume: which revisions are in the session's folder, and which files were pushed."""

from __future__ import annotations

import json
import os

from flowsession_agent.session.baseline import NOT_KNOWN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Mapping


class Record:
    """`environment.json`, rewritten as a whole at every success."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.packages_revision = ""
        self.flow_revision = ""
        self.venv = ""  # the folder below venvs/, empty if the image's own packages are enough
        self.install: Mapping[str, Any] | None = None
        self.names: list[str] = []  # the distributions that the installed requirements name
        self.pushed: dict[str, str] = {}  # the pushed files' fingerprints
        self.pushing: dict[str, str] | None = None  # those of a push that is in progress or was cut off
        self.has_flow = False  # whether the last push had a flow folder, even an empty one
        self.had_flow = False  # whether any push had one
        self.saved: dict[str, Any] = {}  # edits that an earlier session saved: see edits/saved.py
        self.kept: list[str] = []  # paths of files that pushes moved aside, relative to the flow folder
        self.discarded = ""  # the revision of the edits that need not be saved

    def load(self) -> None:
        """Read what an earlier start wrote. A file that is missing or isn't an agent's counts as nothing installed and nothing pushed."""
        try:
            with open(self._path, encoding="utf-8") as file:
                self._take(json.load(file))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return

    def save(self) -> None:
        """Write all of it atomically. Raises OSError if there is no room."""
        members = {
            "packagesRevision": self.packages_revision,
            "flowRevision": self.flow_revision,
            "venv": self.venv,
            "install": self.install,
            "names": self.names,
            "pushed": self.pushed,
            "pushing": self.pushing,
            "hasFlow": self.has_flow,
            "hadFlow": self.had_flow,
            "savedEdits": self.saved,
            "kept": self.kept,
            "discarded": self.discarded,
        }
        temporary = f"{self._path}.{os.urandom(4).hex()}"
        try:
            with open(temporary, "w", encoding="utf-8") as file:
                json.dump(members, file)
            os.replace(temporary, self._path)
        except OSError:
            if os.path.lexists(temporary):
                os.unlink(temporary)
            raise

    def _take(self, found: dict[str, Any]) -> None:
        """Take over all members, or none and raise an exception."""
        packages_revision, flow_revision, venv = (_typed(found[name], str) for name in ("packagesRevision", "flowRevision", "venv"))
        install, names = found["install"], _typed(found["names"], list)
        pushed = _fingerprints(found["pushed"])
        pushing = None if found.get("pushing") is None else _fingerprints(found["pushing"])
        pushed_before = bool(pushed or flow_revision)  # records of agents older than edits lack the rest
        has_flow, had_flow = (_typed(found.get(name, pushed_before), bool) for name in ("hasFlow", "hadFlow"))
        saved, discarded = _typed(found.get("savedEdits", {}), dict), _typed(found.get("discarded", ""), str)
        kept = [_typed(name, str) for name in _typed(found.get("kept", []), list)]
        if "flowRevision" in saved:
            _typed(saved["restored"], bool), _typed(saved["deleted"], list), _typed(saved["name"], str), _typed(saved["flowRevision"], str)
            _typed(saved.get("base", {}), dict)
        if not isinstance(install, (dict, type(None))) or not all(isinstance(name, str) for name in names):
            raise TypeError("not written by an agent")
        self.packages_revision, self.flow_revision, self.venv = packages_revision, flow_revision, venv
        self.install, self.names, self.pushed, self.pushing = install, names, pushed, pushing
        self.has_flow, self.had_flow, self.saved, self.discarded = has_flow, had_flow, saved, discarded
        self.kept = kept


def _fingerprints(found: Any) -> dict[str, str]:
    """Return the pushed files' fingerprints. Agents older than edits recorded only names."""
    known = dict.fromkeys(found, NOT_KNOWN) if isinstance(found, list) else _typed(found, dict)
    if not all(isinstance(word, str) for item in known.items() for word in item):
        raise TypeError("not written by an agent")
    return known


def _typed(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"{type(value).__name__}, not {kind.__name__}")
    return value
