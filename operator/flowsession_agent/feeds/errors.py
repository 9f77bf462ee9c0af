"""Failures of feeds that lack a token or refuse it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from flowsession_agent.install.failures import Failure

MISSING = "FeedCredentialsMissing"
REFUSED = "FeedRefused"


class FeedError(Exception):
    """A feed can't be used. Carries the failure to report."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure
