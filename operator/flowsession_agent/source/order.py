"""Parse and validate the body of `PUT /v1/source`."""

from __future__ import annotations

import posixpath

from flowsession_agent.errors import bad_request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LONGEST = 4096


class GitOrder:
    """A folder of a repository at a revision. `known`: the commit that the operator already has, or empty."""

    def __init__(self, members: dict[str, Any]) -> None:
        self.url = _text(members, "url")
        self.revision = _text(members, "revision")
        self.path = posixpath.normpath(_text(members, "path") or ".")
        self.known = _text(members, "known")
        scheme, found, rest = self.url.partition("://")
        if not found or scheme not in ("http", "https", "ssh") or self.url.split() != [self.url] or rest.startswith("-"):
            raise bad_request("git.url must be an https, http or ssh URL.")
        if self.revision.startswith("-") or self.revision.split() not in ([], [self.revision]):
            raise bad_request("git.revision is no name of a branch or tag, and no commit.")
        if self.path.startswith("/") or self.path.split("/")[0] == "..":
            raise bad_request("git.path must lie inside the repository.")

    @property
    def host(self) -> str:
        """The URL's host and port."""
        return self.url.partition("://")[2].partition("/")[0].rpartition("@")[2]


class FolderOrder:
    """A folder of the mounted source. `outline`: read only what describes its flow."""

    def __init__(self, members: dict[str, Any]) -> None:
        self.path = posixpath.normpath(_text(members, "path") or ".")
        self.outline = members.get("outline", False)
        if self.path.startswith("/") or self.path.split("/")[0] == ".." or not isinstance(self.outline, bool):
            raise bad_request("folder.path must lie inside the source, folder.outline be true or false.")


class SourceOrder:
    """What to read, and the time limit."""

    def __init__(self, body: Any) -> None:
        git, folder = (body.get("git"), body.get("folder")) if isinstance(body, dict) else (None, None)
        if isinstance(git, dict) == isinstance(folder, dict):
            raise bad_request("The body must be a JSON object with a member git or folder.")
        seconds = body.get("seconds", 300)
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds <= 86400:
            raise bad_request("seconds must lie between 0 and 86400.")
        self.folder = FolderOrder(folder) if isinstance(folder, dict) else None
        self.git = GitOrder(git) if isinstance(git, dict) else None
        self.seconds = float(seconds)
        self.ca_bundle = body.get("caBundle", "")
        self.environment = body.get("environment", {})
        if not isinstance(self.ca_bundle, str) or not isinstance(self.environment, dict):
            raise bad_request("caBundle must be a string, environment an object.")
        for name, value in self.environment.items():
            if not isinstance(value, str) or not name.upper().endswith("_PROXY") or "\0" in name + value:
                raise bad_request(f"environment: {name!r} is not a proxy variable.")


def _text(members: dict[str, Any], name: str) -> str:
    value = members.get(name, "")
    if not isinstance(value, str) or len(value) > LONGEST or "\0" in value:
        raise bad_request(f"{name} must be a text.")
    return value
