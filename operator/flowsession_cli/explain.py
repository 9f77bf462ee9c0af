"""Why a session is not running: the operator's, the scheduler's and the kubelet's words put in order. They are shown, not reworded."""

from collections.abc import Sequence
from dataclasses import dataclass

from flowsession_cli import render
from flowsession_cli.cluster import Object

TAIL_LINES = 8
"""Lines of an installer's errors that are shown."""

_PLACES = (
    ("EnvironmentResolved", "environment {environment}: kubectl describe fenv {environment}"),
    ("ComputeAllocated", "compute of the session: size, quota, nodes"),
    ("PackagesInstalled", "requirements of environment {environment}"),
    ("FlowValid", "flow folder of environment {environment}"),
    ("InSync", "what the session was given last"),
)
"""Conditions in the order of a start, and what each is about."""

_WAYS = {
    "Suspended": "kubectl flow resume {name}",
    "StartTimeout": "kubectl flow status {name} shows how far it is; it goes on",
}
"""What this program can do about a reason; the operator's message has all other ways out."""


@dataclass(frozen=True)
class Finding:
    """What is wrong with one thing. `rows` are (name, text), for people."""

    headline: str
    rows: Sequence[tuple[str, str]]
    well: bool


def session(thing: Object, environment: Object | None, pod_events: Sequence[Object], events: Sequence[Object]) -> Finding:
    """Explain a session that exists."""
    name, status = thing["metadata"]["name"], thing.get("status", {})
    of = {"name": name, "environment": thing["spec"]["environmentRef"]["name"]}
    ready = render.condition(thing, "Ready")
    phase = status.get("phase") or "New"
    if not ready:
        cause = "the operator has not looked at it: is it running? kubectl get deployments -A -l app.kubernetes.io/name=flowsession"
        return Finding(f"{name} is not running", [("cause", cause)], well=False)
    running = ready["status"] == "True"
    bad = [(kind, found, place) for kind, place in _PLACES if (found := render.condition(thing, kind)).get("status") == "False"]
    if running and not bad:
        return Finding(f"{name} is {phase}: nothing is wrong", [("", ready["message"])], well=True)
    rows: list[tuple[str, str]] = []
    if not running:
        rows.append(("cause", _said(ready)))
    for _, found, place in bad:
        if running or found.get("message") != ready.get("message"):
            rows.append(("cause" if running else "also", _said(found)))
        rows.append(("where", place.format(**of)))
    if not running and status.get("podName"):
        rows.append(("where", ", ".join(part for part in (f"pod {status['podName']}", _on(status)) if part)))
    rows += _environment(environment, of["environment"], [text for _, text in rows])
    rows += _installer(status)
    if way := _WAYS.get(ready.get("reason", "")):
        rows.append(("do", way.format(**of)))
    rows += [] if running else _events("pod", pod_events)
    rows += _events("event", events)
    return Finding(f"{name} is {phase}, but not all is well" if running else f"{name} is not running: it is {phase}", rows, well=False)


def environment(thing: Object, events: Sequence[Object]) -> Finding:
    """Explain an environment."""
    return _by_condition(thing, "Ready", "environment", events, missing="the operator has not looked at it")


def run(thing: Object, events: Sequence[Object]) -> Finding:
    """Explain a run: one that goes on is well."""
    found, status = _by_condition(thing, "Complete", "run", events, missing="the operator has not looked at it"), thing.get("status", {})
    rows = list(found.rows)
    for problem in status.get("errors") or ():
        place = f"line {problem['line']}" if problem.get("line") is not None else "the run"
        rows.append((place, f"{problem['message']}{f' (node {node})' if (node := problem.get('node')) else ''}"))
    phase = status.get("phase") or "New"
    well = phase in ("Completed", "Running", "Preparing")
    return Finding(f"run {thing['metadata']['name']} is {phase}" + (": nothing is wrong" if well else ""), rows, well=well)


def gone(name: str, events: Sequence[Object]) -> Finding:
    """Explain what is not there any more, by its Events, which the cluster keeps for an hour."""
    rows = _events("", events, count=8)
    return Finding(f"there is no session or run {name} now; what was said of it, the last at the end", rows, well=False)


def _by_condition(thing: Object, kind: str, what: str, events: Sequence[Object], *, missing: str) -> Finding:
    found, name = render.condition(thing, kind), thing["metadata"]["name"]
    if found.get("status") == "True":
        return Finding(f"{what} {name}: nothing is wrong", [("", found.get("message", ""))], well=True)
    rows = [("cause", _said(found) if found else missing)]
    return Finding(f"{what} {name} is not {kind}", rows + _events("event", events), well=False)


def _said(found: Object) -> str:
    return f"{found.get('message') or 'no reason was given'} ({found.get('reason', '')})"


def _on(status: Object) -> str:
    return f"on node {status['nodeName']}" if status.get("nodeName") else "on no node yet"


def _environment(thing: Object | None, name: str, told: Sequence[str]) -> list[tuple[str, str]]:
    """What the environment says itself, if the session's words don't have it."""
    if thing is None:
        return [("also", f"there is no environment {name}: kubectl flow start makes one of a flow folder")]
    found = render.condition(thing, "Ready")
    rows = [("also", _said(found))] if found.get("status") == "False" else []
    return [row for row in rows if not any(found["message"] in text for text in told)]


def _installer(status: Object) -> list[tuple[str, str]]:
    """The last words of an install that failed."""
    install = status.get("install") or {}
    if not install.get("exitCode"):
        return []
    lines = [line for line in str(install.get("stderrTail") or install.get("stdoutTail") or "").splitlines() if line.strip()]
    return [(install.get("tool") or "installer", "\n".join(lines[-TAIL_LINES:]))]


def _events(title: str, events: Sequence[Object], *, count: int = 3) -> list[tuple[str, str]]:
    """The last Events; of a pod or session that lives, its warnings."""
    wanted = [event for event in events if event.get("type") == "Warning" or not title]
    return [(title or render.clock(stamp), f"{reason}: {message}") for stamp, reason, message in render.folded(wanted, count)]
