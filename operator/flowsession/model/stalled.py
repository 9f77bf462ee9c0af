"""The condition Stalled: what can't go on by itself, so that those who wait for it (kstatus: Argo, Flux, `kubectl wait`) need not.

See https://github.com/kubernetes-sigs/cli-utils/tree/master/pkg/kstatus. It is there only where it is, or was, so.
"""

from collections.abc import Mapping

from flowsession.api.base import Condition
from flowsession.model.conditions import Verdict

CONDITION = "Stalled"

_SESSION = frozenset(
    {
        "DuplicateSession",
        "AgentRefused",
        "InstallFailed",
        "OutOfMemory",
        "SizeNotFound",
        "NoSizeFits",
        "StartTimeout",
        "InstanceOfAnotherUser",
    }
)
"""Reasons of a session's Ready=False that somebody has to do something about."""

_ENVIRONMENT = frozenset({"FlowInvalid", "RequirementsRejected", "ImageNotAllowed", "InvalidImageName", "SourceInvalid"})
"""The same of an environment's; a source that is missing may be about to be applied."""


def of_session(ready: Verdict | None, environment: str, before: Mapping[str, Condition], *, starting: bool) -> Verdict | None:
    """What follows from Ready and, where that is the cause, from the reason of EnvironmentResolved; `starting`: a new pod is under way.
    None: as it was."""
    if ready is None:
        return None
    stalls = ready.reason in _SESSION or (ready.reason == "EnvironmentNotReady" and environment in _ENVIRONMENT)
    return _verdict(ready, before, stalls=stalls and not starting)


def of_environment(ready: Verdict, before: Mapping[str, Condition]) -> Verdict | None:
    """What follows from an environment's Ready. None: as it was."""
    return _verdict(ready, before, stalls=ready.reason in _ENVIRONMENT)


def _verdict(ready: Verdict, before: Mapping[str, Condition], *, stalls: bool) -> Verdict | None:
    if ready.status is False and stalls:
        return Verdict(True, ready.reason, ready.message)
    stalled = before.get(CONDITION)
    return Verdict(False, "Progressing", "it goes on") if stalled is not None and stalled.status == "True" else None
