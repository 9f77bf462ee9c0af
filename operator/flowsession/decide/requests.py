"""What people ask for by annotations: reset, install, resume, keep-alive. Each value is handled once and echoed in the status."""

from flowsession.api import GROUP
from flowsession.decide import times
from flowsession.decide.notes import Notes

REQUESTS = {
    "reset": f"{GROUP}/reset-requested-at",
    "install": f"{GROUP}/install-requested-at",
    "resume": f"{GROUP}/resume-requested-at",
    "keepAlive": f"{GROUP}/keep-alive-requested-at",
}
"""What each annotation asks for; its value is a timestamp, any new one, as Flux has it."""


def refuse_junk(notes: Notes) -> bool:
    """Says so, once, of values that are no timestamps."""
    for what in notes.requests:
        if (value := pending(notes, what)) and times.parse(value) is None:
            said = f"annotation {REQUESTS[what]} is {value!r}, which is no timestamp; set it to one, such as 2026-11-22T20:00:00Z"
            refuse(notes, what, said)
    return True


def pending(notes: Notes, what: str) -> str:
    """The value of a request that was not handled yet; empty if there is none."""
    value = notes.requests.get(what, "")
    return value if notes.status.get("handledRequests", {}).get(what) != value else ""


def done(notes: Notes, what: str) -> None:
    """The request is handled, or needs no handling."""
    if value := pending(notes, what):
        notes.put("handledRequests", {**notes.status.get("handledRequests", {}), what: value})


def refuse(notes: Notes, what: str, why: str) -> None:
    """The request is handled by saying why nothing comes of it."""
    done(notes, what)
    notes.tell(warning=True, reason="RequestRefused", message=why)
