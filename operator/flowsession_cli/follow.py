"""Follow a session until it can be used: live in a terminal, one line per event in a pipe."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from flowsession.api import GROUP
from flowsession_cli import changes, errors, installer, render
from flowsession_cli.cluster import ENVIRONMENT, INSTANCE, SESSION, Cluster, Object
from flowsession_cli.errors import CliError

REACTION_SECONDS = 5.0
"""Seconds within which the operator has looked at a change."""

_TAKEN_UP_SECONDS = 60.0

_MISSING = frozenset({"InstanceNotFound", "InstanceOfAnotherUser", "SizeNotFound"})
"""Reasons of a session that names something missing, or another user's. The operator waits for it, but whoever mistyped it need not."""


def until_ready(cluster: Cluster, name: str, *, generation: int = 0, new: bool = False) -> Object:
    """Return the session once it is Ready, and show its progress. ^C detaches. Raises CliError with the operator's message, at once if
    session and environment are new, since no earlier state can be in it."""
    return until(cluster, name, lambda session: is_ready(session, generation), new=new)


def is_ready(session: Object, generation: int = 0) -> bool:
    """Return whether it is Ready, as observed at this generation of its spec or a later one."""
    ready = render.condition(session, "Ready")
    return ready.get("status") == "True" and ready.get("observedGeneration", 0) >= generation


def until(cluster: Cluster, name: str, done: Callable[[Object], bool], *, new: bool = False) -> Object:
    """Return the session once it is `done`. Raises CliError if it is gone or can't continue by itself."""
    with detaching(name), _shown(cluster, name) as show:
        if not new:
            _let_it_react(cluster, name)
        for session in changes.of(cluster, SESSION, name, noun="session", deleted=f"; kubectl flow why {name} says by whom or what"):
            show(session)
            if done(session):
                return session
            refuse_stuck(name, session)
            refuse_stopped_instance(cluster, name, session)
    raise AssertionError("changes don't end")


def detaching(name: str) -> contextlib.AbstractContextManager[None]:
    """Let ^C end only the display of a session, with a message."""
    return errors.detaching(name, shows=f"kubectl flow status {name}", ends=f"kubectl flow stop {name} deletes the session")


def resolved(cluster: Cluster, name: str, *, other_than: str = "") -> Object:
    """Return the environment once the operator has looked at its present spec and, if a flow revision is given, at a folder other than
    that. An unusable environment is returned too. Raises CliError on a timeout."""
    deadline = time.monotonic() + _TAKEN_UP_SECONDS
    while time.monotonic() < deadline:
        environment = cluster.get(ENVIRONMENT, name)
        status, ready = environment.get("status", {}), render.condition(environment, "Ready")
        looked_at = status.get("observedGeneration", 0) >= environment["metadata"].get("generation", 0)
        if looked_at and (ready.get("status") == "False" or (ready and status.get("flowRevision", "") != (other_than or None))):
            return environment
        time.sleep(0.3)
    raise CliError(f"the operator has not looked at environment {name} for {_TAKEN_UP_SECONDS:.0f} s: kubectl flow why {name}")


def _let_it_react(cluster: Cluster, name: str) -> None:
    """Return once the session isn't stalled, or is still stalled some seconds after a change."""
    deadline = time.monotonic() + REACTION_SECONDS
    while time.monotonic() < deadline:
        session = cluster.find(SESSION, name)
        if session is None or render.condition(session, "Stalled").get("status") != "True":
            return
        time.sleep(0.3)


def refuse_stuck(name: str, session: Object) -> None:
    """Raise CliError with the operator's message if the session can't continue by itself."""
    status = session.get("status", {})
    if status.get("observedGeneration", 0) < session["metadata"].get("generation", 0):
        return
    ready, stalled = render.condition(session, "Ready"), render.condition(session, "Stalled")
    if stalled.get("status") == "True" or ready.get("reason") in _MISSING:
        raise CliError(f"{name} can't start: {ready.get('message') or stalled.get('message')} ({ready.get('reason')})")


def refuse_stopped_instance(cluster: Cluster, name: str, session: Object) -> None:
    """Raise CliError if the session's instance is stopped and nobody has asked to start it: the session would wait forever."""
    if render.condition(session, "Ready").get("reason") != "InstanceStopped":
        return
    instance = session["spec"]["compute"]["instanceRef"]["name"]
    found = cluster.find(INSTANCE, instance)
    if found is None:
        return
    asked = (found["metadata"].get("annotations") or {}).get(f"{GROUP}/resume-requested-at")
    pending = asked and asked != (found.get("status", {}).get("handledRequests") or {}).get("resume")
    if not found["spec"].get("running", True) or (found.get("status", {}).get("stopped") and not pending):
        raise CliError(f"{name} is on the instance {instance}, which is stopped: kubectl flow instance start {instance} starts both")


@contextmanager
def _shown(cluster: Cluster, name: str) -> Iterator[Callable[[Object], None]]:
    live = render.is_terminal(sys.stdout)
    shown = render.StartPicture(name) if live else Lines(name)
    following = installer.Installer(cluster, shown.say)

    def show(session: Object) -> None:
        following.look(session)  # first, so that an install's last lines precede its result
        shown.show(session)

    with contextlib.ExitStack() as stack:
        if live:
            from rich.live import Live  # noqa: PLC0415

            stack.enter_context(Live(shown, console=render.console(), refresh_per_second=10))  # type: ignore[arg-type]
        stack.callback(following.close)
        yield show


class Lines:
    """A start as lines with elapsed seconds: each stage and each new message of the operator, once."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._began = time.time()
        self._shown: set[str] = set()

    def show(self, session: Object) -> None:
        """Print what is new."""
        status = session.get("status", {})
        for stage in render.own_stages(status, self._began):
            if stage.get("seconds") is not None and stage["name"] != render.WHOLE:
                self._print(f"{stage['name']} {stage['startedAt']}", f"{render.stage_result(stage)}, {stage['seconds']:.1f} s")
        ready = render.condition(session, "Ready")
        packages = render.condition(session, "PackagesInstalled")
        if ready.get("status") == "True" and packages.get("reason") == "Installing":
            self._print(f"in place {packages['message']}", f"Installing: {packages['message']}")
        elif phase := status.get("phase"):
            self._print(f"{phase} {ready.get('message')}", f"{phase}: {ready.get('message', '')}")

    def say(self, line: str) -> None:
        """Print a line of the installer's output."""
        print(f"{time.time() - self._began:6.1f} s    {line}", flush=True)

    def _print(self, key: str, text: str) -> None:
        if key not in self._shown:
            self._shown.add(key)
            print(f"{time.time() - self._began:6.1f} s  {text}", flush=True)
