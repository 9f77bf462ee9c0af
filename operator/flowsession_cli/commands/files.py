"""`kubectl flow cp`: copy files and folders to and from a session, by kubectl cp."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import click

from flowsession_cli import app, naming
from flowsession_cli.cluster import SESSION, Cluster
from flowsession_cli.errors import CliError
from flowsession_cli.failures import failure

_RETRIES = 5
"""How often kubectl resumes reading from a session after a broken connection."""

_LINK = re.compile(r'warning: skipping symlink: "([^"]*)"')
_NOISE = re.compile(
    r"[EWI]\d{4} |command terminated|tar: (?:Removing leading|Exiting with failure|Error is not recoverable|.{0,999} in the future|$)|tar:$"
)
_UNREADABLE = re.compile(r"Cannot stat|Cannot open|[Cc]an't open")
"""tar's messages about a file that it leaves out. kubectl ignores tar's exit status."""
_MISSING = "there is no {remote} in {name}; paths there begin in the flow folder: kubectl flow exec {name} -- ls shows it"
_UNREAD = "{remote} in {name} could not be read: kubectl flow exec {name} -- ls -ld {remote} shows who may"
_BROKEN = "the connection to {name} broke, and only a part was copied: copy again"
_SIGNS: Mapping[str, str] = {
    "Cannot stat: No such file": _MISSING,
    "no such file or directory": _MISSING,
    '"tar": executable file not found': "the image of {name} has no tar, by which files are copied: add it to the image",
    "Permission denied": "{remote} in {name} is not the session's to write or read: {reason}",
    "No space left": "{name} has no room for it: {reason}",
    "unexpected EOF": _BROKEN,
    "lost connection": _BROKEN,
    "error sending request": _BROKEN,
}
"""Substrings of kubectl's and tar's messages, each with the sentence for it."""


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Complete sessions, with the colon. The shell completes paths."""
    return [f"{name}:" for name in app.complete(SESSION)(ctx, param, incomplete)]


@click.command("cp")
@click.argument("source", shell_complete=_complete)
@click.argument("target", shell_complete=_complete)
@app.common
def cp_command(cluster: Cluster, source: str, target: str) -> None:
    """Copy a file or a folder, as cp -r does: SESSION:PATH is in a session, any other path is here.

    A path in a session begins in its flow folder, unless it begins with /. In a flow folder the name before the colon may be left out.

    \b
    kubectl flow cp questions.jsonl chat:
    kubectl flow cp chat:/tmp/report.html .
    """
    here, there = _parts(source), _parts(target)
    if (here is None) == (there is None):
        both = "both are in sessions" if here else "neither is in a session"
        raise CliError(f"{both}: one side is SESSION:PATH, the other a path here", code=2)
    if here is None:
        assert there
        _upload(cluster, Path(source), *there)
    else:
        _download(cluster, *here, Path(target))


def _parts(text: str) -> tuple[str, str] | None:
    """Return session and path, or None for a local path. As in kubectl, a colon after a slash is part of a file's name."""
    name, colon, path = text.partition(":")
    return (name, path) if colon and os.sep not in name else None


def _upload(cluster: Cluster, source: Path, name: str, path: str) -> None:
    if not source.exists():
        raise CliError(f"there is no {source} here")
    _local(source)
    session = naming.usable(cluster, name)
    name = session["metadata"]["name"]
    pod = session["status"]["podName"]
    path = path or "."
    named_folder = path.endswith("/") or path in (".", "..")
    if named_folder or _is_folder(cluster, pod, path):
        path = f"{path.rstrip('/')}/{source.resolve().name}"
    _refuse_missing_folder(cluster, pod, name, path)
    if source.is_dir() and _is_folder(cluster, pod, path):  # as cp -r does: its files are added to the existing ones
        _copy(cluster, [f"{_local(source)}/.", f"{pod}:{path}"], name, path)
    else:
        _upload_whole(cluster, source, pod, name, path)
    click.echo(f"{source} is in {name} as {path.removeprefix('./')}")


def _upload_whole(cluster: Cluster, source: Path, pod: str, name: str, path: str) -> None:
    """Copy to a temporary name next to the target, then replace the target once the copy is complete."""
    folder, slash, last = path.rpartition("/")
    part_name = f".{last}.{os.getpid()}.part"
    part = f"{folder}{slash}{part_name}"
    try:
        _copy(cluster, [_local(source), f"{pod}:{part}"], name, path, part=part_name, target=last)
        done = _ran(cluster, pod, "mv", "-fT", "--", part, path)
        if done.returncode:
            raise CliError(f"{path} of {name} was not replaced: {_words(done.stderr) or 'mv gives no reason'}")
    except BaseException:
        _ran(cluster, pod, "rm", "-rf", "--", part)
        raise


def _download(cluster: Cluster, name: str, path: str, target: Path) -> None:
    if not path.strip("/"):
        raise CliError(
            f"{name}:{path} names no file: write {name or 'SESSION'}:PATH; {name or 'SESSION'}:. is the whole flow folder", code=2
        )
    if target.is_dir():
        last = os.path.basename(os.path.normpath(path))  # noqa: PTH119 - it is a path there
        target /= "" if last in (".", "..") else last
    elif not target.parent.is_dir():
        raise CliError(f"there is no folder {target.parent} here")
    session = naming.usable(cluster, name)
    name = session["metadata"]["name"]
    with _whole(target) as part:
        words = [f"{session['status']['podName']}:{path}", _local(part), f"--retries={_RETRIES}"]
        _copy(cluster, words, name, path, part=part.name, target=target.name)
        if not os.path.lexists(part):
            there = not _ran(cluster, session["status"]["podName"], "test", "-e", path).returncode
            raise CliError((_UNREAD if there else _MISSING).format(remote=path, name=name))
    click.echo(f"{path} of {name} is here as {target}")


@contextmanager
def _whole(target: Path) -> Iterator[Path]:
    """Where to write: beside the target, which is there, or replaced, once all is; an existing folder gets the files themselves."""
    if target.is_dir():
        yield target
        return
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(target)
    finally:
        if part.is_dir() and not part.is_symlink():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)


def _local(path: Path) -> str:
    """Return the path in the form that kubectl takes. Raises CliError if kubectl can't take it."""
    if ":" in (found := os.path.relpath(path)):
        raise CliError(f"{path} can't be copied, since kubectl cp takes what stands before a colon for a pod: give it another name here")
    return found


def _copy(cluster: Cluster, words: list[str], name: str, remote: str, *, part: str = "", target: str = "") -> None:
    """Copy by kubectl cp. Raises CliError with tar's or kubectl's message as one sentence. `part` in messages is shown as `target`."""
    call = cluster.command("cp", "-c", "session", *words)
    done = subprocess.run(
        call, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False
    )
    said = done.stdout.replace(part, target) if part else done.stdout
    if done.returncode or _UNREADABLE.search(said):
        if "forbidden" in said:
            raise failure(said)
        for sign, sentence in _SIGNS.items():
            if sign in said:
                raise CliError(sentence.format(remote=remote, name=name, reason=_words(said)))
        raise CliError(f"{remote} of {name} was not copied: {_words(said) or 'kubectl cp gives no reason'}")
    for line in _lines(said):
        link = _LINK.match(line)
        click.echo(f"left out: {link[1]}, a link" if link else line, err=True)


def _lines(said: str) -> list[str]:
    return [line for line in said.splitlines() if line.strip() and not _NOISE.match(line)]


def _words(said: str) -> str:
    return " ".join(line for line in _lines(said) if not _LINK.match(line))


def _ran(cluster: Cluster, pod: str, *command: str) -> "subprocess.CompletedProcess[str]":
    """Run a command in the session."""
    call = cluster.inside(pod, *command)
    return subprocess.run(
        call, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace", check=False
    )


def _is_folder(cluster: Cluster, pod: str, path: str) -> bool | None:
    """Return whether the path is a folder in the session, or None if the session can't tell. Raises CliError if the caller may not ask."""
    done = _ran(cluster, pod, "test", "-d", path)
    if "forbidden" in done.stderr:
        raise failure(done.stderr)
    return None if done.returncode and "command terminated with exit code 1" not in done.stderr else not done.returncode


def _refuse_missing_folder(cluster: Cluster, pod: str, name: str, path: str) -> None:
    """Raise CliError if the folder to copy into is missing: kubectl would wait long for tar, which has already ended."""
    folder = os.path.dirname(path.rstrip("/"))  # noqa: PTH120 - it is a path there
    if folder not in ("", ".", "/") and _is_folder(cluster, pod, folder) is False:
        raise CliError(f"there is no folder {folder} in {name}: kubectl flow exec {name} -- mkdir -p {folder} makes it")
