"""What is told when a feed can't be asked, or doesn't take the token."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from flowsession_agent.install.failures import Failure

MISSING = "FeedCredentialsMissing"
REFUSED = "FeedRefused"


class FeedError(Exception):
    """A feed can't be asked; carries what to tell."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure
