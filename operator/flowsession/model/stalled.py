"""The condition Stalled: the object can't progress by itself, so tools that wait for it (kstatus: Argo, Flux, `kubectl wait`) can stop.

See https://github.com/kubernetes-sigs/cli-utils/tree/master/pkg/kstatus. Objects that never stalled don't have the condition.
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
"""Reasons of a session's Ready=False that only a person can fix."""

_ENVIRONMENT = frozenset({"FlowInvalid", "RequirementsRejected", "ImageNotAllowed", "InvalidImageName", "SourceInvalid"})
"""The same for environments. A missing source is not among them: it may be applied in a moment."""


def of_session(ready: Verdict | None, environment: str, before: Mapping[str, Condition], *, starting: bool) -> Verdict | None:
    """Return what follows from Ready and, if the environment is the cause, from the reason of EnvironmentResolved, or None for no change.

    `starting` is true while a new pod is starting.
    """
    if ready is None:
        return None
    stalls = ready.reason in _SESSION or (ready.reason == "EnvironmentNotReady" and environment in _ENVIRONMENT)
    return _verdict(ready, before, stalls=stalls and not starting)


def of_environment(ready: Verdict, before: Mapping[str, Condition]) -> Verdict | None:
    """Return what follows from an environment's Ready, or None for no change."""
    return _verdict(ready, before, stalls=ready.reason in _ENVIRONMENT)


def _verdict(ready: Verdict, before: Mapping[str, Condition], *, stalls: bool) -> Verdict | None:
    if ready.status is False and stalls:
        return Verdict(True, ready.reason, ready.message)
    stalled = before.get(CONDITION)
    return Verdict(False, "Progressing", "it goes on") if stalled is not None and stalled.status == "True" else None
