"""`kubectl flow run`: run flows over data, and show their results and files."""

import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flowsession_cli import app, naming, options, render, run_files, run_follow
from flowsession_cli.asking import ask
from flowsession_cli.cluster import RUN, Cluster, Object
from flowsession_cli.commands import run_create
from flowsession_cli.errors import CliError, Unreachable

if TYPE_CHECKING:
    from rich.console import Console

FINAL = run_files.FINAL
_NAME = click.argument("name", shell_complete=app.complete(RUN))
_OTHER_NAMES = {"list": "ls", "show-details": "details", "show-metrics": "metrics", "delete": "rm"}
"""Prompt flow's names for commands that have kubectl's names here."""

_MOST_LINES = 100
_LOG_SECONDS = 2.0
_NARROW = 12
"""Fewest columns in which a value in a table is readable."""


class RunGroup(app.NearestGroup):
    """Command group that also knows its commands by prompt flow's names."""

    def known(self) -> list[str]:
        """Return the names of both kinds."""
        return [*self.commands, *_OTHER_NAMES]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command, or None if no command has that name."""
        return super().get_command(ctx, _OTHER_NAMES.get(cmd_name, cmd_name))


@click.group("run", cls=RunGroup)
def run_command() -> None:
    """Run a flow over data, and see what came of it.

    Commands and options are those of pf run: list, show-details, show-metrics and delete are known too, and --name NAME in place of NAME.
    """


run_command.add_command(run_create.create_command)


@run_command.command("ls")
@app.common
@options.listing
def ls_command(cluster: Cluster, listing: options.Listing) -> None:
    """List runs, the newest first."""
    found = listing.objects(cluster, RUN)
    if not found:
        click.echo("no runs here: kubectl flow run create makes one", err=True)
        return
    found.sort(key=lambda run: str(run["metadata"]["creationTimestamp"]), reverse=True)
    heads = listing.heads("NAME", "PHASE", "LINES", "ENVIRONMENT", "SESSION", "DURATION", "AGE")
    render.table(render.console(), heads, [listing.row(run, _row(run)) for run in found], phase="PHASE")


def _row(run: Object) -> tuple[str, ...]:
    status, meta = run.get("status", {}), run["metadata"]
    return (
        meta["name"],
        status.get("phase") or "New",
        status.get("progress") or "-",
        run["spec"]["environmentRef"]["name"],
        status.get("sessionName") or "-",
        status.get("duration") or "-",
        render.age(meta["creationTimestamp"]),
    )


@run_command.command("show", cls=options.ByName)
@_NAME
@click.option("-o", "--output", default="", metavar="json|yaml|name", help="The object, as kubectl get prints it.")
@app.common
def show_command(cluster: Cluster, name: str, output: str) -> None:
    """Show one run: state, lines, metrics, errors, outputs."""
    if output:
        cluster.become("get", RUN, name, f"-o={output}")
    render.fields(render.console(), screen(_found(cluster, name)))


def screen(run: Object) -> list[tuple[str, str]]:
    """Return what `show` shows, by name. Empty values aren't shown."""
    status, spec = run.get("status", {}), run["spec"]
    outputs, claim = status.get("outputs") or {}, (status.get("outputs") or {}).get("persistentVolumeClaim") or {}
    return [
        ("run", f"{run['metadata']['name']} of {spec.get('user', '')}"),
        ("state", status.get("phase") or "New"),
        ("", render.condition(run, "Complete").get("message", "")),
        ("environment", spec["environmentRef"]["name"]),
        ("session", status.get("sessionName", "")),
        ("lines", status.get("progress", "")),
        ("duration", status.get("duration", "")),
        ("metrics", ", ".join(f"{name} {value}" for name, value in (status.get("metrics") or {}).items())),
        ("tokens", json.dumps(status["tokens"]) if status.get("tokens") else ""),
        ("outputs", ", ".join(f"ConfigMap {name}" for name in outputs.get("configMapNames") or ())),
        ("outputs", f"claim {claim['claimName']}, folder {claim.get('path') or '/'}" if claim else ""),
        *(("warning", text) for text in status.get("warnings") or ()),
        *((run_follow.place(problem), problem["message"]) for problem in status.get("errors") or ()),
    ]


@run_command.command("cancel", cls=options.ByName)
@_NAME
@app.common
def cancel_command(cluster: Cluster, name: str) -> None:
    """End a run. Lines that are done keep their outputs."""
    if (phase := _found(cluster, name).get("status", {}).get("phase")) in FINAL:
        click.echo(f"{name} is over already: {phase}")
        return
    cluster.patch(RUN, name, {"spec": {"cancel": True}})
    click.echo(f"{name} is being canceled; lines that are done keep their outputs")


@run_command.command("stream", cls=options.ByName)
@_NAME
@app.common
def stream_command(cluster: Cluster, name: str) -> None:
    """Show how a run goes on until it is over.

    Exits with 1 if it failed or was canceled. ^C detaches: the run goes on. A connection that breaks is told, and made again.
    """
    _found(cluster, name)
    run = run_follow.until_over(cluster, name)
    run_follow.print_result(run)
    click.get_current_context().exit(0 if run["status"]["phase"] == "Completed" else 1)


@run_command.command("metrics", cls=options.ByName)
@_NAME
@app.common
def metrics_command(cluster: Cluster, name: str) -> None:
    """Print a run's metrics as JSON.

    They are what its aggregation nodes logged.
    """
    run = _found(cluster, name)
    run_files.refuse_unfinished(run, "metrics")
    metrics = run["status"].get("metrics") or {}
    click.echo(json.dumps({metric: _number(value) for metric, value in metrics.items()}, indent=4, ensure_ascii=False))


def _number(text: str) -> Any:
    """Return a metric as prompt flow logged it: the status has it as text."""
    try:
        found = json.loads(text)
    except ValueError:
        return text
    return found if isinstance(found, int | float) else text


@run_command.command("details", cls=options.ByName)
@_NAME
@click.option(
    "-r", "--max-results", type=click.IntRange(1), metavar="N", default=_MOST_LINES, help=f"How many lines to show; else {_MOST_LINES}."
)
@click.option("--all-results", is_flag=True, help="Show all lines.")
@click.option("-o", "--output", type=click.Choice(["json"]), metavar="json", help="As JSON, one object for each line.")
@app.common
def details_command(cluster: Cluster, name: str, max_results: int, all_results: bool, output: str | None) -> None:
    """Show the lines of a run: inputs, outputs, failures."""
    run = _found(cluster, name)
    files = run_files.chosen(cluster, run, run_files.INPUTS, run_files.OUTPUTS, run_files.ERROR)
    lines = details(files, run)
    shown = lines if all_results else lines[:max_results]
    if output:
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
        return
    if not shown:
        click.echo(f"no line of {name} was run: kubectl flow why run/{name} says why", err=True)
        return
    out = render.console()
    show_details(out, shown)
    for line in shown:
        if "error" in line:
            click.echo(f"line {line['line_number']}: {line['error']}", err=True)
    if len(shown) < len(lines):
        click.echo(f"{len(shown)} of {len(lines)} lines; --all-results shows all, -o json as JSON", err=True)


def details(files: dict[str, bytes], run: Object) -> list[Object]:
    """Return the lines of a run, ordered by number, each with inputs and outputs, or why it failed."""
    inputs, outputs = (run_files.lines_of(files.get(name, b"")) for name in (run_files.INPUTS, run_files.OUTPUTS))
    failed = run_files.failures(files.get(run_files.ERROR, b""), run)
    return [
        {"line_number": number, "inputs": inputs.get(number, {}), "outputs": outputs.get(number, {})}
        | ({"error": failed[number]} if number in failed and number not in outputs else {})
        for number in sorted({*inputs, *outputs, *failed})
    ]


def show_details(out: "Console", lines: list[Object]) -> None:
    """Print a table as wide as the terminal, or one value below the other if the terminal is too narrow for it."""
    columns = [(kind, key) for kind in ("inputs", "outputs") for key in dict.fromkeys(key for line in lines for key in line[kind])]
    heads = ["line", *(f"{kind}.{key}" for kind, key in columns)]
    rows = [[str(line["line_number"]), *(_cell(line, kind, key, whole=out.is_terminal) for kind, key in columns)] for line in lines]
    widths = [len("line"), *(max(_NARROW, len(head)) for head in heads[1:])]
    if out.width < sum(widths) + 3 * len(columns):
        for row in rows:
            render.fields(out, list(zip(heads, row, strict=True)))
            out.print()
        return
    from rich import box  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    picture = Table(box=box.SIMPLE_HEAD if out.is_terminal else None, pad_edge=False, padding=(0, 3, 0, 0))
    for head, width in zip(heads, widths, strict=True):
        picture.add_column(head, overflow="fold", min_width=width)
    for row in rows:
        picture.add_row(*(Text(cell, "red" if cell == "(Failed)" else "") for cell in row))
    with out.capture() as captured:
        out.print(picture)
    out.file.write("\n".join(text.rstrip() for text in captured.get().strip("\n").splitlines()) + "\n")


def _cell(line: Object, kind: str, key: str, *, whole: bool) -> str:
    """Return the text of a value. `whole`: keep its line breaks, else put it on one line."""
    if kind == "outputs" and "error" in line:
        return "(Failed)"
    value = line[kind].get(key)
    text = value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)
    return text.replace("\r", "") if whole else text.replace("\r", "").replace("\n", "\\n")


@run_command.command("logs", cls=options.ByName)
@_NAME
@click.option("-f", "--follow", is_flag=True, help="Go on until the run is over.")
@app.common
def logs_command(cluster: Cluster, name: str, follow: bool) -> None:
    """Print prompt flow's log of a run.

    It comes from its session while it runs, and then from what was kept.
    """
    printed = 0
    while True:
        try:
            run = _found(cluster, name)
            text = run_files.log(cluster, run, after=printed)
        except Unreachable as error:
            if not follow:
                raise
            click.echo(f"{error}; tried again until ^C", err=True)
        else:
            sys.stdout.buffer.write(text)
            sys.stdout.flush()
            printed += len(text)
            if not follow or run_files.is_over(run):
                break
        time.sleep(_LOG_SECONDS)
    if not printed:
        click.echo(f"{name} has no log{'' if run_files.is_over(run) else ' yet'}", err=True)


@run_command.command("download", cls=options.ByName)
@_NAME
@click.argument("folder", default="", metavar="[DIR]", type=click.Path(file_okay=False))
@click.option("--overwrite", is_flag=True, help="Write over what is in the folder.")
@app.common
def download_command(cluster: Cluster, name: str, folder: str, overwrite: bool) -> None:
    """Bring the files that are kept of a run here.

    They go into DIR, or a folder that is called as the run is, and are prompt flow's own: flow_outputs/output.jsonl, inputs.jsonl,
    metrics.json, error.json, logs.txt. A folder that isn't empty is
    refused without --overwrite. Outputs on a claim come through a session that mounts it.
    """
    run = _found(cluster, name)
    target = Path(folder or name)
    there = target.is_dir() and any(target.iterdir())
    if there and not overwrite:
        raise CliError(f"{target} is there already and not empty: name another folder, or write over it by --overwrite")
    target.absolute().parent.mkdir(parents=True, exist_ok=True)
    # All or nothing: existing files stay until all new ones have arrived.
    coming = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.absolute().parent))
    try:
        with run_files.kept(cluster, run) as files:
            count = run_files.write(files, coming)
        coming.chmod(0o777 & ~_umask())
        if there:
            shutil.copytree(coming, target, dirs_exist_ok=True)
        else:
            coming.replace(target)
    finally:
        shutil.rmtree(coming, ignore_errors=True)
    click.echo(f"{count} files in {target}")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@run_command.command("rm", cls=options.ByName)
@click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=app.complete(RUN))
@app.yes
@app.common
def rm_command(cluster: Cluster, names: tuple[str, ...], yes: bool) -> None:
    """Delete runs, with what ConfigMaps keep of them.

    Outputs on a claim stay.
    """
    found = [_found(cluster, name) for name in names]
    going = [run["metadata"]["name"] for run in found if not run_files.is_over(run)]
    ends = f" {', '.join(going)} {'is' if len(going) == 1 else 'are'} not over, and would end." if going else ""
    ask(f"Delete {', '.join(names)}?{ends} Outputs in ConfigMaps go too; kubectl flow run download keeps a copy.", yes=yes)
    for name in names:
        cluster.delete(RUN, name)
        click.echo(f"{name} is deleted")


def _found(cluster: Cluster, name: str) -> Object:
    """Return the run. Raises CliError with the names of existing runs."""
    return naming.found(cluster, RUN, name, what="run", otherwise="kubectl flow run create makes one")
