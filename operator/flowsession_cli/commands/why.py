"""`kubectl flow why`: what is wrong, where, and what to do."""

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import click

from flowsession_cli import app, explain, naming, pack, render, ways
from flowsession_cli.cluster import ENVIRONMENT, INSTANCE, RUN, SESSION, Cluster, Object
from flowsession_cli.errors import CliError

_SILENT = ("PodFailed", "OutOfMemory", "AgentUnreachable", "AgentRefused", "StartTimeout")
"""Reasons of a session about which its container's log may say more."""

_KINDS = {
    "session": ("session", "sessions", "csess", "computesession", "computesessions", SESSION),
    "run": ("run", "runs", "frun", "flowrun", "flowruns", RUN),
    "environment": ("environment", "env", "fenv", "flowenvironment", "flowenvironments", ENVIRONMENT),
    "instance": ("instance", "instances", "cinst", "computeinstance", "computeinstances", INSTANCE),
}
"""What may stand before a name, as `run/NAME`; kubectl's short names too."""


@click.command("why")
@click.argument("name", default="", metavar="[NAME or DIR]", shell_complete=app.complete(SESSION))
@app.common
def why_command(cluster: Cluster, name: str) -> None:
    """Say why a session isn't running, or was ended: cause, place and way out.

    Also of a run, an environment or an instance; where several have one name, of the session, unless it is called run/NAME, env/NAME or
    instance/NAME. Of names that are gone, by their Events. Exits with 0 when all is well, else with 1.
    """
    kind, name = _named(name)
    found = _find(cluster, kind, name)
    given = (("-n", cluster.namespace), ("--context", cluster.context), ("--kubeconfig", cluster.kubeconfig))
    options = " ".join(f"{flag} {value}" for flag, value in given if value)
    out = render.console()
    out.print(found.headline)
    render.fields(out, [(title, ways.with_options(text, options) if title == "do" else text) for title, text in found.rows])
    if not found.well:
        sys.exit(1)


def _named(target: str) -> tuple[str, str]:
    """The kind, empty if none is given, and the name that a target on the command line means."""
    before, slash, name = target.partition("/")
    kind = next((kind for kind, words in _KINDS.items() if before.lower() in words), "")
    if slash and name and kind and not Path(target).is_dir():
        return kind, name
    if naming.is_folder(target):
        return "", naming.of_folder(pack.flow_folder(Path(target or ".")))
    return "", target


def _find(cluster: Cluster, kind: str, name: str) -> explain.Finding:
    """Sessions first, then runs, instances, sessions that are gone, and environments: one of a folder has its session's name."""
    for of, find in _FINDERS.items():
        if kind in ("", of) and (found := find(cluster, name)) is not None:
            return found
    environment = cluster.find(ENVIRONMENT, name) if kind != "instance" else None
    if kind != "environment":
        kinds = ("ComputeSession", "FlowRun", "ComputeInstance") if environment else ()
        if events := cluster.events(name, *(kinds or ("ComputeSession", "FlowRun", "ComputeInstance", "FlowEnvironment"))):
            return explain.gone(name, events, environment)
    if environment is not None and kind in ("", "environment"):
        return explain.environment(environment, cluster.events(name, "FlowEnvironment"))
    names = cluster.names({"run": RUN, "environment": ENVIRONMENT, "instance": INSTANCE}.get(kind, SESSION))
    advice = f"there are {', '.join(names[:10])}" if names else "there is none"
    what = kind or "session"
    raise CliError(f"there is no {what} {name}, and no Event tells of one, which the cluster keeps for an hour: {advice}")


def _session(cluster: Cluster, name: str) -> explain.Finding | None:
    session = cluster.find(SESSION, name)
    if session is None:
        return None
    status, ready = session.get("status", {}), render.condition(session, "Ready")
    environment = cluster.find(ENVIRONMENT, session["spec"]["environmentRef"]["name"])
    pod_events: list[Object] = []
    log = ""
    if ready.get("status") != "True":
        pod = status.get("podName", "")
        pod_events = cluster.events(pod, "Pod") if pod else cluster.events_of_former_pods(session) if status.get("restarts") else []
        log = cluster.log(pod) if pod and ready.get("reason") in _SILENT else ""
    return explain.session(session, environment, pod_events, cluster.events(name, "ComputeSession"), now=time.time(), log=log)


def _run(cluster: Cluster, name: str) -> explain.Finding | None:
    run = cluster.find(RUN, name)
    if run is None:
        return None
    waits = run.get("status", {}).get("phase") in ("Queued", "Preparing")
    session = ways.session_of_run(run) if waits else ""
    return explain.run(run, cluster.events(name, "FlowRun"), _session(cluster, session) if session else None)


def _instance(cluster: Cluster, name: str) -> explain.Finding | None:
    instance = cluster.find(INSTANCE, name)
    if instance is None:
        return None
    pod = instance.get("status", {}).get("podName", "")
    return explain.instance(instance, cluster.events(pod, "Pod") if pod else [], cluster.events(name, "ComputeInstance"))


_FINDERS: Mapping[str, Callable[[Cluster, str], explain.Finding | None]] = {"session": _session, "run": _run, "instance": _instance}
