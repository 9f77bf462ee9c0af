"""`kubectl flow why`: what is wrong, where, and what to do."""

import sys
from pathlib import Path

import click

from flowsession_cli import app, explain, naming, pack, render
from flowsession_cli.cluster import ENVIRONMENT, RUN, SESSION, Cluster
from flowsession_cli.errors import CliError


@click.command("why")
@click.argument("name", default="", metavar="[NAME or DIR]", shell_complete=app.complete(SESSION))
@app.common
def why_command(cluster: Cluster, name: str) -> None:
    """Say why a session isn't running, or was ended: cause, place and way out.

    Also for names that are gone, by their Events, and for runs and environments. Exits with 0 when all is well, else with 1.
    """
    if naming.is_folder(name):
        name = naming.of_folder(pack.flow_folder(Path(name or ".")))
    found = _find(cluster, name)
    out = render.console()
    out.print(found.headline)
    render.fields(out, found.rows)
    if not found.well:
        sys.exit(1)


def _find(cluster: Cluster, name: str) -> explain.Finding:
    """Sessions first, then runs, then sessions that are gone, then environments: one of a folder has its session's name."""
    session = cluster.find(SESSION, name)
    if session is not None:
        environment = cluster.find(ENVIRONMENT, session["spec"]["environmentRef"]["name"])
        pod = session.get("status", {}).get("podName", "")
        pod_events = cluster.events(pod, "Pod") if pod else []
        return explain.session(session, environment, pod_events, cluster.events(name, "ComputeSession"))
    if (run := cluster.find(RUN, name)) is not None:
        return explain.run(run, cluster.events(name, "FlowRun"))
    environment = cluster.find(ENVIRONMENT, name)
    events = cluster.events(name, "ComputeSession", *(["FlowRun", "FlowEnvironment"] if environment is None else []))
    if events:
        return explain.gone(name, events)
    if environment is not None:
        return explain.environment(environment, cluster.events(name, "FlowEnvironment"))
    names = cluster.names(SESSION)
    advice = f"there are {', '.join(names[:10])}" if names else "there is none"
    raise CliError(f"there is no session {name}, and no Event tells of one, which the cluster keeps for an hour: {advice}")
