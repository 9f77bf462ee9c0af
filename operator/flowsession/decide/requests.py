"""What people ask for by annotations: reset, install, resume, keep-alive. Each value is handled once and echoed in the status."""

from flowsession.api import GROUP
from flowsession.decide import times
from flowsession.decide.draft import Draft

REQUESTS = {
    "reset": f"{GROUP}/reset-requested-at",
    "install": f"{GROUP}/install-requested-at",
    "resume": f"{GROUP}/resume-requested-at",
    "keepAlive": f"{GROUP}/keep-alive-requested-at",
}
"""What each annotation asks for; its value is a timestamp, any new one, as Flux has it."""


def refuse_junk(draft: Draft) -> bool:
    """Says so, once, of values that are no timestamps."""
    for what, value in draft.snapshot.requests.items():
        if draft.handled(what) != value and times.parse(value) is None:
            refuse(
                draft, what, f"annotation {REQUESTS[what]} is {value!r}, which is no timestamp; set it to one, such as 2026-11-22T20:00:00Z"
            )
    return True


def pending(draft: Draft, what: str) -> str:
    """The value of a request that was not handled yet; empty if there is none."""
    value = draft.snapshot.requests.get(what, "")
    return value if value and draft.handled(what) != value else ""


def done(draft: Draft, what: str) -> None:
    """The request is handled, or needs no handling."""
    value = draft.snapshot.requests.get(what)
    if value and draft.handled(what) != value:
        draft.put("handledRequests", {**draft.status.get("handledRequests", {}), what: value})


def refuse(draft: Draft, what: str, why: str) -> None:
    """The request is handled by saying why nothing comes of it."""
    done(draft, what)
    draft.tell(warning=True, reason="RequestRefused", message=why)
