"""`kubectl flow env`: environments, their images, and requests for newer ones."""

import time

import click

from flowsession_cli import app, naming, options, render
from flowsession_cli.cluster import ENVIRONMENT, SESSION, Cluster, Object, event_time
from flowsession_cli.errors import CliError

_TARGET = click.argument("target", default="", metavar="[NAME or DIR]", shell_complete=app.complete(ENVIRONMENT))
_HEADS = ("NAME", "READY", "SESSIONS", "FLOW", "REQUIREMENTS", "OWNER", "AGE", "IMAGE")
_EVENTS = 4
_HANDLED = {"update": "update", "check-version": "checkVersion", "refresh": "refresh"}
"""By request, its name in `status.handledRequests`."""

_ANSWER_SECONDS = 180.0
_CLOCK_SECONDS = 5.0
"""Seconds by which the cluster's clock may be behind."""

_NEWER = "NewerImageAvailable"


@click.group("env", cls=app.NearestGroup)
def env_command() -> None:
    """Environments: the flow folder, image and packages that sessions share."""


@env_command.command("ls")
@app.common
@options.listing
def ls_command(cluster: Cluster, listing: options.Listing) -> None:
    """List environments, one line each."""
    found = listing.objects(cluster, ENVIRONMENT)
    if not found:
        click.echo("no environments here: kubectl flow start makes one of a flow folder", err=True)
        return
    rows = [listing.row(thing, row(thing, time.time())) for thing in found]
    render.table(render.console(), listing.heads(*_HEADS), rows, phase="READY")


def row(environment: Object, now: float) -> tuple[str, ...]:
    """Return an environment's row."""
    status, meta = environment.get("status", {}), environment["metadata"]
    ready = render.condition(environment, "Ready")
    return (
        meta["name"],
        "yes" if ready.get("status") == "True" else ready.get("reason") or "New",
        str(status.get("sessions", 0)),
        (status.get("flow") or {}).get("kind") or "-",
        str(status.get("requirements", "-")),
        environment["spec"].get("owner") or "-",
        render.age(meta["creationTimestamp"], now),
        status.get("baseImage") or "-",
    )


@env_command.command("show")
@_TARGET
@click.option("-o", "--output", default="", metavar="json|yaml|name", help="The object, as kubectl get prints it.")
@app.common
def show_command(cluster: Cluster, target: str, output: str) -> None:
    """Show one environment: image, requirements, source, warnings."""
    environment, _ = naming.environment(cluster, target)
    name = environment["metadata"]["name"]
    if output:
        cluster.become("get", ENVIRONMENT, name, f"-o={output}")
    sessions = [thing["metadata"]["name"] for thing in cluster.objects(SESSION) if thing["spec"]["environmentRef"]["name"] == name]
    out = render.console()
    render.fields(out, screen(environment, sessions))
    render.events(out, cluster.events(name, "FlowEnvironment"), _EVENTS)


def screen(environment: Object, sessions: list[str]) -> list[tuple[str, str]]:
    """Return what `show` shows, by name. Empty values aren't shown."""
    status, spec, meta = environment.get("status", {}), environment["spec"], environment["metadata"]
    ready, newer = render.condition(environment, "Ready"), render.condition(environment, _NEWER)
    flow, source = status.get("flow") or {}, status.get("source") or {}
    counts = [f"{flow[key]} {key if flow[key] != 1 else key[:-1]}" for key in ("nodes", "includes") if flow.get(key)]
    file = status.get("requirementsFile")
    return [
        ("environment", meta["name"] + (f" of {spec['owner']}" if spec.get("owner") else "")),
        ("state", "Ready" if ready.get("status") == "True" else ready.get("reason") or "New"),
        ("", "" if ready.get("status") == "True" else ready.get("message", "")),
        ("flow", ", ".join(part for part in (flow.get("kind", ""), *counts) if part)),
        ("source", ", ".join(kind for kind in spec.get("source") or ())),
        ("revision", source.get("revision") or status.get("flowRevision", "")),
        ("commit", source.get("commit", "")),
        ("requirements", f"{status['requirements']}, from {file or 'requirementsText'}" if status.get("requirements") else ""),
        ("image", status.get("baseImage", "")),
        ("digest", status.get("imageDigest", "")),
        ("newer image", newer.get("message", "") if newer.get("status") != "False" else ""),
        ("connections", ", ".join(entry["name"] for entry in spec.get("connections") or ())),
        ("sessions", ", ".join(sessions)),
        *(("warning", warning.get("message", "")) for warning in status.get("warnings") or ()),
    ]


@env_command.command("update")
@_TARGET
@app.common
def update_command(cluster: Cluster, target: str) -> None:
    """Take the newest image, as its registry has it.

    Sessions that run stay as they are: kubectl flow reset restarts one with it.
    """
    asked_at = time.time()
    before, after = _asked(cluster, target, "update")
    status, old, name = after.get("status", {}), before.get("status", {}), after["metadata"]["name"]
    found = [event for event in cluster.events(name, "FlowEnvironment") if str(event.get("reason", "")).startswith("Image")]
    recent = [event for event in found if (stamp := event_time(event)) and render.seconds_of(stamp) >= asked_at - _CLOCK_SECONDS]
    message = str(recent[-1].get("message") or recent[-1].get("note") or "") if recent else ""
    if message and recent[-1].get("reason") == "ImageNotUpdated":
        raise CliError(message)
    click.echo(message or render.condition(after, _NEWER).get("message", ""))
    if (old.get("baseImage"), old.get("imageDigest")) != (status.get("baseImage"), status.get("imageDigest")):
        click.echo(f"{name} is on {status.get('baseImage')}: kubectl flow reset restarts a session with it")


@env_command.command("check-version")
@_TARGET
@app.common
def check_version_command(cluster: Cluster, target: str) -> None:
    """Ask whether there is a newer image."""
    _, after = _asked(cluster, target, "check-version")
    newer = render.condition(after, _NEWER)
    click.echo(f"{newer.get('message') or 'nothing is known of a newer image'} ({newer.get('reason', 'NotChecked')})")
    if newer.get("status") == "True":
        click.echo(f"kubectl flow env update {after['metadata']['name']} takes it")


@env_command.command("refresh")
@_TARGET
@app.common
def refresh_command(cluster: Cluster, target: str) -> None:
    """Read the source of the flow folder again."""
    before, after = _asked(cluster, target, "refresh")
    ready = render.condition(after, "Ready")
    if ready.get("status") != "True":
        raise CliError(f"{after['metadata']['name']} can't be used: {ready.get('message')} ({ready.get('reason')})")
    old, new = (thing.get("status", {}).get("flowRevision") for thing in (before, after))
    click.echo("nothing changed in the flow folder" if old == new else f"the flow folder changed: {old or 'none'} -> {new or 'none'}")
    if problem := (after.get("status", {}).get("source") or {}).get("message"):
        raise CliError(f"what was read before stays in use: {problem}")


def _asked(cluster: Cluster, target: str, what: str) -> tuple[Object, Object]:
    """Return the environment before the request and after the operator has handled it."""
    before, _ = naming.environment(cluster, target)
    name = before["metadata"]["name"]
    _, stamp = cluster.request(ENVIRONMENT, name, what)
    deadline = time.monotonic() + _ANSWER_SECONDS
    while time.monotonic() < deadline:
        after = cluster.get(ENVIRONMENT, name)
        if (after.get("status", {}).get("handledRequests") or {}).get(_HANDLED[what]) == stamp:
            return before, after
        time.sleep(0.3)
    ready = render.condition(cluster.get(ENVIRONMENT, name), "Ready")
    raise CliError(f"{what} was asked for, and the operator has not done it for {_ANSWER_SECONDS:.0f} s: {ready.get('message', '')}")
