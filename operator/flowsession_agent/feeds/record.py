"""Records the feeds' responses during an install, and explains failures by them."""

from __future__ import annotations

import re
import threading

from flowsession_agent.feeds.errors import REFUSED
from flowsession_agent.install.failures import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from flowsession_agent.feeds.credentials import Credentials
    from flowsession_agent.feeds.urls import Feed


FILE = re.compile(r"\.(?:whl|zip|tar\.\w+|tgz|egg)(?:\.metadata)?$", re.IGNORECASE)


class Record:
    """The feeds' responses. Filled by the gate's threads, read when a tool has ended."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._lock = threading.Lock()
        self._failure: Failure | None = None
        self._refused: dict[bool, tuple[Feed, str, int]] = {}  # first of pages and 401s (True), first of other files (False)
        self._unreachable: tuple[Feed, str] | None = None
        self._answers: dict[int, tuple[Feed, set[int]]] = {}  # statuses by the feed's number

    def failed(self, failure: Failure) -> None:
        """Record that a request failed for lack of a token."""
        with self._lock:
            self._failure = failure

    def unreachable(self, feed: Feed, why: str) -> None:
        """Record that the server gave no complete response."""
        with self._lock:
            self._unreachable = feed, why

    def answered(self, feed: Feed, path: str, status: int) -> None:
        """Record a response of the server."""
        with self._lock:
            self._answers.setdefault(feed.number, (feed, set()))[1].add(status)
            if status in (401, 403):
                path = path.partition("?")[0]
                self._refused.setdefault(status == 401 or not FILE.search(path), (feed, path, status))

    def fatal(self) -> Failure | None:
        """Return the failure that ends the install even if the tool went on, or None. When a feed refuses the token or never responds, pip
        takes the package from another index, where an attacker may have published one of that name."""
        with self._lock:
            silent = self._unreachable is not None and self._unreachable[0].number not in self._answers
            return self._failure or self._refusal(True) or (self._silence() if silent else None)

    def explained(self, failure: Failure) -> Failure:
        """Return a tool's failure, explained by the feeds' responses if they caused it."""
        with self._lock:
            if self._failure is not None:
                return self._failure
            if refusal := self._refusal(True) or self._refusal(False):
                return refusal
            if silence := self._silence():
                return silence
            for feed, statuses in self._answers.values():
                if failure.code == "NoMatchingDistribution" and statuses == {404}:
                    owner = self._credentials.owner(feed)
                    message = f"Feed {feed.origin} answered 404 to all that was asked: check its address, and that {owner} may read it."
                    return Failure(failure.code, f"{failure.message} {message}")
        return failure

    def _silence(self) -> Failure | None:
        if self._unreachable is None:
            return None
        feed, why = self._unreachable
        advice = "check the network, the proxy variables and the CA bundle (spec.installer.caBundleConfigMapName)"
        return Failure("IndexUnreachable", f"Feed {feed.origin} can't be reached ({why}): {advice}.")

    def _refusal(self, of_page: bool) -> Failure | None:
        if of_page not in self._refused:
            return None
        feed, path, status = self._refused[of_page]
        owner, grant = self._credentials.owner(feed), self._credentials.grant(feed)
        also = "" if status == 401 else ", or may not read that"
        return Failure(REFUSED, f"Feed {feed.origin}{path} answered {status}: the token of {owner} is refused{also}; {grant}.")
