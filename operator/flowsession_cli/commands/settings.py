"""`kubectl flow set`: change a session's size, idle end, identity or instance, after saying what that costs."""

import time

import click

from flowsession_cli import app, follow, naming, owners, render, wanted
from flowsession_cli.asking import ask
from flowsession_cli.cluster import SESSION, SIZE, Cluster, Object
from flowsession_cli.errors import CliError

_PAUSE_SECONDS = 0.3
_SETTLED_SECONDS = 5.0
"""Seconds after which a session that is still in its pod is assumed not to restart."""


@click.command("set")
@click.argument("name", default="", metavar="[NAME or DIR]", shell_complete=app.complete(SESSION))
@click.option(
    "--size", default="", metavar="VMSIZE", help="VM size, or none to have one chosen. Restarts it.", shell_complete=app.complete("vmsize")
)
@click.option("--idle", default="", metavar="1h|never", help="Time without work after which it ends: 30m, 1h, never. At once.")
@click.option("--identity", default="", metavar="SERVICEACCOUNT", help="The ServiceAccount to act as. Restarts it.")
@click.option("--instance", default="", metavar="NAME", help="The compute instance to run on. Restarts it.")
@click.option("--wait/--no-wait", default=True, help="Wait until it can be used again (the default).")
@app.yes
@app.common
def set_command(cluster: Cluster, name: str, size: str, idle: str, identity: str, instance: str, wait: bool, yes: bool) -> None:
    """Change a session's settings. What restarts it is said with what that costs, and asked.

    \b
    kubectl flow set chat --idle 2h
    kubectl flow set chat --size Standard_D4s_v5
    """
    change = wanted.spec(size=size, idle=idle, instance=instance, identity=identity, image="", variables=())
    if not change:
        raise CliError("nothing to set: give --size, --idle, --identity or --instance", code=2)
    session = naming.session(cluster, name)
    name = session["metadata"]["name"]
    spec = wanted.merged(session["spec"], change)
    if spec == session["spec"]:
        click.echo(f"{name} is set so already")
        return
    changes = {key: value for key, value in spec.items() if value != session["spec"].get(key)}
    owners.refuse(cluster, SESSION, name, changes)
    restarts = wanted.restarts(session["spec"], spec) and not naming.is_suspended(session)
    if restarts:
        ask(_cost(cluster, session, size=size, instance=instance, identity=identity), yes=yes)
    if "compute" in changes:  # drop the fields of the other kind of compute
        changes["compute"] = {"vmSize": None, "instanceRef": None, **changes["compute"]}
    changed = cluster.patch(SESSION, name, {"spec": changes})
    click.echo(f"{name} is set")
    if restarts and wait:
        _await_restart(cluster, session, changed)


def _cost(cluster: Cluster, session: Object, *, size: str, instance: str, identity: str) -> str:
    """Return the question: what ends, what stays, and what it will cost."""
    name, status = session["metadata"]["name"], session.get("status", {})
    chosen = "a size that is chosen for it" if size == wanted.ANY_SIZE else size
    where = [f"on {chosen}{_price(cluster, status.get('vmSize', ''), size)}"] if size else []
    where += [f"on instance {instance}"] if instance else []
    where += [f"as {identity}"] if identity else []
    edits = status.get("edits") or {}
    kept = f"its {edits['count']} edited files are saved first" if edits.get("count") else "what was edited in its flow folder is saved"
    if edits.get("notSaved"):
        kept = f"its edits can't be saved ({edits['notSaved']}): kubectl flow edits {name} pull fetches them"
    busy = [run["metadata"]["name"] for run in cluster.runs_in(name) if run["status"].get("phase") in ("Running", "Preparing")]
    ending = f"; {', '.join(busy)} runs in it" if busy else ""
    return f"{name} restarts {' and '.join(where)}: what runs in it ends{ending}, {kept}, packages are installed anew. Go on?"


def _price(cluster: Cluster, old: str, new: str) -> str:
    """Return the new price per hour and the present one, or an empty string if the new one is unknown."""
    try:
        sizes = cluster.objects(SIZE)
    except CliError:
        return ""
    prices = {
        key: price
        for size in sizes
        if (price := size["spec"].get("pricePerHour"))
        for key in (size["metadata"]["name"], size["spec"].get("azureName"))
    }
    if new not in prices:
        return ""
    return f" ({prices[new]} an hour{f', now {prices[old]}' if old in prices else ''})"


def _await_restart(cluster: Cluster, before: Object, changed: Object) -> None:
    """Return once the session has restarted. Raises CliError with the operator's message if it can't have what was asked for."""
    name, generation = before["metadata"]["name"], changed["metadata"]["generation"]
    pod = before.get("status", {}).get("podName")
    with follow.detaching(name):
        session = _staying(cluster, name, pod, generation)
    word = "runs" if session is None else "goes on without a restart"
    if session is None:
        session = follow.until(cluster, name, lambda thing: follow.is_ready(thing, generation))
    allocated = render.condition(session, "ComputeAllocated")
    if allocated.get("status") == "False":
        raise CliError(f"{name} goes on where it is: {allocated['message']} ({allocated['reason']})")
    click.echo(f"{name} {word} on {session['status'].get('nodeName', 'its node')}")


def _staying(cluster: Cluster, name: str, pod: str | None, generation: int) -> Object | None:
    """Return the session if it is still in its pod some seconds after the operator has looked at its new spec, or None if it restarts.

    Polled: without a restart nothing changes, so a watch would report nothing.
    """
    looked_at = 0.0
    while True:
        session = cluster.get(SESSION, name)
        if not follow.is_ready(session) or session["status"].get("podName") != pod:
            return None
        if follow.is_ready(session, generation):
            looked_at = looked_at or time.monotonic()
            if _stays(session) or time.monotonic() >= looked_at + _SETTLED_SECONDS:
                return session
        time.sleep(_PAUSE_SECONDS)


def _stays(session: Object) -> bool:
    """Return whether the operator reports that the session can't have what was asked for."""
    return render.condition(session, "ComputeAllocated").get("status") == "False"
