"""Index URLs with `{private}`: finds them in any text, and puts addresses of the gate in their place and back."""

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
    """Where the gate listens: one for the agent's life, so that uv finds again in its cache what an earlier install brought."""

    def __init__(self) -> None:
        self.secret = os.urandom(24).hex()
        self.port = 0  # any; the first install's is asked for again by the next

    @property
    def base(self) -> str:
        """What every address of the gate begins with."""
        return f"http://127.0.0.1:{self.port}/{self.secret}"


class Feed:
    """One server that a token goes to, under one user's name."""

    def __init__(self, *, number: int, scheme: str, user: str, place: str) -> None:
        parts = urlsplit(f"{scheme}://{place}")
        self.number = number
        self.scheme = scheme
        self.host = (parts.hostname or "").lower()
        self.port = parts.port or DEFAULT_PORTS[scheme]  # ValueError for what is no port
        self.place = place  # host and port as they were written
        self.user = unquote(user) or DEFAULT_USER
        self.shown = f"{scheme}://{user}:{{private}}@{place}" if user else f"{scheme}://{{private}}@{place}"

    def is_of(self, place: str) -> bool:
        """Return whether it is at this place: HOST or HOST:PORT, and with `*.` in front of HOST anywhere below it."""
        try:
            parts = urlsplit(f"//{place.lower()}")
            host, port = parts.hostname or "", parts.port
        except ValueError:
            return False
        return port in (None, self.port) and (self.host.endswith(host[1:]) if host.startswith("*.") else self.host == host)

    @property
    def keeps_secrets(self) -> bool:
        """Whether nobody on the way can read what goes there."""
        return self.scheme == "https" or LOOPBACK.match(self.host) is not None

    @property
    def origin(self) -> str:
        """The server, for people."""
        return f"{self.scheme}://{self.place}"

    def serves(self, url: str) -> str | None:
        """Return the path of `url` at this very server, None for any other: scheme, host and port must be the same."""
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
    """The feeds that an install may reach, numbered as they were found."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._found: dict[tuple[str, str, str], Feed] = {}

    def __iter__(self) -> Iterator[Feed]:
        return iter(self._found.values())

    def local(self, text: str) -> str:
        """`text` with the gate's addresses for the URLs that hold `{private}`; their servers are known from now on."""
        return PRIVATE.sub(self._local, text)

    def numbered(self, number: str) -> Feed | None:
        """Return the feed that the gate's path `/NUMBER` stands for."""
        return next((feed for feed in self._found.values() if str(feed.number) == number), None)

    def address_of(self, feed: Feed, path: str) -> str:
        """Return the gate's address of a path at a feed."""
        return f"{self._address.base}/{feed.number}{path}"

    def restored(self, text: str) -> str:
        """Return a tool's words with the feeds' own URLs, and the names of requirements files without the agent's prefix."""
        text = re.sub(rf"(?:http://127\.0\.0\.1:\d+)?/{self._address.secret}/(\d+)", self._shown, text)
        return without_copies(text.replace(self._address.secret, "..."))

    def _local(self, match: Match[str]) -> str:
        scheme, user, place = match.group("scheme").lower(), match.group("user") or "", match.group("place")
        key = (scheme, user, place.lower())
        try:
            feed = self._found.setdefault(key, Feed(number=len(self._found), scheme=scheme, user=user, place=place))
        except ValueError:
            return match.group()  # the tool says what is wrong with it
        return self.address_of(feed, "")

    def _shown(self, match: Match[str]) -> str:
        feed = self.numbered(match.group(1))
        return feed.shown if feed else match.group()


def places(urls: Iterable[str]) -> list[str]:
    """HOST:PORT of those URLs that hold `{private}`."""
    found = []
    for match in (match for url in urls for match in PRIVATE.finditer(url)):
        try:
            feed = Feed(number=0, scheme=match.group("scheme").lower(), user="", place=match.group("place"))
        except ValueError:
            continue  # the tool says what is wrong with it
        found.append(f"[{feed.host}]:{feed.port}" if ":" in feed.host else f"{feed.host}:{feed.port}")
    return found


def asked_for(environ: Mapping[str, str], lines: Iterable[Line]) -> bool:
    """Return whether any URL of the settings or the requirements has `{private}`."""
    settings = (value for name, value in environ.items() if name.startswith(SETTINGS))
    return any(PRIVATE.search(text) for text in [*settings, *(line.text for line in lines)])
