"""Early ends of an install: by an error, or because one of its commands was stopped, killed or timed out."""

from __future__ import annotations

from flowsession_agent.install.failures import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from flowsession_agent.session.job import Outcome


class InstallError(Exception):
    """The install has failed. Carries the failure to report."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def raise_if_interrupted(outcome: Outcome, *, seconds: float, tool: str) -> None:
    """Raise InstallError unless the command ended by itself. `seconds` is the install's time limit."""
    if outcome.stopped:
        raise InstallError(Failure("Other", "The install was stopped: a newer environment replaces it."))
    if outcome.timed_out:
        message = f"The install took longer than {seconds:g} s: raise installer.timeoutSeconds, or require less to be built."
        raise InstallError(Failure("Timeout", message))
    if outcome.signal_number == 9:
        message = f"The node killed {tool or 'Python'} (signal 9), most likely for memory: choose a larger size."
        raise InstallError(Failure("OutOfMemory", message))
