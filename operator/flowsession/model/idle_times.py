"""The seconds that the idle rules of sessions and of instances share."""

FRESH_SECONDS = 5.0
"""How old an agent's word may be when it is acted on."""

AHEAD_SECONDS = 5.0
"""What may lie ahead of this operator's clock; more is the work of a clock that was wrong."""

REFUSED_PAUSE = 1.0
"""Seconds after which an agent is asked again that would not retire although it says that it has been idle for long enough."""

UNDONE_SECONDS = 1.0
"""Seconds after which an end is thought of again that should be done by then: the door of one that failed must not stay closed."""

LONGEST_WARNING = 300.0
_WARNING_SHARE = 0.1


def warned_for(timeout_seconds: float) -> float:
    """Seconds from the warning to the idle end: a tenth of the timeout, or 5 minutes, whichever is less."""
    return min(timeout_seconds * _WARNING_SHARE, LONGEST_WARNING)


AGAIN_SECONDS = 60.0
"""How often a quiet session's agent is asked again while another one on the instance can't be asked."""
