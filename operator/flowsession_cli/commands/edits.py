"""`kubectl flow edits`: show, pull or discard what was changed inside a session, or restore it from an earlier session."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import click

from flowsession_cli import app, edits, naming, pack, render
from flowsession_cli.asking import ask
from flowsession_cli.cluster import ENVIRONMENT, SESSION, Cluster, Object
from flowsession_cli.errors import CliError

ACTIONS = ("ls", "diff", "pull", "restore", "discard")
_WORDS = (("write", "written"), ("merge", "merged, since both sides have changes"), ("delete", "deleted"))
_COLOURS = (("+++", "1"), ("---", "1"), ("+", "32"), ("-", "31"), ("@@", "36"))
_TRIES = 2


def _actions(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001 - click's
    return [action for action in ACTIONS if action.startswith(incomplete)]


@click.command("edits")
@click.argument("name", default="", metavar="[NAME or DIR]", shell_complete=app.complete(SESSION))
@click.argument("action", default="", metavar="[ls|diff|pull|restore|discard]", shell_complete=_actions)
@click.argument("folder", default="", metavar="[DIR]")
@app.yes
@app.common
def edits_command(cluster: Cluster, name: str, action: str, folder: str, yes: bool) -> None:
    """Bring home what was edited inside a session, or show it, or let it go.

    \b
    ls        the changed files, and whether they are saved (when nothing is said)
    diff      the changes themselves
    pull      writes them into the flow folder DIR (else the one you are in)
    restore   takes the saved edits of an earlier session that didn't come back
    discard   the present edits need not be saved; the files stay

    pull writes over a file only if it still reads what the session was given. What has changed on both sides is merged where the changes
    don't touch; else the local file stays, the session's is written beside it as FILE.session, and the exit status is 1.

    \b
    kubectl flow edits chat diff
    kubectl flow edits chat pull flows/chat
    """
    if name in ACTIONS and action not in ACTIONS:  # without a name: the folder's own session
        name, action, folder = "", name, action or folder
    if action and action not in ACTIONS:
        raise CliError(f"edits has no {action}: it has {', '.join(ACTIONS)}", code=2)
    if folder and action != "pull":
        raise CliError(f"only pull takes a folder: {action or 'ls'} {folder} means nothing", code=2)
    if not name and folder and action == "pull":
        name = str(pack.flow_folder(Path(folder)))
    session = naming.session(cluster, name)
    if action in ("", "ls") and naming.is_suspended(session):
        _tell_saved(session)
        return
    _refuse_claim(cluster, session)
    session = naming.usable(cluster, name)
    pod, name = session["status"]["podName"], session["metadata"]["name"]
    if action == "diff":
        _diff(cluster, pod)
    elif action == "pull":
        target = Path(folder or (name if naming.is_folder(name) else "."))
        _pull(cluster, session, target, yes=yes)
    elif action == "restore":
        terminal = sys.stdin.isatty() and sys.stdout.isatty()
        cluster.execute(pod, ["flow", "restore", *(["--force"] if yes else [])], stdin=terminal, tty=terminal)
    elif action == "discard":
        ask(f"Let the edits in {name} go? Their files stay while it runs, and are gone with it.", yes=yes)
        cluster.execute(pod, ["flow", "edits", "--discard"], stdin=False, tty=False)
    else:
        cluster.execute(pod, ["flow", "edits"], stdin=False, tty=False)


def _tell_saved(session: Object) -> None:
    """Print the edits of a session without a pod, which are in its status."""
    name, saved = session["metadata"]["name"], session.get("status", {}).get("edits") or {}
    for file in saved.get("files") or ():
        click.echo(file)
    if (more := saved.get("count", 0) - len(saved.get("files") or ())) > 0:
        click.echo(f"... and {more} more")
    when = f", saved {render.age(saved['savedAt'])} ago" if saved.get("savedAt") else ", which were not saved" if saved.get("count") else ""
    if saved.get("discarded"):
        when = ", let go by edits discard"
    count = saved.get("count", 0)
    click.echo(f"{name} is suspended; when it ended it had {count} edited file{'' if count == 1 else 's'}{when}", err=True)


def _refuse_claim(cluster: Cluster, session: Object) -> None:
    """Raise CliError if the flow folder is on a writable claim: changes made there are changes of the claim."""
    environment = cluster.find(ENVIRONMENT, session["spec"]["environmentRef"]["name"]) or {"spec": {}}
    claim = (environment["spec"].get("source") or {}).get("persistentVolumeClaim")
    if claim and not claim.get("readOnly"):
        raise CliError(
            f"the flow folder of {session['metadata']['name']} is on the claim {claim['claimName']}: what is changed in it stays there,"
            " and kubectl flow cp fetches it"
        )


def _diff(cluster: Cluster, pod: str) -> None:
    """Show the differences, in color if that is wanted."""
    command = ["flow", "edits", "--diff"]
    if not render.is_terminal(sys.stdout) or os.environ.get("NO_COLOR"):
        cluster.execute(pod, command, stdin=False, tty=False)
    else:
        _diff_in_colour(cluster.inside(pod, *command))


def _diff_in_colour(words: list[str]) -> None:
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, errors="replace") as process:
        assert process.stdout
        for line in process.stdout:
            colour = next((code for sign, code in _COLOURS if line.startswith(sign)), "")
            text = line.rstrip("\n")
            print(f"\x1b[{colour}m{text}\x1b[0m" if colour else text)
    if process.returncode:
        sys.exit(process.returncode)


def _pull(cluster: Cluster, session: Object, target: Path, *, yes: bool) -> None:
    name = session["metadata"]["name"]
    target = _target(target, session, yes=yes)
    with tempfile.TemporaryDirectory() as folder:
        found = _fetched(cluster, session["status"]["podName"], Path(folder))
        steps = edits.counted(edits.plan(found, target))
        if doomed := steps.get("delete"):
            names = ", ".join(edits.shown(step.edit.path) for step in doomed)
            ask(f"Deleted in {name}: {names}. Delete here too?", yes=yes)
        _carry_out(steps, target)
    for line in found.left_out:
        click.echo(f"not pulled: {line}; kubectl flow cp fetches it", err=True)
    if found.problem:
        click.echo(f"not all of the session's folder could be looked at: {found.problem}", err=True)
    _sum_up(name, found, steps)


def _target(folder: Path, session: Object, *, yes: bool) -> Path:
    """Return the local folder, absolute: the session's own, a new or empty one, or one that the user confirms."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return folder.absolute()
    folder = pack.flow_folder(folder)
    name, environment = session["metadata"]["name"], session["spec"]["environmentRef"]["name"]
    if (own := naming.of_folder(folder)) not in (name, environment):
        ask(f"{folder.name} is the folder of a session called {own}. Write the edits of {name} there?", yes=yes)
    return folder


def _fetched(cluster: Cluster, pod: str, folder: Path) -> edits.Pack:
    """Return the session's edits, unpacked. Read them again if the connection broke, since reading changes nothing."""
    for attempt in range(_TRIES):
        with (folder / "pack").open("w+b") as archive:
            cluster.read_from(pod, ["flow", "edits", "--pack"], archive)
            archive.seek(0)
            try:
                return edits.read(archive, folder)
            except edits.BrokenPack:
                if attempt + 1 < _TRIES:
                    click.echo("the connection broke: it is read again", err=True)
    raise CliError(f"the edits don't come whole from pod {pod}, nothing was written: try again")


def _carry_out(steps: Mapping[str, list[edits.Step]], target: Path) -> None:
    for what, word in _WORDS:
        for step in steps.get(what, ()):
            edits.carry_out(step)
            click.echo(f"{word}: {_shown(step.place, target)}")
    for step in steps.get("conflict", ()):
        aside = edits.carry_out(step)
        other = f"; the session's is {_shown(aside, target)}" if aside else ""
        click.echo(f"conflict: {_shown(step.place, target)}, {step.reason}{other}", err=True)
    for step in steps.get("skip", ()):
        click.echo(f"not pulled: {_shown(step.place, target)}, {step.reason}", err=True)


def _shown(place: Path, target: Path) -> str:
    return edits.shown(os.path.relpath(place, target))


def _sum_up(name: str, found: edits.Pack, steps: Mapping[str, list[edits.Step]]) -> None:
    if not found.edits:
        click.echo(f"nothing is edited in {name}")
        return
    if conflicts := len(steps.get("conflict", ())):
        many = "files are" if conflicts > 1 else "file is"
        raise CliError(
            f"{conflicts} {many} in conflict: merge what you want into the local ones, delete the *{pack.ASIDE}, and start again"
        )
    if steps.keys() <= {"same", "skip"}:
        click.echo(f"the folder has all edits of {name} already")
    else:
        click.echo("kubectl flow start pushes them, and then they are no edits any more")
