"""What people ask for by annotations: reset, install, resume, keep-alive. Each value is handled once and echoed in the status."""

from collections.abc import Iterable, Mapping
from typing import Any

from flowsession.api import GROUP
from flowsession.model import times, words
from flowsession.model.draft import Notes

REQUESTS = {
    "reset": f"{GROUP}/reset-requested-at",
    "install": f"{GROUP}/install-requested-at",
    "resume": f"{GROUP}/resume-requested-at",
    "keepAlive": f"{GROUP}/keep-alive-requested-at",
}
"""What each annotation asks for; its value is a timestamp, any new one, as Flux has it."""


UNKNOWN = "unknown"
"""In place of a request: the names of annotations of ours that mean nothing here, separated by spaces."""

UNKNOWN_REASON = "UnknownAnnotation"


def refuse_junk(notes: Notes, known: Iterable[str] = tuple(REQUESTS.values())) -> bool:
    """Says so, once, of values that are no timestamps and of names that mean nothing."""
    for name in news_of_unknown(notes.requests, notes.status):
        notes.tell(warning=True, reason=UNKNOWN_REASON, message=unknown(name, known))
    done(notes, UNKNOWN)
    for what in notes.requests:
        if what != UNKNOWN and (value := pending(notes, what)) and times.parse(value) is None:
            said = f"annotation {REQUESTS[what]} is {value!r}, which is no timestamp; set it to one, such as 2026-11-22T20:00:00Z"
            refuse(notes, what, said)
    return True


def news_of_unknown(asked: Mapping[str, str], status: Mapping[str, Any]) -> list[str]:
    """The names of annotations that mean nothing and that nobody was told of yet."""
    told = ((status.get("handledRequests") or {}).get(UNKNOWN) or "").split()
    return [name for name in asked.get(UNKNOWN, "").split() if name not in told]


def unknown(name: str, known: Iterable[str]) -> str:
    """What is said of such an annotation."""
    ours = len(GROUP) + 1  # of the group's name all have the same
    near = words.nearest(name[ours:], (one[ours:] for one in known))
    return f"annotation {name} means nothing here: {f'did you mean {GROUP}/{near}?' if near else 'there are ' + ', '.join(sorted(known))}"


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
