"""Parse and validate the body of `PUT /v1/environment`."""

from __future__ import annotations

import binascii

from flowsession_agent.errors import ApiError, bad_request
from flowsession_agent.session import flow_folder
from flowsession_protocol import limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TOOLS = ("Auto", "Uv", "Pip")
ADDRESS_LIMIT = 300
REVISION_LIMIT = 256
AZURE_DEVOPS = ["pkgs.dev.azure.com", "*.pkgs.visualstudio.com"]


class Order:
    """What the operator wants in the session."""

    def __init__(
        self,
        *,
        packages_revision: str,
        flow_revision: str,
        files: dict[str, bytes] | None,
        requirements: Requirements | None,
        installer: InstallerSettings,
        retry: bool,
        saved_edits: Any,
        outside_modules: dict[str, str],
        edits_address: str,
    ) -> None:
        self.packages_revision = packages_revision
        self.flow_revision = flow_revision
        self.files = files
        self.requirements = requirements
        self.installer = installer
        self.retry = retry
        self.outside_modules = outside_modules
        self.edits_address = edits_address
        self.saved_edits = saved_edits  # not validated: invalid edits don't fail the order


class Requirements:
    """The requirements' text, its file's name in the flow folder if it comes from there, and its name in messages."""

    def __init__(self, *, text: str, path: str | None, shown: str) -> None:
        self.text = text
        self.path = path
        self.shown = shown


class FeedSettings:
    """The operator's token for feeds, its origin, and why a requested token is missing."""

    def __init__(self, members: dict[str, Any]) -> None:
        self.token: str = _member(members, "token", str, "")
        self.source: str = _member(members, "from", str, "the operator")
        self.problem: str = _member(members, "problem", str, "")
        self.hosts: list[str] | None = _member(members, "hosts", list, None)  # None: the Secret names none
        if self.hosts is not None and not all(isinstance(host, str) for host in self.hosts):
            raise bad_request("installer.feed.hosts must be names of hosts.")
        if len(self.token) > limits.FEED_TOKEN or not (self.token.isascii() and self.token.isprintable()):
            raise bad_request("installer.feed.token must be printable ASCII, of at most 64 KiB.")


class InstallerSettings:
    """How to install. What the operator leaves out has the default in docs/agent-protocol.md."""

    def __init__(self, members: dict[str, Any]) -> None:
        self.tool: str = _member(members, "tool", str, "Auto")
        self.timeout_seconds = float(_member(members, "timeoutSeconds", (int, float), 600))
        self.index_url: str = _member(members, "indexURL", str, "")
        self.extra_index_urls: list[str] = _member(members, "extraIndexURLs", list, [])
        self.ca_bundle: str = _member(members, "caBundle", str, "")
        self.only_binary: bool = _member(members, "onlyBinary", bool, False)
        self.environment: dict[str, str] = _member(members, "environment", dict, {})
        self.cache: dict[str, str] = _member(members, "cache", dict, {})  # URL of an index -> its URL in the package cache
        self.feed = FeedSettings(_member(members, "feed", dict, {}))
        self.identity_feed_hosts: list[str] = _member(members, "identityFeedHosts", list, AZURE_DEVOPS)
        if self.tool not in TOOLS:
            raise bad_request(f"installer.tool is {self.tool!r}, not one of {', '.join(TOOLS)}.")
        if not 0 < self.timeout_seconds <= 86400:
            raise bad_request("installer.timeoutSeconds must lie between 0 and 86400.")
        for url in [self.index_url, *self.extra_index_urls]:
            if not isinstance(url, str) or url.split() not in ([], [url]) or "\0" in url:
                raise bad_request("installer.indexURL and extraIndexURLs must be URLs without spaces.")
        for index, cached in self.cache.items():
            if not isinstance(cached, str) or not cached.startswith("http://") or cached.split() != [cached] or "\0" in index:
                raise bad_request("installer.cache must name http:// URLs by those of indexes.")
        if not all(isinstance(host, str) for host in self.identity_feed_hosts):
            raise bad_request("installer.identityFeedHosts must be names of hosts.")
        for name, value in self.environment.items():
            if not isinstance(value, str) or "\0" in value or "=" in name:
                raise bad_request(f"installer.environment: the value of {name!r} must be a string.")
            if not (name.upper().endswith("_PROXY") or name.startswith(("PIP_", "UV_"))):
                raise bad_request(f"installer.environment: {name!r} is not a proxy variable, nor one of pip (PIP_*) or uv (UV_*).")


def read(body: Any) -> Order:
    """Return the order in `body`. Raises ApiError naming the member that is missing or wrong."""
    if not isinstance(body, dict):
        raise bad_request("The body must be a JSON object.")
    packages_revision: str = _member(body, "packagesRevision", str, "")
    flow_revision: str = _member(body, "flowRevision", str, "")
    if not packages_revision or max(len(packages_revision), len(flow_revision)) > REVISION_LIMIT:
        raise bad_request(f"packagesRevision must not be empty, and no revision longer than {REVISION_LIMIT}.")
    return Order(
        packages_revision=packages_revision,
        flow_revision=flow_revision,
        files=_files(_member(body, "files", dict, None)),
        requirements=_requirements(_member(body, "requirements", dict, None)),
        installer=InstallerSettings(_member(body, "installer", dict, {})),
        retry=_member(body, "retry", bool, False),
        saved_edits=body.get("savedEdits"),
        outside_modules=_outside_modules(_member(body, "outsideModules", dict, {})),
        edits_address=_member(body, "editsAddress", str, "")[:ADDRESS_LIMIT],
    )


def _outside_modules(members: dict[str, Any]) -> dict[str, str]:
    if len(members) > limits.OUTSIDE_MODULES or not all(isinstance(way, str) for way in members.values()):
        raise bad_request(f"outsideModules must name at most {limits.OUTSIDE_MODULES} modules, each with the way to it.")
    return members


def _files(encoded: dict[str, Any] | None) -> dict[str, bytes] | None:
    if encoded is None:
        return None
    flow_folder.check_names(encoded)
    files = {}
    for name, content in encoded.items():
        try:
            data = content.encode("ascii")
            files[name] = binascii.a2b_base64(data)
            if len(files[name]) != len(data) // 4 * 3 - data[-2:].count(b"="):  # decoding silently skips what isn't base64
                raise ValueError("not base64")
        except (AttributeError, ValueError):
            raise bad_request(f"files: the content of {name!r} must be base64.") from None
    if sum(map(len, files.values())) > limits.FLOW_BYTES:
        raise ApiError(413, "TooLarge", f"The flow folder is larger than {limits.FLOW_BYTES} bytes.")
    return files


def _requirements(members: dict[str, Any] | None) -> Requirements | None:
    if members is None:
        return None
    text: str = _member(members, "text", str, "")
    path: str | None = _member(members, "path", str, None)
    if path is not None:
        flow_folder.check_name(path)
    if "\0" in text or not _is_utf8(text):
        raise bad_request("requirements.text is not text.")
    if not text.strip() or not _asks_for_something(text):
        return None
    shown: str = _member(members, "shown", str, "")
    return Requirements(text=text, path=path, shown=shown or path or "requirements.txt")


def _asks_for_something(text: str) -> bool:
    """Return whether any line needs an install, unlike comments and options that only say where packages come from."""
    from flowsession_protocol.requirements import lines

    return any(line.body or line.problem or line.values("--requirement") or line.values("--editable") for line in lines(text))


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _member(members: dict[str, Any], name: str, kind: type | tuple[type, ...], default: Any) -> Any:
    """Return the member `name` of type `kind`, or `default` if it is absent or null. A boolean isn't a number. Raises ApiError."""
    value = members.get(name)
    if value is None:
        return default
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise bad_request(f"{name} has the wrong type: {type(value).__name__}.")
    return value
