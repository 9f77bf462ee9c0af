"""Resolve a command's target to a session, environment or other object, and resume a suspended session for a command that needs it."""

import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from flowsession_cli import follow, pack, render
from flowsession_cli.cluster import ENVIRONMENT, INSTANCE, RUN, SESSION, Cluster, Object
from flowsession_cli.errors import CliError, NotFound

LONGEST_FILE = 255
"""Longest name of a file, in bytes."""

LONGEST = 50
"""Longest name of an object, in characters: names of pods and labels are derived from it."""


_SHOWN: Mapping[str, str] = {
    "session": "leave session/ away",
    "run": "kubectl flow run show {}",
    "env": "kubectl flow env show {}",
    "instance": "kubectl flow instance ls",
}
"""For each kind, what to use instead of a target such as `run/NAME`, a form that only `why` takes."""


def is_folder(target: str) -> bool:
    """Return whether a target on the command line is a folder instead of a name in the cluster. An empty target is the current folder."""
    if not target or target in (".", "..") or os.sep in target:
        return True
    return len(target) <= LONGEST_FILE and Path(target).is_dir()


def of_folder(folder: Path) -> str:
    """Return the name that a folder gives to its environment and session. A folder called `flow` takes the name of its parent."""
    if folder.name == "flow":
        folder = folder.parent
    name = re.sub(r"[^a-z0-9]+", "-", folder.name.lower()).strip("-")[:LONGEST].strip("-")
    if not name:
        raise CliError(f"the folder's name {folder.name} makes no name for a session: give one by --name")
    return name


def checked(name: str, kind: str = "session") -> str:
    """Return the name. Raises CliError if it is invalid for an object."""
    if len(name) > LONGEST or not re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", name):
        article = "an" if kind[0] in "aeiou" else "a"
        raise CliError(f"{name} is no name for {article} {kind}: small letters, digits and hyphens, {LONGEST} characters at most", code=2)
    return name


def of_target(target: str) -> str:
    """Return the name that a target means: a flow folder's name, or the target itself, even if a folder of that name holds no flow."""
    if target.startswith("-"):
        raise CliError(f"{target} is no name: names begin with a small letter or a digit", code=2)
    kind, _, name = target.partition("/")
    if name and kind in _SHOWN and not Path(target).exists():
        raise CliError(f"{target} is no session, which is meant here: {_SHOWN[kind].format(name)}", code=2)
    if is_folder(target) and (not target or os.sep in target or target in (".", "..") or pack.is_flow(Path(target))):
        return of_folder(pack.flow_folder(Path(target or ".")))
    return target


def session(cluster: Cluster, target: str) -> Object:
    """Return the session of that name or of that flow folder. Raises CliError with the names of existing sessions."""
    name = of_target(target)
    found = cluster.find(SESSION, name)
    if found is None:
        raise NotFound(_missing(cluster, name))
    return found


def _missing(cluster: Cluster, name: str) -> str:
    """Return a message for a missing session: which other object has its name, or which sessions exist."""
    cluster.refuse_missing_namespace()
    if name in cluster.names(RUN):
        return f"{name} is a run, and no session: kubectl flow run show {name} shows it"
    if name in cluster.names(INSTANCE):
        return f"{name} is an instance, and no session: kubectl flow why instance/{name} says how it is"
    if name in cluster.names(ENVIRONMENT):
        why = f"kubectl flow why {name} says what became of it"
        return f"the environment {name} has no session of that name: kubectl flow start {name} starts one, and {why}"
    advice = others(cluster.names(SESSION), "kubectl flow start makes one of a flow folder")
    return f"there is no session {name}; {advice}; kubectl flow why {name} says what became of one that was there"


def others(names: Sequence[str], otherwise: str) -> str:
    """Return the existing names as advice after a wrong one, or `otherwise` if the list is empty."""
    return f"there {'are' if len(names) > 1 else 'is'} {', '.join(names[:10])}" if names else otherwise


def found(cluster: Cluster, kind: str, name: str, *, what: str, otherwise: str) -> Object:
    """Return the object. Raises NotFound with the existing names, or `otherwise` if no object exists. `what` names its kind."""
    thing = cluster.find(kind, name)
    if thing is None:
        cluster.refuse_missing_namespace()
        raise NotFound(f"there is no {what} {name}; {others(cluster.names(kind), otherwise)}")
    return thing


def environment(cluster: Cluster, target: str) -> tuple[Object, Path | None]:
    """Return the environment of that name or of a flow folder, and that folder. Raises CliError with the names of existing environments."""
    folder = pack.flow_folder(Path(target or ".")) if is_folder(target) else None
    name = of_folder(folder) if folder else target
    found = cluster.find(ENVIRONMENT, name)
    if found is None:
        raise NotFound(no_environment(cluster, name, target or "." if folder else ""))
    return found, folder


def no_environment(cluster: Cluster, name: str, folder: str = "") -> str:
    """Return a message for a missing environment: which ones exist, and how to make it, from `folder` if given."""
    cluster.refuse_missing_namespace()
    advice = others(cluster.names(ENVIRONMENT), "there is none here")
    start = f"{shlex.quote(folder)} makes it of the folder" if folder else "DIR makes one of a flow folder"
    return f"there is no environment {name}; {advice}; kubectl flow start {start}"


def usable(cluster: Cluster, target: str) -> Object:
    """Return the session, Ready. Resume it, with a message, if it is suspended. Wait for it if it is starting."""
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
    follow.refuse_stopped_instance(cluster, name, found)
    ready = render.condition(found, "Ready")
    print(f"{name} is not ready yet: {ready.get('message') or 'the operator has not looked at it'}", file=sys.stderr, flush=True)
    return follow.until_ready(cluster, name)


def is_suspended(found: Object) -> bool:
    """Return whether it has no compute or is about to lose it."""
    return bool(found["spec"].get("suspend")) or found.get("status", {}).get("phase") in ("Suspended", "Suspending")


def resume(cluster: Cluster, found: Object) -> Object:
    """Request compute for a suspended session and return the updated session."""
    change = {"suspend": False} if found["spec"].get("suspend") else None
    return cluster.request(SESSION, found["metadata"]["name"], "resume", spec=change)[0]
