"""`kubectl flow size` and `instance`: VM sizes with price and quota, and users' own machines."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import click

from flowsession_cli import app, changes, costs, naming, options, quantity, render
from flowsession_cli.asking import ask
from flowsession_cli.cluster import INSTANCE, SIZE, Cluster, Object, manifest
from flowsession_cli.errors import CliError, Forbidden, detaching
from flowsession_cli.wanted import idle_of

_NAME = click.argument("name", shell_complete=app.complete(INSTANCE))
_SIZE_HEADS = ("NAME", "PRICE/H", "CPU", "MEMORY", "GPU", "SHARED BY", "NODES", "SESSIONS", "STATUS", "FREE QUOTA")
_INSTANCE_HEADS = ("NAME", "STATUS", "USER", "SIZE", "SESSIONS", "NODE", "PER HOUR", "SO FAR", "AGE")
_QUOTA = ("pods", "count/pods", "cpu", "memory")
_GPUS = ("nvidia.com/gpu", "amd.com/gpu")


@click.group("size", cls=app.NearestGroup)
def size_command() -> None:
    """VM sizes that sessions can have."""


@size_command.command("ls")
@click.option("-o", "--output", default="", metavar="json|yaml|name|wide|...", help="As kubectl get prints it.")
@app.common
def size_ls_command(cluster: Cluster, output: str) -> None:
    """List VM sizes: price of a node, nodes, free quota.

    The price is that of a node, in the currency that the platform team chose; a session that shares the node pays its share. FREE QUOTA
    is what the namespace's ResourceQuotas leave to sessions of that size.
    """
    if output:
        cluster.become("get", SIZE, f"-o={output}")
    render.prepare()
    sizes = cluster.objects(SIZE)
    if not sizes:
        click.echo("no VM sizes here: sessions run on any node, as the chart's value session says", err=True)
        return
    quotas: list[Object] | None
    try:
        quotas = cluster.objects("resourcequotas")
    except CliError as error:
        quotas = None
        click.echo(f"quota is not known: {error}", err=True)
    rows = [size_row(size, quotas) for size in sorted(sizes, key=_price)]
    render.table(render.console(), _SIZE_HEADS, rows)


def _price(size: Object) -> tuple[float, str]:
    return float(size["spec"].get("pricePerHour") or "inf"), size["metadata"]["name"]


def size_row(size: Object, quotas: Sequence[Object] | None) -> tuple[str, ...]:
    """Return a size's row."""
    spec, status = size["spec"], size.get("status", {})
    capacity = spec["capacity"]
    return (
        spec["azureName"],
        spec.get("pricePerHour") or "-",
        capacity["cpu"],
        capacity["memory"],
        next((capacity[name] for name in _GPUS if name in capacity), "-"),
        str(spec.get("sessionsPerNode", 1)),
        str(status.get("nodes", "-")),
        str(status.get("sessions", "-")),
        render.condition(size, "Available").get("reason") or "New",
        free_quota(spec, quotas) if quotas is not None else "?",
    )


def free_quota(spec: Mapping[str, Any], quotas: Sequence[Object]) -> str:
    """Return what is left in the quotas that count sessions of the size: pods 7 of 10."""
    found = []
    for quota in quotas:
        if not all(_counts(one, spec) for one in _scopes(quota["spec"])):
            continue
        used = quota.get("status", {}).get("used") or {}
        for resource, hard in sorted((quota["spec"].get("hard") or {}).items()):
            if resource in _QUOTA or resource.startswith(("requests.", "limits.")):
                found.append(f"{resource} {quantity.left(hard, used.get(resource, '0'))} of {hard}")
    return ", ".join(dict.fromkeys(found)) or "no limit"


def _scopes(spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    plain = [{"scopeName": name, "operator": "Exists"} for name in spec.get("scopes") or ()]
    return [*plain, *((spec.get("scopeSelector") or {}).get("matchExpressions") or ())]


def _counts(scope: Mapping[str, Any], spec: Mapping[str, Any]) -> bool:
    """Return whether a quota of that scope counts sessions of the size."""
    if scope["scopeName"] == "PriorityClass":
        name, values = spec.get("priorityClassName") or "", scope.get("values") or ()
        return {"In": name in values, "NotIn": name not in values, "Exists": bool(name), "DoesNotExist": not name}[scope["operator"]]
    if scope["scopeName"] == "CrossNamespacePodAffinity":
        return spec.get("userIsolation") == "Node"
    return scope["scopeName"] in ("NotTerminating", "NotBestEffort")


@click.group("instance", cls=app.NearestGroup)
def instance_command() -> None:
    """Compute instances: machines of one's own, whose sessions share them."""


@instance_command.command("create")
@click.argument("name")
@click.option(
    "--size",
    required=True,
    metavar="VMSIZE",
    shell_complete=app.complete(SIZE),
    help="VM size, all of which is reserved; kubectl flow size ls lists them.",
)
@click.option("--idle", default="", metavar="1h|never", help="Time without work after which it stops: 30m, 1h, never.")
@click.option("--identity", default="", metavar="SERVICEACCOUNT", help="The ServiceAccount that its sessions act as.")
@click.option("--wait/--no-wait", default=True, help="Wait until it runs (the default).")
@app.common
def create_command(cluster: Cluster, name: str, size: str, idle: str, identity: str, wait: bool) -> None:
    """Reserve a machine for yourself.

    kubectl flow start --instance NAME starts a session on it.
    """
    naming.checked(name, "instance")
    _refuse_unknown_size(cluster, size)
    spec: Object = {"user": cluster.user(), "vmSize": size}
    if idle:
        wanted = idle_of(idle)
        spec["idle"] = wanted | ({"action": "Stop"} if wanted["action"] == "Delete" else {})
    if identity:
        spec["identity"] = {"type": "Managed", "serviceAccountName": identity}
    cluster.create(manifest("ComputeInstance", name, spec))
    if wait:
        _until_runs(cluster, name)
        click.echo(f"kubectl flow start --instance {name} starts a session on it, kubectl flow instance stop {name} releases it")
    else:
        click.echo(f"{name} starts; kubectl flow instance ls shows it")


def _refuse_unknown_size(cluster: Cluster, name: str) -> None:
    """Raise CliError with the existing sizes if none has that name. If they can't be read, the operator decides."""
    try:
        sizes = cluster.objects(SIZE)
    except Forbidden:
        return
    known = [size["spec"]["azureName"] for size in sizes]
    if name not in (*known, *(size["metadata"]["name"] for size in sizes)):
        raise CliError(f"there is no VM size {name}; {naming.others(known, 'this cluster has none, and so no instances')}")


@instance_command.command("ls")
@app.common
@options.listing
def instance_ls_command(cluster: Cluster, listing: options.Listing) -> None:
    """List compute instances, with what they cost."""
    found = listing.objects(cluster, INSTANCE)
    if not found:
        click.echo("no instances here: kubectl flow instance create reserves a machine", err=True)
        return
    rows = [listing.row(thing, instance_row(thing, time.time())) for thing in found]
    render.table(render.console(), listing.heads(*_INSTANCE_HEADS), rows)


def instance_row(instance: Object, now: float) -> tuple[str, ...]:
    """Return an instance's row."""
    status, spec, meta = instance.get("status", {}), instance["spec"], instance["metadata"]
    known = bool(status.get("cost"))
    return (
        meta["name"],
        status.get("phase") or "New",
        spec.get("user", ""),
        spec["vmSize"],
        str(status.get("sessions", 0)),
        status.get("nodeName") or "-",
        f"{costs.per_hour(instance):g}" if known else "-",
        f"{costs.so_far(instance, now):.2f}" if known else "-",
        render.age(meta["creationTimestamp"], now),
    )


@instance_command.command("start")
@_NAME
@click.option("--wait/--no-wait", default=True, help="Wait until it runs (the default).")
@app.common
def start_command(cluster: Cluster, name: str, wait: bool) -> None:
    """Start an instance that is stopped; the sessions on it start too."""
    instance = _found(cluster, name)
    status = instance.get("status", {})
    if instance["spec"].get("running", True) and not status.get("stopped"):
        click.echo(f"{name} is not stopped: it is {status.get('phase') or 'new'}")
        return
    cluster.request(INSTANCE, name, "resume", spec={"running": True} if not instance["spec"].get("running", True) else None)
    if wait:
        _until_runs(cluster, name)
    else:
        click.echo(f"{name} starts; kubectl flow instance ls shows it")


@instance_command.command("stop")
@_NAME
@app.yes
@app.common
def stop_command(cluster: Cluster, name: str, yes: bool) -> None:
    """Release an instance's machine; instance and sessions stay, and wait."""
    instance = _found(cluster, name)
    if not instance["spec"].get("running", True):
        click.echo(f"{name} is stopped already; kubectl flow instance start {name} starts it again")
        return
    if (count := instance.get("status", {}).get("sessions", 0)) > 0:
        sessions = "its session" if count == 1 else f"its {count} sessions"
        ask(f"Stop {name}? What runs in {sessions} ends; what was edited in flow folders is saved.", yes=yes)
    cluster.patch(INSTANCE, name, {"spec": {"running": False}})
    click.echo(f"{name} is being stopped; kubectl flow instance start {name} starts it again")


def _found(cluster: Cluster, name: str) -> Object:
    """Return the instance. Raises CliError with the names of existing instances."""
    return naming.found(cluster, INSTANCE, name, what="instance", otherwise="kubectl flow instance create reserves a machine")


def _until_runs(cluster: Cluster, name: str) -> None:
    """Print each change until the instance runs. ^C detaches. Raises CliError if it can't start."""
    began, last = time.time(), ""
    generation = cluster.get(INSTANCE, name)["metadata"].get("generation", 0)
    with detaching(name, shows="kubectl flow instance ls", ends=f"kubectl flow instance stop {name} stops it"):
        for instance in changes.of(cluster, INSTANCE, name, noun="instance"):
            status, ready = instance.get("status", {}), render.condition(instance, "Ready")
            text = ": ".join(part for part in (status.get("phase") or "New", ready.get("message")) if part)
            seen = status.get("observedGeneration", 0) >= generation
            if text != last and seen:
                last = text
                click.echo(f"{time.time() - began:6.1f} s  {text}")
            if seen and ready.get("status") == "True":
                return
            if seen and render.condition(instance, "Stalled").get("status") == "True":
                raise CliError(f"{name} can't start: {ready.get('message')} ({ready.get('reason')})")
