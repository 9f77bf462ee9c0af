"""`kubectl flow start`: start a session from a flow folder or an existing environment."""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click

from flowsession_cli import app, follow, installer, naming, owners, pack, pushed, render, wanted
from flowsession_cli.cluster import ENVIRONMENT, SESSION, Cluster, Object, manifest
from flowsession_cli.errors import INTERRUPTED, CliError, NotFound

_EDITS = 5
"""Most edited files that are named."""


@click.command("start")
@click.argument("target", default="", metavar="[DIR or ENVIRONMENT]", shell_complete=app.complete(ENVIRONMENT))
@click.option("--name", default="", help="Name of session and environment, instead of the folder's.")
@click.option("--size", default="", metavar="VMSIZE", help="VM size, such as Standard_D2s_v5; kubectl get vmsize lists them.")
@click.option("--idle", default="", metavar="1h|never", help="Time without work after which it ends: 30m, 1h, never.")
@click.option("--instance", default="", metavar="NAME", help="The compute instance to run on.")
@click.option("--identity", default="", metavar="SERVICEACCOUNT", help="The ServiceAccount to act as.")
@click.option("--image", default="", metavar="IMAGE", help="The session's own image.")
@click.option("--env", "variables", multiple=True, metavar="K=V", help="An environment variable of the session; may be repeated.")
@click.option("--wait/--no-wait", default=True, help="Wait until it can be used (the default).")
@app.yes
@app.common
def start_command(cluster: Cluster, target: str, name: str, wait: bool, yes: bool, **options: Any) -> None:
    """Start a flow folder, or an environment, in the cluster.

    Without arguments the flow folder that you are in. What .gitignore and .amlignore leave out stays here. A second start pushes what
    changed in the folder into the running session. Each stage is shown with its seconds; ^C detaches, and the start goes on.

    \b
    kubectl flow start
    kubectl flow start flows/chat --size Standard_D4s_v5 --idle 2h
    kubectl flow start team-environment --name mine
    """
    Start(cluster, options=wanted.spec(**options), yes=yes).run(target, name, wait=wait)


class Start:
    """One start: what exists, what is written, and what is shown of it."""

    def __init__(self, cluster: Cluster, *, options: Object, yes: bool) -> None:
        self._cluster = cluster
        self._wanted = options
        self._yes = yes
        self._user = ""

    def run(self, target: str, name: str, *, wait: bool) -> None:
        """Run the whole start. Raises CliError."""
        folder = Path(target or ".")
        packed: pack.Packed | None = None
        if naming.is_folder(target):
            folder = pack.flow_folder(folder)
            packed = pack.pack(folder)
            name = naming.checked(name) if name else naming.of_folder(folder)
            environment = name
        else:
            environment = target
            name = naming.checked(name or target)
        with ThreadPoolExecutor() as pool:  # each look-up runs its own kubectl
            user = pool.submit(self._cluster.user)
            there = pool.submit(self._cluster.find, ENVIRONMENT, environment)
            before = pool.submit(pushed.found, self._cluster, name)
            session = self._cluster.find(SESSION, name)
        self._user = user.result()
        found = there.result()
        if found is None and not packed:
            raise NotFound(naming.no_environment(self._cluster, environment))
        self._refuse_other(name, environment, session)
        objects, revision = self._objects_of_folder(name, folder, packed, found, before.result()) if packed else ([], "")
        if (made := self._session(name, environment, session)) is not None:
            objects.append(made)
        try:
            applied = self._cluster.apply(*objects) if objects else []
            generation = self._wake(session, applied)
        except KeyboardInterrupt:
            message = f"interrupted while {name} was written to the cluster: kubectl flow start goes on with it, kubectl flow stop ends it"
            raise CliError(message, code=INTERRUPTED) from None
        if not wait:
            click.echo(f"{name} starts; kubectl flow status {name} shows it")
            return
        with follow.detaching(name):
            self._follow(name, revision, generation, flow=packed is not None, new=session is None and found is None)

    def _follow(self, name: str, revision: str, generation: int, *, flow: bool, new: bool) -> None:
        """Show the start's progress until the session can be used."""
        ready = self._wait_for_push(name, revision) if revision else None
        if ready is None or not follow.is_ready(ready, generation):
            ready = follow.until_ready(self._cluster, name, generation=generation, new=new)
        _print_next_steps(ready, flow=flow)

    def _refuse_other(self, name: str, environment: str, session: Object | None) -> None:
        """Raise CliError if the session of that name has another environment, or is somebody else's and the user declines it."""
        if session is None:
            return
        user, other = session["spec"].get("user", ""), session["spec"]["environmentRef"]["name"]
        if other != environment:
            raise CliError(f"there is a session {name} already, of environment {other}: give this one another --name")
        if user != self._user and not self._agreed(f"{name} is the session of {user}, and you are {self._user}. Start theirs?"):
            raise CliError(f"{name} is the session of {user}: give yours another --name, or take theirs by --yes")

    def _agreed(self, question: str) -> bool:
        return self._yes or (sys.stdin.isatty() and click.confirm(question))

    def _objects_of_folder(
        self, name: str, folder: Path, packed: pack.Packed, environment: Object | None, old: bytes
    ) -> tuple[list[Object], str]:
        """Return the ConfigMap and environment to apply, if new or changed, and the flow revision that they replace, if any."""
        source = pushed.source(name)
        if environment is not None:
            self._refuse_other_source(name, environment, source)
        for link in packed.links:
            click.echo(f"left out: {link}, a link that leads out of the folder or to a folder", err=True)
        for aside in packed.asides:
            click.echo(f"left out: {aside}, the session's version of a file in conflict; delete it once that is settled", err=True)
        objects: list[Object] = []
        if old != packed.archive:
            objects.append(pushed.manifest(name, packed.archive))
        spec = {"source": source, "flowPath": packed.flow_path}
        if environment is None or {key: environment["spec"].get(key) for key in spec} != spec:
            objects.append(manifest("FlowEnvironment", name, spec, labels=pushed.LABELS))
        change = pack.difference(pack.unpacked(old), packed.files) if old else None
        _tell_folder(folder, packed, change)
        revision = (environment or {}).get("status", {}).get("flowRevision", "")
        return objects, revision if change else ""

    def _refuse_other_source(self, name: str, environment: Object, source: Object) -> None:
        if environment["spec"].get("source") != source:
            kind = ", ".join(environment["spec"].get("source") or ("no folder",))
            raise CliError(f"there is an environment {name} already, with another source ({kind}): give this one another --name")
        owner = owners.other(environment, lambda: self._user)
        if owner and not self._agreed(f"The environment {name} belongs to {owner}, whose sessions use it too. Change it?"):
            raise CliError(f"the environment {name} belongs to {owner}: give yours another --name, or change theirs by --yes")

    def _session(self, name: str, environment: str, session: Object | None) -> Object | None:
        """Return the session to apply, or None if it is as wanted. Settings that aren't given now stay."""
        if session is None:
            return manifest(
                "ComputeSession", name, {"environmentRef": {"name": environment}, "user": self._user, **self._wanted}, labels=pushed.LABELS
            )
        spec = wanted.merged(session["spec"], self._wanted)
        if spec == session["spec"]:
            return None
        if wanted.restarts(session["spec"], spec):
            click.echo(f"{name} restarts on its new compute, image or identity; edits are saved", err=True)
        return manifest("ComputeSession", name, spec)

    def _wake(self, session: Object | None, applied: list[Object]) -> int:
        """Resume the session if it is suspended. Return the generation of its spec to wait for."""
        made = next((thing for thing in applied if thing["kind"] == "ComputeSession"), session)
        if session is not None and naming.is_suspended(session):
            made = naming.resume(self._cluster, session)
        return int((made or {}).get("metadata", {}).get("generation", 0))

    def _wait_for_push(self, name: str, revision: str) -> Object:
        """Return the session once it has the pushed folder and its packages, or isn't running. Raises CliError with the operator's message
        if it can't have them."""
        began = time.monotonic()
        environment = follow.resolved(self._cluster, name, other_than=revision)
        resolved = render.condition(environment, "Ready")
        if resolved.get("status") == "False":
            raise CliError(
                f"the pushed folder can't be used, the session keeps the one before: {resolved['message']} ({resolved['reason']})"
            )
        new = environment["status"].get("flowRevision", "")
        session = follow.until(self._cluster, name, lambda thing: _has_flow(thing, new))
        installer.refuse_failed(session)
        in_sync = render.condition(session, "InSync")
        if in_sync.get("status") == "False":
            way = f"; kubectl flow install {name} does that" if in_sync["reason"] == "RequirementsChanged" else ""
            raise CliError(f"the session keeps what it has: {in_sync['message']} ({in_sync['reason']}){way}")
        if session["status"].get("flowRevision") == new:
            click.echo(f"the session has it, {time.monotonic() - began:.1f} s after the push")
        return session


def _has_flow(session: Object, revision: str) -> bool:
    """Return whether the session has that flow folder and its packages, reports why it doesn't take it, or will get it when it starts."""
    in_sync, packages = render.condition(session, "InSync"), render.condition(session, "PackagesInstalled")
    if render.condition(session, "Ready").get("status") != "True":
        return True
    if in_sync.get("status") == "False" and in_sync.get("reason") not in ("FlowChanged", "RequirementsChanged"):
        return True
    has_packages = in_sync.get("reason") != "RequirementsChanged" or session["spec"].get("onChange") == "Wait"
    failed = packages.get("status") == "False" and not installer.is_installing(session)
    return session["status"].get("flowRevision") == revision and (has_packages or failed)


def _tell_folder(folder: Path, packed: pack.Packed, change: pack.Change | None) -> None:
    if change is None:
        place = f", the flow in {packed.flow_path}" if packed.flow_path != "." else ""
        click.echo(f"{folder.name}: {render.files(len(packed.files))}, {packed.size / 1000:.1f} kB packed{place}")
        return
    if not change:
        click.echo(f"{folder.name}: nothing changed in its {render.files(len(packed.files))}")
    for word, names in (("added", change.added), ("changed", change.changed), ("removed", change.removed)):
        for name in names:
            click.echo(f"{word}: {name}")


def _print_next_steps(session: Object, *, flow: bool) -> None:
    name, status = session["metadata"]["name"], session.get("status", {})
    out = render.console()
    whole: Object = next((stage for stage in status.get("stages") or () if stage["name"] == render.WHOLE), {})
    took = f", {whole['seconds']:.1f} s from its start" if whole.get("seconds") is not None else ""
    out.print(f"{name} runs on {status.get('nodeName', 'its node')}{took}")
    files = [file for file in (status.get("edits") or {}).get("files") or () if not file.startswith("~/")] if flow else []
    if files:
        named = ", ".join(files[:_EDITS]) + (", ..." if len(files) > _EDITS else "")
        out.print(f"edited in the session, and as it is there: {named}; kubectl flow edits {name} diff shows it")
    rows = [("kubectl flow test " + name, "run the flow once")] if flow else []
    rows += [(f"kubectl flow sh {name}", "a terminal in it"), (f"kubectl flow stop {name}", "end it")]
    for command, text in rows:
        line = f"  {command:<38}{text}"
        out.print(line if len(line) <= out.width else f"  {command}")
