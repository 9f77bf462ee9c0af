"""Which session a command is about, and what it is called; a suspended one is resumed by what needs it."""

import os
import re
import sys
from datetime import UTC, datetime
from pathlib import Path

from flowsession.api import GROUP
from flowsession_cli import follow, pack, render
from flowsession_cli.cluster import ENVIRONMENT, RUN, SESSION, Cluster, Object
from flowsession_cli.errors import CliError, NotFound

LONGEST_FILE = 255
"""Bytes of a file's name."""

LONGEST = 50
"""Characters of an object's name: names of pods and labels are made of it."""


def is_folder(target: str) -> bool:
    """Whether a target on the command line is a folder rather than a name in the cluster; none is the present folder."""
    if not target or target in (".", "..") or os.sep in target:
        return True
    return len(target) <= LONGEST_FILE and Path(target).is_dir()


def of_folder(folder: Path) -> str:
    """The name that a folder gives to its environment and session; one that is just called flow has that of the folder around it."""
    if folder.name == "flow":
        folder = folder.parent
    name = re.sub(r"[^a-z0-9]+", "-", folder.name.lower()).strip("-")[:LONGEST].strip("-")
    if not name:
        raise CliError(f"the folder's name {folder.name} makes no name for a session: give one by --name")
    return name


def checked(name: str, kind: str = "session") -> str:
    """The name, if objects can be called so."""
    if len(name) > LONGEST or not re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", name):
        raise CliError(f"{name} is no name for a {kind}: small letters, digits and hyphens, {LONGEST} characters at most", code=2)
    return name


def of_target(target: str) -> str:
    """The name that a target means: that of a flow folder, or itself, even beside a folder of that name that holds no flow."""
    if target.startswith("-"):
        raise CliError(f"{target} is no name: names begin with a small letter or a digit", code=2)
    if is_folder(target) and (not target or os.sep in target or target in (".", "..") or pack.is_flow(Path(target))):
        return of_folder(pack.flow_folder(Path(target or ".")))
    return target


def session(cluster: Cluster, target: str) -> Object:
    """The session that is named, or that of a flow folder. Raises CliError with those that there are."""
    name = of_target(target)
    found = cluster.find(SESSION, name)
    if found is None:
        raise NotFound(_missing(cluster, name))
    return found


def _missing(cluster: Cluster, name: str) -> str:
    """What there is in place of a session: a run or an environment of that name, or other sessions."""
    if name in cluster.names(RUN):
        return f"{name} is a run, and no session: kubectl flow run show {name} shows it"
    if name in cluster.names(ENVIRONMENT):
        why = f"kubectl flow why {name} says what became of it"
        return f"the environment {name} has no session of that name: kubectl flow start {name} starts one, and {why}"
    others = cluster.names(SESSION)
    advice = f"there are {', '.join(others[:10])}" if others else "kubectl flow start makes one of a flow folder"
    return f"there is no session {name}; {advice}; kubectl flow why {name} says what became of one that was there"


def environment(cluster: Cluster, target: str) -> tuple[Object, Path | None]:
    """The environment that is named, or that of a flow folder, and that folder. Raises CliError with those that there are."""
    folder = pack.flow_folder(Path(target or ".")) if is_folder(target) else None
    name = of_folder(folder) if folder else target
    found = cluster.find(ENVIRONMENT, name)
    if found is None:
        others = cluster.names(ENVIRONMENT)
        advice = f"there are {', '.join(others[:10])}" if others else "there is none here"
        start = (
            f"kubectl flow start {target or '.'} makes it of the folder" if folder else "kubectl flow start DIR makes one of a flow folder"
        )
        raise NotFound(f"there is no environment {name}; {advice}; {start}")
    return found, folder


def usable(cluster: Cluster, target: str) -> Object:
    """The session, Ready: one that is suspended is resumed, which is said, and one that starts is waited for."""
    found = session(cluster, target)
    if follow.is_ready(found):
        return found
    name = found["metadata"]["name"]
    if is_suspended(found):
        print(f"{name} is suspended: it is resumed", file=sys.stderr, flush=True)
        found = resume(cluster, found)
        return follow.until(
            cluster, name, lambda thing: follow.is_ready(thing, found["metadata"]["generation"]) and not is_suspended(thing)
        )
    follow.refuse_stuck(name, found)
    ready = render.condition(found, "Ready")
    print(f"{name} is not ready yet: {ready.get('message') or 'the operator has not looked at it'}", file=sys.stderr, flush=True)
    return follow.until_ready(cluster, name)


def is_suspended(found: Object) -> bool:
    """Whether it has no compute, or is about to lose it."""
    return bool(found["spec"].get("suspend")) or found.get("status", {}).get("phase") in ("Suspended", "Suspending")


def resume(cluster: Cluster, found: Object) -> Object:
    """Ask for a suspended session's compute, and return the session as it is then."""
    change: Object = {"metadata": {"annotations": {f"{GROUP}/resume-requested-at": stamp()}}}
    if found["spec"].get("suspend"):
        change["spec"] = {"suspend": False}
    return cluster.patch(SESSION, found["metadata"]["name"], change)


def request(cluster: Cluster, name: str, what: str) -> Object:
    """Ask the operator by an annotation: reset, keep-alive."""
    return cluster.patch(SESSION, name, {"metadata": {"annotations": {f"{GROUP}/{what}-requested-at": stamp()}}})


def stamp() -> str:
    """The present time, as requests have it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
