"""Sessions: list them, show one, and the actions of the studio's menu."""

import time
from collections.abc import Mapping
from typing import Any

import click

from flowsession_cli import app, costs, follow, naming, options, owners, render
from flowsession_cli.asking import ask
from flowsession_cli.cluster import SESSION, Cluster, Object
from flowsession_cli.errors import Forbidden

_EVENTS = 6
_HEADS = ("NAME", "STATUS", "USER", "ENVIRONMENT", "SIZE", "AGE", "IDLE END")
_NAME = click.argument("name", default="", metavar="[NAME or DIR]", shell_complete=app.complete(SESSION))


@click.command("ls")
@app.common
@options.listing
def ls_command(cluster: Cluster, listing: options.Listing) -> None:
    """List sessions, one line each."""
    sessions = listing.objects(cluster, SESSION)
    if not sessions:
        click.echo("no sessions here: kubectl flow start makes one of a flow folder", err=True)
        return
    rows = [listing.row(thing, row(thing, time.time())) for thing in sessions]
    render.table(render.console(), listing.heads(*_HEADS), rows)


def row(session: Object, now: float) -> tuple[str, ...]:
    """Return a session's row."""
    status, spec = session.get("status", {}), session["spec"]
    return (
        session["metadata"]["name"],
        status.get("phase") or "New",
        spec.get("user", ""),
        spec["environmentRef"]["name"],
        status.get("vmSize") or spec.get("compute", {}).get("vmSize") or "-",
        render.age(session["metadata"]["creationTimestamp"], now),
        idle_end(session, now) or "-",
    )


def idle_end(session: Object, now: float) -> str:
    """Return a countdown to the session's idle end."""
    expires = session.get("status", {}).get("expiresAt")
    if session["spec"].get("idle", {}).get("action") == "None":
        return "never"
    return f"in {render.span(render.seconds_of(expires) - now)}" if expires else ""


@click.command("status")
@_NAME
@click.option("-o", "--output", default="", metavar="json|yaml|name", help="The object, as kubectl get prints it.")
@app.common
def status_command(cluster: Cluster, name: str, output: str) -> None:
    """Show one session on one screen: state, place, cost, packages, edits, runs and its last Events."""
    if output:
        cluster.become("get", SESSION, naming.of_target(name), f"-o={output}")
    render.prepare()
    session = naming.session(cluster, name)
    name = session["metadata"]["name"]
    runs = cluster.runs_in(name)
    out = render.console()
    render.fields(out, screen(session, runs, time.time()))
    try:
        render.events(out, cluster.events(name, "ComputeSession", uid=session["metadata"].get("uid", "")), _EVENTS)
    except Forbidden as error:
        click.echo(f"without Events: {error}", err=True)


def screen(session: Object, runs: list[Object], now: float) -> list[tuple[str, str]]:
    """Return what `status` shows, by name. Empty values aren't shown."""
    status, spec, meta = session.get("status", {}), session["spec"], session["metadata"]
    phase, ready = status.get("phase") or "New", render.condition(session, "Ready")
    since = f" for {render.age(ready['lastTransitionTime'], now)}" if ready else ""
    activity = status.get("lastActivity") or {}
    packages, install = status.get("packages") or {}, status.get("install") or {}
    return [
        ("session", f"{meta['name']} of {spec.get('user', '')}"),
        ("state", f"{phase}{since}{f' ({reason})' if (reason := status.get('reason')) else ''}"),
        ("", "" if ready.get("status") == "True" else ready.get("message", "")),
        ("environment", spec["environmentRef"]["name"]),
        ("image", status.get("baseImage", "")),
        ("runs on", ", ".join(part for part in (status.get("nodeName"), status.get("vmSize")) if part)),
        ("pod", status.get("podName", "")),
        ("acts as", (status.get("identity") or {}).get("serviceAccountName", "")),
        ("cost so far", f"{costs.so_far(session, now):.2f}, {status['cost']['perHour']} an hour" if status.get("cost") else ""),
        ("last work", f"{activity['what']}, {render.age(activity['at'], now)} ago" if activity.get("at") else ""),
        ("idle end", idle_end(session, now)),
        ("packages", f"{packages['count']}, by {install.get('tool') or 'the image'}" if packages else ""),
        ("edits", _edits(status.get("edits"), now)),
        *(("run", run_line(run)) for run in runs),
        *((kind, f"{found['message']} ({found['reason']})") for kind in ("InSync", "FlowValid") if (found := _bad(session, kind))),
    ]


def run_line(run: Object) -> str:
    """Return a run in one line."""
    status = run.get("status", {})
    return " ".join(part for part in (run["metadata"]["name"], status.get("phase"), status.get("progress")) if part)


def _bad(session: Object, kind: str) -> Object:
    found = render.condition(session, kind)
    return found if found.get("status") == "False" else {}


def _edits(edits: Mapping[str, Any] | None, now: float) -> str:
    if not edits or not edits.get("count"):
        return ""
    files = ", ".join((edits.get("files") or ())[:5])
    saved = f", saved {render.age(edits['savedAt'], now)} ago" if edits.get("savedAt") else ", not saved yet"
    if edits.get("discarded"):
        saved = ", not to be saved, as was asked for"
    return f"{render.files(edits['count'])} ({files}){edits.get('notSaved') or saved}"


@click.command("stop")
@_NAME
@app.yes
@app.common
def stop_command(cluster: Cluster, name: str, yes: bool) -> None:
    """Delete a session. Its edits are saved for the next one of the same user and environment."""
    session = naming.session(cluster, name)
    name, environment = session["metadata"]["name"], session["spec"]["environmentRef"]["name"]
    again = f" {keeper} manages it and makes it again: take it out there." if (keeper := owners.keeper(cluster, SESSION, name)) else ""
    ask(f"Delete the session {name}? What was edited in its flow folder is saved, packages installed by hand are gone.{again}", yes=yes)
    cluster.delete(SESSION, name)
    way = environment if name == environment else f"{environment} --name {name}"
    click.echo(f"{name} is being deleted; kubectl flow start {way} starts it again")


@click.command("suspend")
@_NAME
@app.yes
@app.common
def suspend_command(cluster: Cluster, name: str, yes: bool) -> None:
    """Release a session's compute. The object and its settings stay, and resume starts it again."""
    name = naming.session(cluster, name)["metadata"]["name"]
    owners.refuse(cluster, SESSION, name, ["suspend"])
    ask(f"Suspend {name}? What runs in it ends; what was edited in its flow folder is saved.", yes=yes)
    cluster.patch(SESSION, name, {"spec": {"suspend": True}})
    click.echo(f"{name} is being suspended; kubectl flow resume {name} starts it again")


@click.command("resume")
@_NAME
@click.option("--wait/--no-wait", default=True, help="Wait until it can be used (the default).")
@app.common
def resume_command(cluster: Cluster, name: str, wait: bool) -> None:
    """Start a suspended session."""
    session = naming.session(cluster, name)
    name = session["metadata"]["name"]
    if not naming.is_suspended(session):
        click.echo(f"{name} is not suspended: it is {session.get('status', {}).get('phase') or 'new'}")
        return
    if wait:
        naming.usable(cluster, name)
    else:
        naming.resume(cluster, session)
    click.echo(f"{name} {'runs' if wait else 'is being resumed'}")


@click.command("reset")
@_NAME
@click.option("--wait/--no-wait", default=True, help="Wait until it can be used again (the default).")
@app.yes
@app.common
def reset_command(cluster: Cluster, name: str, wait: bool, yes: bool) -> None:
    """Restart a session in a new pod, with its environment's present image and packages."""
    session = naming.session(cluster, name)
    name = session["metadata"]["name"]
    ask(f"Restart {name}? What runs in it ends; what was edited in its flow folder is saved.", yes=yes)
    _, stamp = cluster.request(SESSION, name, "reset")
    if not wait:
        click.echo(f"{name} is being reset")
        return

    def done(thing: Object) -> bool:
        return thing.get("status", {}).get("handledRequests", {}).get("reset") == stamp and follow.is_ready(thing)

    follow.until(cluster, name, done)
    click.echo(f"{name} runs anew")


@click.command("keep-alive")
@_NAME
@app.common
def keep_alive_command(cluster: Cluster, name: str) -> None:
    """Put the idle end off by one full timeout."""
    name = naming.session(cluster, name)["metadata"]["name"]
    cluster.request(SESSION, name, "keep-alive")
    click.echo(f"the idle end of {name} is put off; kubectl flow status {name} has its time")
