"""`kubectl flow why`: what is wrong, where, and what to do."""

import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

from flowsession_cli import app, explain, naming, render, ways
from flowsession_cli.cluster import ENVIRONMENT, INSTANCE, RUN, SESSION, Cluster, Object
from flowsession_cli.errors import CliError, Forbidden

_SILENT = ("PodFailed", "OutOfMemory", "AgentUnreachable", "AgentRefused", "StartTimeout")
"""Reasons of a session for which its container's log may explain more."""

_KINDS = {
    "session": ("session", "sessions", "csess", "computesession", "computesessions", SESSION),
    "run": ("run", "runs", "frun", "flowrun", "flowruns", RUN),
    "environment": ("environment", "env", "fenv", "flowenvironment", "flowenvironments", ENVIRONMENT),
    "instance": ("instance", "instances", "cinst", "computeinstance", "computeinstances", INSTANCE),
}
"""What may precede a name, as in `run/NAME`, including kubectl's short names."""

_API_KINDS = {"session": "ComputeSession", "run": "FlowRun", "instance": "ComputeInstance"}


@click.command("why")
@click.argument("name", default="", metavar="[NAME or DIR]", shell_complete=app.complete(SESSION))
@app.common
def why_command(cluster: Cluster, name: str) -> None:
    """Say why a session isn't running, or was ended: cause, place and way out.

    Also of a run, an environment or an instance; where several have one name, of the session, unless it is called run/NAME, env/NAME or
    instance/NAME. Of names that are gone, by their Events. Exits with 0 when all is well, else with 1.
    """
    kind, name = _named(name)
    look = ClusterReader(cluster)
    found = _find(look, kind, name)
    given = (("-n", cluster.namespace), ("--context", cluster.context), ("--kubeconfig", cluster.kubeconfig))
    options = " ".join(f"{flag} {value}" for flag, value in given if value)
    out = render.console()
    out.print(found.headline)
    if look.refused and not found.well:
        found.rows.append(("also", look.refused))
    render.fields(out, [(title, ways.with_options(text, options) if title == "do" else text) for title, text in found.rows])
    if not found.well:
        sys.exit(1)


class ClusterReader:
    """The cluster, with Events if the caller may see them. Without that right their lists are empty, and `refused` says why."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.refused = ""

    def events(self, name: str, *kinds: str, uid: str = "") -> list[Object]:
        """Return the Events of an object, or none if the caller may not see them."""
        return self._allowed(lambda: self.cluster.events(name, *kinds, uid=uid))

    def of_former_pods(self, session: Object) -> list[Object]:
        """Return the Events of the pods that a session had."""
        return self._allowed(lambda: self.cluster.events_of_former_pods(session))

    def _allowed(self, read: Callable[[], list[Object]]) -> list[Object]:
        try:
            return read()
        except Forbidden as error:
            self.refused = f"what Events tell is missing here: {error}"
            return []


def _named(target: str) -> tuple[str, str]:
    """Return the kind, empty if none is given, and the name that a target on the command line means."""
    before, slash, name = target.partition("/")
    kind = next((kind for kind, words in _KINDS.items() if before.lower() in words), "")
    if slash and name and kind and not Path(target).is_dir():
        return kind, name
    return "", naming.of_target(target)


def _find(look: ClusterReader, kind: str, name: str) -> explain.Finding:
    """Search sessions, runs, instances, deleted objects and then environments, since a folder's environment has its session's name."""
    for of, find in _FINDERS.items():
        if kind in ("", of) and (found := find(look, name)) is not None:
            return found
    environment = look.cluster.find(ENVIRONMENT, name) if kind in ("", "session", "environment") else None
    if kind != "environment":
        kinds = (
            (_API_KINDS[kind],)
            if kind
            else ("ComputeSession", "FlowRun", "ComputeInstance", *(() if environment else ("FlowEnvironment",)))
        )
        if events := look.events(name, *kinds):
            return explain.gone(name, events, environment, kind=kind)
    if environment is not None and kind in ("", "environment"):
        return explain.environment(environment, look.events(name, "FlowEnvironment"))
    names = look.cluster.names({"run": RUN, "environment": ENVIRONMENT, "instance": INSTANCE}.get(kind, SESSION))
    advice = naming.others(names, "there is none")
    what = kind or "session"
    raise CliError(f"there is no {what} {name}, and no Event tells of one, which the cluster keeps for an hour: {advice}")


def _session(look: ClusterReader, name: str) -> explain.Finding | None:
    session = look.cluster.find(SESSION, name)
    if session is None:
        return None
    status, ready = session.get("status", {}), render.condition(session, "Ready")
    pod = "" if ready.get("status") == "True" else status.get("podName", "")
    with ThreadPoolExecutor() as pool:  # each look-up runs its own kubectl
        environment = pool.submit(look.cluster.find, ENVIRONMENT, session["spec"]["environmentRef"]["name"])
        log = pool.submit(look.cluster.log, pod) if pod and ready.get("reason") in _SILENT else None
        events = pool.submit(look.events, name, "ComputeSession", uid=session["metadata"].get("uid", ""))
        if pod:
            pod_events = look.events(pod, "Pod")
        else:
            pod_events = look.of_former_pods(session) if status.get("restarts") and ready.get("status") != "True" else []
    last_words = log.result() if log else ""
    return explain.session(session, environment.result(), pod_events, events.result(), now=time.time(), log=last_words)


def _run(look: ClusterReader, name: str) -> explain.Finding | None:
    run = look.cluster.find(RUN, name)
    if run is None:
        return None
    waits = run.get("status", {}).get("phase") in ("Queued", "Preparing")
    session = ways.session_of_run(run) if waits else ""
    return explain.run(run, look.events(name, "FlowRun", uid=run["metadata"].get("uid", "")), _session(look, session) if session else None)


def _instance(look: ClusterReader, name: str) -> explain.Finding | None:
    instance = look.cluster.find(INSTANCE, name)
    if instance is None:
        return None
    pod = instance.get("status", {}).get("podName", "")
    return explain.instance(instance, look.events(pod, "Pod") if pod else [], look.events(name, "ComputeInstance"))


_FINDERS: Mapping[str, Callable[[ClusterReader, str], explain.Finding | None]] = {"session": _session, "run": _run, "instance": _instance}
