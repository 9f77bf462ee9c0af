"""Chooses the token for each feed: the identity's for Azure DevOps, the Secret's where the identity can't give one."""

from __future__ import annotations

import threading

from flowsession_agent.feeds.entra import Identity, IdentityError
from flowsession_agent.feeds.errors import MISSING, FeedError
from flowsession_agent.install.failures import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Mapping, Sequence

    from flowsession_agent.feeds.upstream import Network
    from flowsession_agent.feeds.urls import Feed
    from flowsession_agent.server.order import FeedSettings

OFFER = "label it flowsession.dev/feed=true, with the token under the key token, and name it in spec.installer.credentialsSecretName"


class Credentials:
    """The tokens of one install."""

    def __init__(
        self,
        *,
        offered: FeedSettings,
        settings_places: Sequence[str],
        identity_hosts: Sequence[str],
        environ: Mapping[str, str],
        network: Network,
    ) -> None:
        """`settings_places`: the feeds of a Secret that names no hosts, from URLs that only people who may read the Secret can set."""
        self._offered = offered
        self._places = settings_places if offered.hosts is None else offered.hosts
        self._hosts = identity_hosts
        self._identity = Identity.of(environ, network)
        self._lock = threading.Lock()
        self.warnings: list[str] = []

    def token(self, feed: Feed) -> str:
        """Return the password for the feed. Raises FeedError."""
        if not feed.keeps_secrets:
            message = f"Feed {feed.origin} gets no token, since http would show it to everybody on the way: write https in its URL."
            raise FeedError(Failure(MISSING, message))
        with self._lock:
            if self._identity is not None and self._is_for_identity(feed) and not self.warnings:
                try:
                    return self._identity.token()
                except IdentityError as error:
                    message = f"identity {self._identity.client} gives no token for feed {feed.origin}: {error}"
                    if not self._offered.token or not self._is_named(feed):
                        raise FeedError(Failure(MISSING, f"{message}. {self._offered.problem or 'Correct that'}.")) from None
                    self.warnings.append(f"{message}; used that of {self._offered.source} instead")  # and the identity is not asked again
            if self._offered.token and not self._is_named(feed):
                raise FeedError(Failure(MISSING, self._not_named(feed)))
            if self._offered.token:
                return self._offered.token
            raise FeedError(Failure(MISSING, self._lacking(feed)))

    def forget(self) -> None:
        """Drop the tokens."""
        self._offered.token, self._identity = "", None

    def owner(self, feed: Feed) -> str:
        """Return whose token the feed got, for use in a sentence."""
        by_identity = self._identity is not None and self._is_for_identity(feed) and not self.warnings
        return f"identity {self._identity.client}" if self._identity is not None and by_identity else self._offered.source

    def grant(self, feed: Feed) -> str:
        """Return what to do so that the feed accepts the token."""
        if self.owner(feed) == self._offered.source:
            return "put a valid token that may read the feed (Azure DevOps: Packaging, Read) under its key token, and install again"
        return "make it a user of the Azure DevOps organisation, and a Feed Reader in the feed's permissions"

    def _is_for_identity(self, feed: Feed) -> bool:
        return any(feed.host.endswith(host[1:]) if host.startswith("*.") else feed.host == host for host in map(str.lower, self._hosts))

    def _is_named(self, feed: Feed) -> bool:
        """Return whether the Secret is for this feed. Requirements files are often written by people who may not read the Secret."""
        return any(feed.is_of(place) for place in self._places)

    def _not_named(self, feed: Feed) -> str:
        source, other = self._offered.source, f"and feed {feed.origin} is not among them"
        if self._offered.hosts is not None:
            named = ", ".join(self._places) or "no hosts"
            return f"The token of {source} is for {named} only, {other}: have it added to the key hosts of the Secret."
        text = f"{source} does not say which hosts its token is for, so it goes to those of spec.installer.indexURL and extraIndexURLs only"
        return f"{text}, {other}: have it named there, or in the key hosts of the Secret."

    def _lacking(self, feed: Feed) -> str:
        what = f"There is no token for feed {feed.origin}, whose URL has {{private}}"
        if self._offered.problem:
            return f"{what}: {self._offered.problem}."
        if self._is_for_identity(feed):
            return f"{what}: give the session an identity with workload identity (spec.identity), or make a Secret, {OFFER}."
        hosts = ", ".join(self._hosts)
        return f"{what}, and identities have tokens for {hosts} only: make a Secret, {OFFER}."
