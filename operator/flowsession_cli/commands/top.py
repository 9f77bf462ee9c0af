"""`kubectl flow top`: what has compute, whose it is, and what it costs."""

import time
from collections import defaultdict
from dataclasses import replace

import click

from flowsession_cli import app, costs, options, render
from flowsession_cli.cluster import INSTANCE, SESSION, Cluster, Object

_HEADS = ("USER", "NAME", "STATUS", "PER HOUR", "SO FAR", "SIZE", "KIND", "RUNS ON", "AGE")
_WATCH_SECONDS = 5.0
_KINDS = {"ComputeSession": "session", "ComputeInstance": "instance"}


@click.command("top")
@click.option("--user", default="", help="Only those of this person.")
@app.common
@options.listing
def top_command(cluster: Cluster, listing: options.Listing, user: str) -> None:
    """Show sessions and instances by user, with what they cost.

    Per hour and so far, in the currency of the VM sizes' prices; - where a size has no price. A session on an instance costs nothing: the
    instance does. With -w it is shown anew every 5 seconds, until ^C.
    """
    while True:
        _show(cluster, replace(listing, watch=False), user)
        if not listing.watch:
            return
        try:
            time.sleep(_WATCH_SECONDS)
        except KeyboardInterrupt:
            return
        render.console().clear()  # no effect in a pipe


def _show(cluster: Cluster, listing: options.Listing, user: str) -> None:
    found = [thing for thing in listing.objects(cluster, f"{SESSION},{INSTANCE}") if user in ("", thing["spec"].get("user"))]
    if not found:
        click.echo("nothing runs here: kubectl flow start starts a flow folder", err=True)
        return
    now = time.time()
    found.sort(key=lambda thing: (thing["spec"].get("user", ""), -costs.per_hour(thing), thing["metadata"]["name"]))
    out = render.console()
    render.table(out, listing.heads(*_HEADS), [listing.row(thing, row(thing, now)) for thing in found])
    out.print()
    for line in totals(found, now):
        out.print(line)


def row(thing: Object, now: float) -> tuple[str, ...]:
    """Return the row of a session or an instance."""
    status, spec, meta = thing.get("status", {}), thing["spec"], thing["metadata"]
    known = bool(status.get("cost"))
    instance = ((spec.get("compute") or {}).get("instanceRef") or {}).get("name")
    return (
        spec.get("user", ""),
        meta["name"],
        status.get("phase") or "New",
        f"{costs.per_hour(thing):g}" if known else "-",
        f"{costs.so_far(thing, now):.2f}" if known else "-",
        status.get("vmSize") or spec.get("vmSize") or (spec.get("compute") or {}).get("vmSize") or "-",
        _KINDS.get(thing["kind"]) or str(thing["kind"]),
        f"instance {instance}" if instance else status.get("nodeName") or "-",
        render.age(meta["creationTimestamp"], now),
    )


def totals(found: list[Object], now: float) -> list[str]:
    """Return a line for each user, if there are several, and one for all."""
    by_user: dict[str, list[Object]] = defaultdict(list)
    for thing in found:
        by_user[thing["spec"].get("user", "")].append(thing)
    lines = [f"{user}: {_sum(things, now)}" for user, things in by_user.items()] if len(by_user) > 1 else []
    return [*lines, f"all: {_sum(found, now)}"]


def _sum(things: list[Object], now: float) -> str:
    counts = [(word, sum(thing["kind"] == kind for thing in things)) for kind, word in _KINDS.items()]
    what = ", ".join(f"{count} {word}{'' if count == 1 else 's'}" for word, count in counts if count)
    if not any(thing.get("status", {}).get("cost") for thing in things):
        return f"{what}, no price known"
    return f"{what}, {sum(map(costs.per_hour, things)):g} an hour, {sum(costs.so_far(thing, now) for thing in things):.2f} so far"
