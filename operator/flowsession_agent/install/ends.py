"""How an install ends before its last step: by an error, or because a command of it was ended from outside."""

from __future__ import annotations

from flowsession_agent.install.failures import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from flowsession_agent.session.job import Outcome


class InstallError(Exception):
    """The install is over; carries what to tell."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def give_up_if_over(outcome: Outcome, *, seconds: float, tool: str) -> None:
    """Goes on after a command that ended by itself; `seconds` is the install's limit. Raises InstallError for any other."""
    if outcome.stopped:
        raise InstallError(Failure("Other", "The install was stopped: a newer environment replaces it."))
    if outcome.timed_out:
        message = f"The install took longer than {seconds:g} s: raise installer.timeoutSeconds, or require less to be built."
        raise InstallError(Failure("Timeout", message))
    if outcome.signal_number == 9:
        message = f"The node killed {tool or 'Python'} (signal 9), most likely for memory: choose a larger size."
        raise InstallError(Failure("OutOfMemory", message))
