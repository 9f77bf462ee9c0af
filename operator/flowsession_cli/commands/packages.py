"""Packages of a session: list them, compare two sessions, and install what the requirements ask for."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from flowsession_cli import app, follow, installer, naming, owners, pack, pushed, render
from flowsession_cli.asking import ask
from flowsession_cli.cluster import ENVIRONMENT, SESSION, Cluster, Object
from flowsession_cli.errors import CliError

_LAYERS = ("requirements", "dependency", "image")
"""Layers of packages, in the order in which people look for them."""

_HEADS = ("PACKAGE", "VERSION", "LAYER", "REQUIRED BY")
_NAME = click.argument("name", default="", metavar="[NAME or DIR]", shell_complete=app.complete(SESSION))


@click.command("packages")
@_NAME
@click.option(
    "--diff", "other", default="", metavar="OTHER", help="Only what differs from that session.", shell_complete=app.complete(SESSION)
)
@click.option("-o", "--output", default="", metavar="json", help="The list as the session gave it, as JSON.")
@app.common
def packages_command(cluster: Cluster, name: str, other: str, output: str) -> None:
    """List a session's packages by layer, and what required them: the requirements', their dependencies, the image's.

    \b
    kubectl flow packages chat
    kubectl flow packages chat --diff chat-of-last-week
    """
    if output not in ("", "json") or (output and other):
        raise CliError(f"-o {output} is nothing that packages prints{' with --diff' if other else ''}: it prints a table, or json", code=2)
    session = naming.session(cluster, name)
    listed = _listed(cluster, session)
    if output:
        click.echo(json.dumps(listed, indent=2))
        return
    out = render.console()
    if other:
        rows = _differences(listed["packages"], _listed(cluster, naming.session(cluster, other))["packages"])
        mine = session["metadata"]["name"]
        if not rows:
            click.echo(f"{mine} and {other} have the same {len(listed['packages'])} packages")
        else:
            render.table(out, ("PACKAGE", mine.upper(), other.upper()), rows, phase="")
        return
    packages = sorted(listed["packages"], key=lambda package: (_LAYERS.index(package["layer"]), package["name"]))
    render.table(out, _HEADS, [_row(package) for package in packages], phase="")
    if left_out := listed.get("truncated"):
        click.echo(f"... and {left_out} more: kubectl flow exec {session['metadata']['name']} -- flow packages has all", err=True)


def _listed(cluster: Cluster, session: Object) -> Object:
    """Return the list of packages in a session's ConfigMap."""
    name, status = session["metadata"]["name"], session.get("status", {})
    kept = (status.get("packages") or {}).get("configMapName")
    if not kept:
        raise CliError(f"{name} has no list of packages yet: it comes with its first install; kubectl flow why {name} says how far it is")
    listed: Object = json.loads(cluster.get("configmap", kept)["data"]["packages.json"])
    return listed


def _row(package: Mapping[str, Any]) -> tuple[str, ...]:
    layer = f"{package['layer']}, not {package['replaces']} of the image" if package.get("replaces") else package["layer"]
    return package["name"], package["version"], layer, ", ".join(package.get("requiredBy") or ())


def _differences(mine: list[Object], theirs: list[Object]) -> list[tuple[str, ...]]:
    """Return the packages that differ, with both versions."""
    left, right = ({package["name"]: package["version"] for package in packages} for packages in (mine, theirs))
    names = sorted(name for name in left.keys() | right.keys() if left.get(name) != right.get(name))
    return [(name, left.get(name, "-"), right.get(name, "-")) for name in names]


@click.command("install")
@_NAME
@click.option(
    "--file",
    "requirements",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The environment's new requirements; else what it has is installed, or tried again.",
)
@click.option("--save-only", is_flag=True, help="Save them, and install them with the next install, start or reset.")
@click.option("--wait/--no-wait", default=True, help="Wait until it is installed (the default).")
@app.yes
@app.common
def install_command(cluster: Cluster, name: str, requirements: Path | None, save_only: bool, wait: bool, yes: bool) -> None:
    """Install what the requirements ask for, in place: what runs in the session goes on.

    Requirements belong to the environment, so all its sessions get them. Of a folder that was started from here, --file replaces the
    requirements in what was pushed.

    \b
    kubectl flow install chat --file requirements.txt
    kubectl flow install chat --file requirements.txt --save-only
    """
    if save_only and not requirements:
        raise CliError("--save-only saves requirements: give --file requirements.txt", code=2)
    session = naming.session(cluster, name)
    _Install(cluster, session, yes=yes).run(requirements, save_only=save_only, wait=wait)


class _Install:
    """One install: what is saved, what is requested, and the result."""

    def __init__(self, cluster: Cluster, session: Object, *, yes: bool) -> None:
        self._cluster = cluster
        self._session = session
        self._name: str = session["metadata"]["name"]
        self._environment: str = session["spec"]["environmentRef"]["name"]
        self._yes = yes
        self._replaced = ""
        """The flow revision that a push of requirements replaces."""

    def run(self, requirements: Path | None, *, save_only: bool, wait: bool) -> None:
        """Run the whole install. Raises CliError."""
        if save_only:
            self._cluster.patch(SESSION, self._name, {"spec": {"onChange": "Wait"}})
        if requirements:
            self._save(requirements)
        if save_only:
            click.echo(f"saved; kubectl flow install {self._name} installs it, and so does a start or a reset")
            return
        revision = self._resolved()
        suspended = naming.is_suspended(self._session)
        if suspended:
            click.echo(f"{self._name} is suspended: it is resumed, and a start installs", err=True)
            naming.resume(self._cluster, self._session)
        # Only a Wait that --save-only wrote ends here. One that somebody else wrote stays.
        saved_only = self._session["spec"].get("onChange") == "Wait" and owners.ours(self._cluster, SESSION, self._name, "onChange")
        spec = {"onChange": "Install"} if saved_only else None
        _, stamp = self._cluster.request(SESSION, self._name, "install", spec=spec)
        if not wait:
            click.echo(f"{self._name} installs; kubectl flow status {self._name} shows it")
            return

        def done(thing: Object) -> bool:
            handled = thing.get("status", {}).get("handledRequests", {}).get("install") == stamp
            return handled and _is_over(thing, revision) and (not suspended or follow.is_ready(thing))

        self._print(follow.until(self._cluster, self._name, done))

    def _save(self, requirements: Path) -> None:
        """Save them where the environment keeps its requirements. Raises CliError."""
        try:
            text = requirements.read_bytes()
            text.decode()
        except UnicodeDecodeError:
            raise CliError(f"{requirements} is no UTF-8 text, as requirements are") from None
        environment = self._cluster.get(ENVIRONMENT, self._environment)
        if owner := owners.other(environment, self._cluster.user):
            ask(f"The environment {self._environment} belongs to {owner}, whose sessions get them too. Change it?", yes=self._yes)
        source = environment["spec"].get("source") or {}
        if source == pushed.source(self._environment) and environment["spec"].get("requirementsText") is None:
            self._push(environment, requirements, text)
        elif environment["spec"].get("requirementsText") != text.decode():
            self._cluster.patch(ENVIRONMENT, self._environment, {"spec": {"requirementsText": text.decode()}})
            click.echo(f"{requirements} is saved as the requirements of {self._environment}")

    def _push(self, environment: Object, requirements: Path, text: bytes) -> None:
        """Replace one file in the packed folder."""
        status, spec = environment.get("status", {}), environment["spec"]
        flow_path = spec.get("flowPath") or "."
        file = status.get("requirementsFile") or "requirements.txt"
        place = file if flow_path == "." else f"{flow_path}/{file}"
        old = pushed.archive_of(self._cluster.get("configmap", pushed.name_of(self._environment)))
        if (new := pack.replaced(old, place, text)) != old:
            self._cluster.apply(pushed.manifest(self._environment, new))
            self._replaced = status.get("flowRevision", "")
            click.echo(f"{requirements} is pushed as {file}")

    def _resolved(self) -> str:
        """Return the packages revision of the environment's present spec. Raises CliError with the operator's message if unusable."""
        environment = follow.resolved(self._cluster, self._environment, other_than=self._replaced)
        ready = render.condition(environment, "Ready")
        if ready.get("status") == "False":
            raise CliError(f"these requirements can't be used, the session keeps what it has: {ready['message']} ({ready['reason']})")
        return str(environment["status"].get("packagesRevision", ""))

    def _print(self, session: Object) -> None:
        status, found = session["status"], render.condition(session, "PackagesInstalled")
        for warning in (status.get("install") or {}).get("warnings") or ():
            click.echo(f"warning: {warning}", err=True)
        installer.refuse_failed(session)
        if status.get("install") == self._session.get("status", {}).get("install") and not naming.is_suspended(self._session):
            click.echo(f"{self._name} has what the requirements ask for: nothing was to be installed")
        else:
            click.echo(f"{self._name}: {found.get('message')}")


def _is_over(session: Object, revision: str) -> bool:
    found = render.condition(session, "PackagesInstalled")
    if found.get("reason") == "Installing":
        return False
    in_sync = render.condition(session, "InSync").get("status") == "True"  # perhaps with a later revision by now
    return found.get("status") == "False" or in_sync or session["status"].get("packagesRevision") == revision
