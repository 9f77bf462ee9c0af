"""Index URLs with `{private}`: finds them in any text, replaces them by addresses of the gate, and restores them."""

from __future__ import annotations

import os
import re
from urllib.parse import unquote, urlsplit

from flowsession_agent.session.flow_folder import without_copies

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterable, Iterator, Mapping, Match

    from flowsession_agent.install.requirement_lines import Line

PRIVATE = re.compile(
    r"(?P<scheme>https?)://(?:(?P<user>[^/\s@:'\"]*):)?(?:\{private\}|%7Bprivate%7D)(?::[^/\s@'\"]*)?@(?P<place>[^/\s'\"?#,]+)",
    re.IGNORECASE,
)
LOOPBACK = re.compile(r"(?:127\.\d{1,3}\.\d{1,3}\.\d{1,3}|::1|localhost)\Z")
SETTINGS = ("PIP_", "UV_")  # the variables that hold index URLs
DEFAULT_PORTS = {"http": 80, "https": 443}
DEFAULT_USER = "flowsession"  # Azure DevOps takes any


class Address:
    """Where the gate listens. It stays the same for the agent's life, so that uv finds in its cache what an earlier install fetched."""

    def __init__(self) -> None:
        self.secret = os.urandom(24).hex()
        self.port = 0  # any; later installs request the first one's again

    @property
    def base(self) -> str:
        """The prefix of every address of the gate."""
        return f"http://127.0.0.1:{self.port}/{self.secret}"


class Feed:
    """One server that gets a token, under one user's name."""

    def __init__(self, *, number: int, scheme: str, user: str, place: str) -> None:
        parts = urlsplit(f"{scheme}://{place}")
        self.number = number
        self.scheme = scheme
        self.host = (parts.hostname or "").lower()
        self.port = parts.port or DEFAULT_PORTS[scheme]  # ValueError for an invalid port
        self.place = place  # host and port as they were written
        self.user = unquote(user) or DEFAULT_USER
        self.shown = f"{scheme}://{user}:{{private}}@{place}" if user else f"{scheme}://{{private}}@{place}"

    def is_of(self, place: str) -> bool:
        """Return whether it is at this place: HOST or HOST:PORT, where `*.` before HOST means any host below it."""
        try:
            parts = urlsplit(f"//{place.lower()}")
            host, port = parts.hostname or "", parts.port
        except ValueError:
            return False
        return port in (None, self.port) and (self.host.endswith(host[1:]) if host.startswith("*.") else self.host == host)

    @property
    def keeps_secrets(self) -> bool:
        """Whether requests to it are encrypted or stay in the pod."""
        return self.scheme == "https" or LOOPBACK.match(self.host) is not None

    @property
    def origin(self) -> str:
        """The server's URL, for people."""
        return f"{self.scheme}://{self.place}"

    def serves(self, url: str) -> str | None:
        """Return the path of `url` at this very server, or None for any other: scheme, host and port must match."""
        try:
            parts = urlsplit(url)
            port = parts.port or DEFAULT_PORTS.get(parts.scheme)
        except ValueError:
            return None
        if (parts.scheme, (parts.hostname or "").lower(), port) != (self.scheme, self.host, self.port):
            return None
        path = parts.path or "/"
        return path + (f"?{parts.query}" if parts.query else "") + (f"#{parts.fragment}" if parts.fragment else "")


class Feeds:
    """The feeds that an install may reach, numbered in the order found."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._found: dict[tuple[str, str, str], Feed] = {}

    def __iter__(self) -> Iterator[Feed]:
        return iter(self._found.values())

    def local(self, text: str) -> str:
        """Return `text` with the gate's addresses for URLs that hold `{private}`. Their servers are known from now on."""
        return PRIVATE.sub(self._local, text)

    def numbered(self, number: str) -> Feed | None:
        """Return the feed that the gate's path `/NUMBER` stands for, or None."""
        return next((feed for feed in self._found.values() if str(feed.number) == number), None)

    def address_of(self, feed: Feed, path: str) -> str:
        """Return the gate's address of a path at a feed."""
        return f"{self._address.base}/{feed.number}{path}"

    def restored(self, text: str) -> str:
        """Return a tool's output with the feeds' own URLs, and the names of requirements files without the agent's prefix."""
        text = re.sub(rf"(?:http://127\.0\.0\.1:\d+)?/{self._address.secret}/(\d+)", self._shown, text)
        return without_copies(text.replace(self._address.secret, "..."))

    def _local(self, match: Match[str]) -> str:
        scheme, user, place = match.group("scheme").lower(), match.group("user") or "", match.group("place")
        key = (scheme, user, place.lower())
        try:
            feed = self._found.setdefault(key, Feed(number=len(self._found), scheme=scheme, user=user, place=place))
        except ValueError:
            return match.group()  # the tool reports what is wrong with it
        return self.address_of(feed, "")

    def _shown(self, match: Match[str]) -> str:
        feed = self.numbered(match.group(1))
        return feed.shown if feed else match.group()


def places(urls: Iterable[str]) -> list[str]:
    """Return HOST:PORT of those URLs that hold `{private}`."""
    found = []
    for match in (match for url in urls for match in PRIVATE.finditer(url)):
        try:
            feed = Feed(number=0, scheme=match.group("scheme").lower(), user="", place=match.group("place"))
        except ValueError:
            continue  # the tool reports what is wrong with it
        found.append(f"[{feed.host}]:{feed.port}" if ":" in feed.host else f"{feed.host}:{feed.port}")
    return found


def asked_for(environ: Mapping[str, str], lines: Iterable[Line]) -> bool:
    """Return whether any URL of the settings or the requirements has `{private}`."""
    settings = (value for name, value in environ.items() if name.startswith(SETTINGS))
    return any(PRIVATE.search(text) for text in [*settings, *(line.text for line in lines)])
