"""Records of a run: requests to the API server, Events, and calls to agents, each with its moment in the loop's time."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Request:
    at: float
    verb: str
    kind: str
    name: str


Requests = list[Request]


@dataclass(frozen=True)
class EventWrite:
    """One write of an Event."""

    at: float
    about: str
    type: str
    reason: str
    message: str


@dataclass(frozen=True)
class Call:
    """One call to an agent: its time, pod and name."""

    at: float
    pod: str
    what: str
