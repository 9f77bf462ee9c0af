"""Which token goes to which feed: the identity's to Azure DevOps, the Secret's where the identity has none to give."""

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
    from flowsession_agent.order import FeedSettings

OFFER = "label it flowsession.dev/feed=true, with the token under the key token, and name it in spec.installer.credentialsSecretName"


class Credentials:
    """The tokens of one install."""

    def __init__(self, *, offered: FeedSettings, identity_hosts: Sequence[str], environ: Mapping[str, str], network: Network) -> None:
        self._offered = offered
        self._hosts = identity_hosts
        self._identity = Identity.of(environ, network)
        self._lock = threading.Lock()
        self.warnings: list[str] = []

    def token(self, feed: Feed) -> str:
        """What the feed gets as password. Raises FeedError."""
        with self._lock:
            if self._identity is not None and self._is_for_identity(feed) and not self.warnings:
                try:
                    return self._identity.token()
                except IdentityError as error:
                    said = f"identity {self._identity.client} gives no token for feed {feed.origin}: {error}"
                    if not self._offered.token:
                        raise FeedError(Failure(MISSING, f"{said}. {self._offered.problem or 'Correct that'}.")) from None
                    self.warnings.append(f"{said}; used that of {self._offered.source} instead")  # and it is not asked again
            if self._offered.token:
                return self._offered.token
            raise FeedError(Failure(MISSING, self._lacking(feed)))

    def forget(self) -> None:
        """Let go of the tokens."""
        self._offered.token, self._identity = "", None

    def owner(self, feed: Feed) -> str:
        """Whose token the feed got, for a sentence."""
        by_identity = self._identity is not None and self._is_for_identity(feed) and not self.warnings
        return f"identity {self._identity.client}" if self._identity is not None and by_identity else self._offered.source

    def grant(self, feed: Feed) -> str:
        """What to do so that the feed takes the token."""
        if self.owner(feed) == self._offered.source:
            return "put a valid token that may read the feed (Azure DevOps: Packaging, Read) under its key token, and install again"
        return "make it a user of the Azure DevOps organisation, and a Feed Reader in the feed's permissions"

    def _is_for_identity(self, feed: Feed) -> bool:
        return any(feed.host.endswith(host[1:]) if host.startswith("*.") else feed.host == host for host in map(str.lower, self._hosts))

    def _lacking(self, feed: Feed) -> str:
        what = f"There is no token for feed {feed.origin}, whose URL has {{private}}"
        if self._offered.problem:
            return f"{what}: {self._offered.problem}."
        if self._is_for_identity(feed):
            return f"{what}: give the session an identity with workload identity (spec.identity), or make a Secret, {OFFER}."
        hosts = ", ".join(self._hosts)
        return f"{what}, and identities have tokens for {hosts} only: make a Secret, {OFFER}."
