"""Commands of an install that were ended from outside: what that means for the install."""

from __future__ import annotations

from flowsession_agent.install.failures import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from flowsession_agent.job import Outcome


def of_end(outcome: Outcome, *, seconds: float, tool: str) -> Failure | None:
    """The failure of a command that didn't end by itself, None for one that did; `seconds` is the install's limit."""
    if outcome.stopped:
        return Failure("Other", "The install was stopped: a newer environment replaces it.")
    if outcome.timed_out:
        return Failure(
            "Timeout", f"The install took longer than {seconds:g} s: raise installer.timeoutSeconds, or require less to be built."
        )
    if outcome.signal_number == 9:
        return Failure("OutOfMemory", f"The node killed {tool or 'Python'} (signal 9), most likely for memory: choose a larger size.")
    return None
