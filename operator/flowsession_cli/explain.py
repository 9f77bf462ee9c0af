"""Explain why a session, a run, an environment or an instance is not as it should be: put the messages of operator, scheduler, kubelet,
installer and agent in order. They are shown unchanged, followed by what this program can do about it."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from flowsession_cli import render, ways
from flowsession_cli.cluster import Object

TAIL_LINES = 8
"""Last lines shown of an installer's errors or of a log."""

_NEW_SECONDS = 10.0
"""Seconds after its creation for which a session may lack a status from the operator without anything being wrong."""

_CONDITIONS = ("EnvironmentResolved", "ComputeAllocated", "PackagesInstalled", "FlowValid", "InSync", "EditsInPlace")
"""Conditions of a session, in the order of a start."""

_ON_ITS_WAY = frozenset({"Starting", "ScalingUp", "IdentityPending", "InstanceStarting", "Installing", "Resolving", "Preparing", "Running"})
"""Reasons of something that is still in progress, with nothing wrong so far."""

_ENDS = re.compile(r"is being (?:deleted|suspended)")
"""The operator's messages about a session that it ends."""

_NOISE = re.compile(r"Error: (?:ErrImagePull|ImagePullBackOff)$|Back-off (?:pulling image|restarting failed container)|Pulling image ")
"""Kubelet messages that don't help to explain a failure."""

Row = tuple[str, str]


@dataclass(frozen=True)
class Finding:
    """The explanation of one object. `rows` are (title, text) pairs, for people."""

    headline: str
    rows: list[Row]
    well: bool


def session(
    thing: Object, environment: Object | None, pod_events: Sequence[Object], events: Sequence[Object], *, now: float, log: str = ""
) -> Finding:
    """Explain a session that exists. `log`: the last lines of its container, for a failure whose message may not explain it."""
    name, status = thing["metadata"]["name"], thing.get("status", {})
    ready = render.condition(thing, "Ready")
    phase = status.get("phase") or "New"
    if "deletionTimestamp" in thing["metadata"]:
        return Finding(f"{name} is being deleted", _story(Rows(), events=events), well=False)
    if not ready:
        return _unseen(thing, now)
    running = ready["status"] == "True"
    bad = {kind: found for kind in _CONDITIONS if (found := render.condition(thing, kind)).get("status") == "False"}
    if not running and ready.get("reason") in _ON_ITS_WAY:
        bad = {kind: found for kind, found in bad.items() if found.get("reason") not in (*_ON_ITS_WAY, "RequirementsChanged")}
    if "PackagesInstalled" in bad:
        bad.pop("InSync", None)  # implied: what wasn't installed isn't in the session
    rows = Rows()
    if running and not bad:
        rows.add("", ready["message"])
        _soon(rows, thing)
        _before(rows, status, events)
        return Finding(f"{name} is {phase}: nothing is wrong", rows, well=True)
    on_its_way = not running and not bad and ready.get("reason") in _ON_ITS_WAY
    if not running:
        same = next((found for found in bad.values() if found.get("message") == ready.get("message")), ready)
        rows.add("now" if on_its_way else "cause", _words_of(same))
    for kind, found in bad.items():
        rows.add("cause" if running else "also", _words_of(found), if_new=True)
        rows.add("where", ways.place(kind, found, thing, environment))
    if not running and status.get("podName"):
        rows.add("where", ", ".join(part for part in (f"pod {status['podName']}", _on(status)) if part))
    _of_environment(rows, environment, thing)
    if thing["metadata"].get("generation", 0) > status.get("observedGeneration", 0):
        rows.add("also", "the operator has not looked at the last change of its spec yet")
    _installer(rows, status)
    for way in ways.of_session(thing, environment, bad):
        rows.add("do", way)
    _story(rows, pods=() if running else pod_events, events=events)
    for line in log.splitlines()[-TAIL_LINES:]:
        rows.add("log", line)
    return Finding(_headline(name, phase, ready, on_its_way=on_its_way, now=now), rows, well=False)


def _unseen(thing: Object, now: float) -> Finding:
    """Explain a session without a status from the operator."""
    name = thing["metadata"]["name"]
    if now - render.seconds_of(thing["metadata"]["creationTimestamp"]) < _NEW_SECONDS:
        return Finding(f"{name} is not running yet: it was made a moment ago", [("now", "the operator is about to look at it")], well=False)
    return Finding(f"{name} is not running: nobody has looked at it", [("cause", ways.NO_OPERATOR)], well=False)


def _headline(name: str, phase: str, ready: Object, *, on_its_way: bool, now: float) -> str:
    if ready["status"] == "True":
        return f"{name} is {phase}, but not all is well"
    since = f" (for {render.age(ready['lastTransitionTime'], now)})"
    if on_its_way or ready["message"].endswith("starting again"):
        return f"{name} is not running yet: it is {phase}{since}"
    if ready["status"] == "Unknown":
        return f"nobody knows whether {name} can be used: it is {phase}{since}"
    return f"{name} is not running: it is {phase}{since}"


class Rows(list[Row]):
    """Rows that don't repeat one another."""

    def add(self, title: str, text: str, *, if_new: bool = False) -> None:
        """Add a row unless its text is empty or the row exists. `if_new`: unless any row contains the text."""
        if text and (title, text) not in self and not (if_new and self.have(text)):
            self.append((title, text))

    def have(self, text: str) -> bool:
        """Return whether a row contains the text, apart from a reason in parentheses at its end."""
        bare = re.sub(r" \(\w+\)$", "", text)
        return any(bare in message for _, message in self)


def environment(thing: Object, events: Sequence[Object]) -> Finding:
    """Explain an environment."""
    name, status, rows = thing["metadata"]["name"], thing.get("status", {}), Rows()
    ready = render.condition(thing, "Ready")
    if not ready:
        return Finding(f"environment {name} is not Ready: nobody has looked at it", [("cause", ways.NO_OPERATOR)], well=False)
    resolved = ready["status"] == "True"
    on_its_way = ready.get("reason") in _ON_ITS_WAY
    bad = [found for kind in ("FlowValid", "WarmPoolReady") if (found := render.condition(thing, kind)).get("status") == "False"]
    rows.add("" if resolved else "now" if on_its_way else "cause", ready["message"] if resolved else _words_of(ready))
    for found in bad:
        rows.add("cause" if resolved else "also", _words_of(found), if_new=True)
    well = resolved and not bad
    if not well:
        rows.add("where", ways.source(thing))
    for warning in status.get("warnings") or ():
        place = f"{warning.get('file', '')}{f' line {line}' if (line := warning.get('line')) else ''}"
        rows.add("warning", f"{f'{place}: ' if place else ''}{warning['message']}", if_new=True)
    if not well:
        for way in ways.of_environment(thing):
            rows.add("do", way)
        _story(rows, events=events)
    state = "nothing is wrong" if well else "not all is well" if resolved else f"it is not Ready{' yet' if on_its_way else ''}"
    return Finding(f"environment {name}: {state}", rows, well=well)


def run(thing: Object, events: Sequence[Object], of_session: Finding | None = None) -> Finding:
    """Explain a run. One in progress is well. `of_session`: the finding about the session that it waits for."""
    name, status, rows = thing["metadata"]["name"], thing.get("status", {}), Rows()
    complete, phase = render.condition(thing, "Complete"), status.get("phase") or "New"
    if not complete:
        return Finding(f"run {name} is {phase}: nobody has looked at it", [("cause", ways.NO_OPERATOR)], well=False)
    going = phase in ("Running", "Preparing") and complete.get("reason") in ("Running", "Preparing", "Resumed")
    well = phase == "Completed" or going
    rows.add("" if well else "cause", complete["message"] if well else _words_of(complete))
    _lines(rows, status.get("errors") or (), complete.get("message", ""))
    for warning in status.get("warnings") or ():
        rows.add("warning", warning)
    if not well:
        rows.add("where", ways.place_of_run(thing))
    if of_session is not None and not of_session.well:
        rows.add("session", of_session.headline)
        for title, text in of_session.rows:
            rows.add(title, text, if_new=title != "do")
    if phase == "Failed" and not status.get("errors"):
        for line in str(status.get("logTail") or "").strip().splitlines()[-TAIL_LINES:]:
            rows.add("log", line, if_new=True)
    if not well:
        for way in ways.of_run(thing):
            rows.add("do", way)
        _story(rows, events=events)
    return Finding(f"run {name} is {phase}" + (": nothing is wrong" if well else ""), rows, well=well)


def _lines(rows: Rows, errors: Iterable[Object], cause: str) -> None:
    """Add the lines that failed, those with the same message together. Don't repeat a message that `cause` contains."""
    lines: dict[tuple[str, str], list[str]] = {}
    for problem in errors:
        lines.setdefault((problem["message"], problem.get("node") or ""), []).append(str(problem.get("line", "")))
    for (message, node), numbers in lines.items():
        text = f"{'the same' if message in cause else message}{f' (node {node})' if node else ''}"
        rows.add(f"line {', '.join(numbers)}" if any(numbers) else "the run", text)


def instance(thing: Object, pod_events: Sequence[Object], events: Sequence[Object]) -> Finding:
    """Explain an instance."""
    name, status, rows = thing["metadata"]["name"], thing.get("status", {}), Rows()
    ready, phase = render.condition(thing, "Ready"), status.get("phase") or "New"
    if not ready:
        return Finding(f"instance {name} is not running: nobody has looked at it", [("cause", ways.NO_OPERATOR)], well=False)
    if ready["status"] == "True":
        rows.add("", ready["message"])
        _soon(rows, thing)
        return Finding(f"instance {name} is {phase}: nothing is wrong", rows, well=True)
    rows.add("cause", _words_of(ready))
    for way in ways.of_instance(thing):
        rows.add("do", way)
    if ready.get("reason") != "Stopped":  # a stopped instance's Events are those of an earlier start
        _story(rows, pods=pod_events, events=events)
    return Finding(f"instance {name} is not running: it is {phase}", rows, well=False)


def gone(name: str, events: Sequence[Object], environment: Object | None, *, kind: str = "") -> Finding:
    """Explain an object that no longer exists by its Events, which the cluster keeps for an hour. `kind`: the kind that was asked for."""
    rows = Rows()
    ends = [row for row in render.folded(events, len(events)) if _ENDS.search(row[2])]
    if ends:
        stamp, reason, message = ends[-1]
        rows.add("cause", f"{message} ({reason}), at {render.clock(stamp)}")
    else:
        rows.add("cause", "no Event says why: somebody, or a program, has deleted it")
    if environment is not None:
        rows.add("do", f"kubectl flow start {environment['metadata']['name']} starts it again, with the edits that were saved")
    for stamp, reason, message in render.folded(events, 8):
        if not rows.have(message):
            rows.append((render.clock(stamp), f"{reason}: {message}"))
    return Finding(f"there is no {kind or 'session or run'} {name} now; what was said of it, the last at the end", rows, well=False)


def _words_of(found: Object) -> str:
    return f"{found.get('message') or 'no reason was given'} ({found.get('reason', '')})"


def _on(status: Object) -> str:
    return f"on node {status['nodeName']}" if status.get("nodeName") else "on no node yet"


def _soon(rows: Rows, thing: Object) -> None:
    """Add a row about an end that is near or postponed."""
    active = render.condition(thing, "Active")
    if active.get("reason") in ("IdleSoon", "EditsNotSaved"):
        rows.add("soon", _words_of(active))
        for way in ways.named(active["message"], thing):
            rows.add("do", way)


def _before(rows: Rows, status: Object, events: Sequence[Object]) -> None:
    """Add why a running session was restarted."""
    if status.get("restarts") or status.get("containerRestarts"):
        for stamp, reason, message in render.folded(_warnings(events), 2):
            rows.add("earlier", f"{message} ({reason}), at {render.clock(stamp)}")


def _of_environment(rows: Rows, thing: Object | None, session: Object) -> None:
    """Add that the environment is missing, or its own message if no row contains it."""
    if thing is None:
        if render.condition(session, "EnvironmentResolved").get("status") != "False":
            rows.add("also", f"there is no environment {session['spec']['environmentRef']['name']}")
        return
    found = render.condition(thing, "Ready")
    if found.get("status") == "False":
        rows.add("also", _words_of(found), if_new=True)


def _installer(rows: Rows, status: Object) -> None:
    """Add the last lines of an install that failed."""
    install = status.get("install") or {}
    if install.get("exitCode"):
        lines = [line for line in str(install.get("stderrTail") or install.get("stdoutTail") or "").splitlines() if line.strip()]
        rows.add(install.get("tool") or "installer", "\n".join(lines[-TAIL_LINES:]))


def _warnings(events: Iterable[Object]) -> list[Object]:
    return [event for event in events if event.get("type") == "Warning"]


def _story(rows: Rows, *, pods: Sequence[Object] = (), events: Sequence[Object], count: int = 3) -> Rows:
    """Add the last warnings of scheduler, autoscaler, kubelet and operator that no row contains."""
    for title, candidates in (("pod", pods), ("event", events)):
        wanted = [
            event for event in candidates if _is_cause(event) and not rows.have(_message(event)) and not _NOISE.match(_message(event))
        ]
        for _, reason, message in render.folded(wanted, count):
            rows.add(title, f"{reason}: {message}")
    return rows


def _is_cause(event: Object) -> bool:
    return event.get("type") == "Warning" or event.get("reason") in ("NotTriggerScaleUp", "TriggeredScaleUp", "Nominated", "Preempted")


def _message(event: Object) -> str:
    return str(event.get("message") or event.get("note") or "").strip()
