"""One install's access to private feeds: opened before the tools run, closed after them. The tools get no part of a token."""

from __future__ import annotations

import ssl

from flowsession_agent.feeds.credentials import Credentials
from flowsession_agent.feeds.errors import FeedError
from flowsession_agent.feeds.gate import Gate
from flowsession_agent.feeds.record import Record
from flowsession_agent.feeds.upstream import Network
from flowsession_agent.feeds.urls import SETTINGS, Feeds, places
from flowsession_agent.install.copies import Copies
from flowsession_agent.install.failures import Failure
from flowsession_agent.session.pid1 import protect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Mapping

    from flowsession_agent.feeds.urls import Address
    from flowsession_agent.server.order import InstallerSettings

LOOPBACK = "127.0.0.1"


class PrivateFeeds:
    """The feeds of one install."""

    def __init__(self, *, address: Address, settings: InstallerSettings, environ: Mapping[str, str], root: str) -> None:
        """Open the gate. Raises FeedError or OSError."""
        protect()
        self._environ = environ
        try:
            network = Network(environ=environ, ca_bundle=settings.ca_bundle)
        except ssl.SSLError as error:
            raise FeedError(
                Failure("Other", f"The installer's CA bundle holds no certificate that can be read ({error.reason}).")
            ) from None
        self._credentials = Credentials(
            offered=settings.feed,
            settings_places=places([settings.index_url, *settings.extra_index_urls]),
            identity_hosts=settings.identity_feed_hosts,
            environ=environ,
            network=network,
        )
        self._record = Record(self._credentials)
        self._feeds = Feeds(address)
        self._copies = Copies(root, self._feeds.local)
        self._gate = Gate(address=address, feeds=self._feeds, credentials=self._credentials, network=network, record=self._record)

    @property
    def warnings(self) -> list[str]:
        """What people should know although it doesn't stop the install."""
        return self._credentials.warnings

    def environ(self) -> dict[str, str]:
        """Return the tools' environment, with the feeds' URLs through the gate and no proxy in between."""
        changed = {name: self._feeds.local(value) if name.startswith(SETTINGS) else value for name, value in self._environ.items()}
        without = self._environ.get("no_proxy") or self._environ.get("NO_PROXY") or ""
        changed["no_proxy"] = changed["NO_PROXY"] = f"{without},{LOOPBACK}".lstrip(",")
        return changed

    def requirements(self, file: str) -> str:
        """Return the file to install from in place of `file`. Raises FeedError if a feed has no token, before any tool tries."""
        copy = self._copies.of(file)
        for feed in self._feeds:
            self._credentials.token(feed)
        return copy

    def restored(self, text: str) -> str:
        """Return the text with the feeds' own URLs."""
        return self._feeds.restored(text)

    def fatal(self) -> Failure | None:
        """Return the failure that ends the install whatever the tool reports, or None."""
        return self._record.fatal()

    def explained(self, failure: Failure) -> Failure:
        """Return a tool's failure, explained by its cause at the feeds."""
        return self._record.explained(failure)

    def close(self) -> None:
        """Close the gate, remove the copies, and drop the tokens."""
        self._gate.close()
        self._copies.remove()
        self._credentials.forget()
