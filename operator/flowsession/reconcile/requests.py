"""Requests by annotation: reset, install, resume, keep-alive. Each value is handled once and echoed in the status."""

from collections.abc import Iterable, Mapping

from flowsession.api import GROUP
from flowsession.model import times, words
from flowsession.model.draft import Draft

REQUESTS = {
    "reset": f"{GROUP}/reset-requested-at",
    "install": f"{GROUP}/install-requested-at",
    "resume": f"{GROUP}/resume-requested-at",
    "keepAlive": f"{GROUP}/keep-alive-requested-at",
}
"""Annotation of each request. Its value is a timestamp; any new value is a new request, as in Flux."""

UNKNOWN = "unknown"
"""Key in a draft's requests whose value lists unknown annotations in this API's group, separated by spaces."""


def refuse_invalid(draft: Draft, known: Mapping[str, str] = REQUESTS) -> bool:
    """Refuse, once each, values that are not timestamps and annotations of this API's group that are not among the known ones."""
    reported = ((draft.status.get("handledRequests") or {}).get(UNKNOWN) or "").split()
    for name in draft.requests.get(UNKNOWN, "").split():
        if name not in reported:
            draft.event(warning=True, reason="UnknownAnnotation", message=_unknown(name, known.values()))
    done(draft, UNKNOWN)
    for what in draft.requests:
        if what != UNKNOWN and (value := pending(draft, what)) and times.parse(value) is None:
            message = f"annotation {known[what]} is {value!r}, which is no timestamp; set it to one, such as 2026-11-22T20:00:00Z"
            refuse(draft, what, message)
    return True


def _unknown(name: str, known: Iterable[str]) -> str:
    ours = len(GROUP) + 1  # they all begin with the group's name
    near = words.nearest(name[ours:], (one[ours:] for one in known))
    return f"annotation {name} means nothing here: {f'did you mean {GROUP}/{near}?' if near else 'there are ' + ', '.join(sorted(known))}"


def pending(draft: Draft, what: str) -> str:
    """Return the value of a request that is not handled yet, or an empty string."""
    value = draft.requests.get(what, "")
    return value if (draft.status.get("handledRequests") or {}).get(what) != value else ""


def done(draft: Draft, what: str) -> None:
    """Record that the request is handled, or needs no handling."""
    if value := pending(draft, what):
        handled(draft, what, value)


def handled(draft: Draft, what: str, value: str) -> None:
    """Record that the request with this value is handled, even if the annotation has another value by now."""
    draft.put("handledRequests", {**(draft.status.get("handledRequests") or {}), what: value})


def refuse(draft: Draft, what: str, why: str) -> None:
    """Record that the request is handled, and write an Event with the reason for refusing it."""
    done(draft, what)
    draft.event(warning=True, reason="RequestRefused", message=why)
