"""`kubectl flow run`: a flow over data."""

import json
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from flowsession_cli import app, naming, pack, render
from flowsession_cli.cluster import ENVIRONMENT, RUN, Cluster, Object, manifest
from flowsession_cli.errors import CliError
from flowsession_protocol import limits

FINAL = ("Completed", "Failed", "Canceled")
_NAME = click.argument("name", shell_complete=app.complete(RUN))


@click.group("run")
def run_command() -> None:
    """Run a flow over data."""


@run_command.command("create")
@click.argument("target", default="", metavar="[DIR or ENVIRONMENT]", shell_complete=app.complete(ENVIRONMENT))
@click.option("-f", "--file", "run_yaml", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Prompt flow's run.yml.")
@click.option("--data", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="The data: .jsonl, .csv or .tsv.")
@click.option(
    "--column-mapping", multiple=True, metavar="INPUT=FROM", help="Where an input comes from: text='${data.question}'; may be repeated."
)
@click.option(
    "--run", "earlier", default="", metavar="NAME", help="An earlier run, for ${run.outputs.x}.", shell_complete=app.complete(RUN)
)
@click.option("--variant", default="", metavar="${NODE.VARIANT}", help="A node's variant to run.")
@click.option("--size", default="", metavar="VMSIZE", help="VM size of the session that it runs in.")
@click.option("--name", default="", help="Name of the run; else the environment's with a time.")
@click.option("--wait/--no-wait", default=True, help="Wait until it is over (the default), and exit with 1 if lines failed.")
@app.common
def create_command(cluster: Cluster, target: str, name: str, wait: bool, **options: Any) -> None:
    """Run a flow over data: that of a folder that was started, or of an environment.

    Data in the flow folder is taken from what was pushed by the last start, any other file goes along, up to 1 MB.

    \b
    kubectl flow run create --data questions.jsonl --column-mapping question='${data.question}'
    kubectl flow run create -f run.yml
    """
    folder = pack.flow_folder(Path(target or ".")) if naming.is_folder(target) else None
    environment = naming.of_folder(folder) if folder else target
    cluster.get(ENVIRONMENT, environment)
    name = naming.checked(name) if name else f"{environment[:34]}-{time.strftime('%Y%m%d-%H%M%S')}"
    spec, config_map = _spec(name, folder, **options)
    run = manifest("FlowRun", name, {"user": cluster.user(), "environmentRef": {"name": environment}, **spec})
    if config_map is not None:
        cluster.create(config_map)
    made = cluster.create(run)
    click.echo(f"run {name} of {environment}")
    if wait:
        _follow(cluster, made["metadata"]["name"])


def _spec(
    name: str,
    folder: Path | None,
    *,
    run_yaml: Path | None,
    data: Path | None,
    column_mapping: tuple[str, ...],
    earlier: str,
    variant: str,
    size: str,
) -> tuple[Object, Object | None]:
    """The run's spec without whose it is, and the ConfigMap with its data if that goes along."""
    if not (run_yaml or data or earlier):
        raise CliError("a run needs data: give --data FILE, --run NAME for an earlier run's outputs, or -f run.yml", code=2)
    spec: Object = {}
    config_map = None
    if run_yaml:
        spec["runYaml"] = run_yaml.read_text()
        if folder and (place := _inside(run_yaml, folder)):
            spec["path"] = place
    if data:
        spec["data"], config_map = _data(name, folder, data)
    if column_mapping:
        spec["columnMapping"] = dict(_mapped(text) for text in column_mapping)
    spec |= {key: value for key, value in (("run", earlier), ("variant", variant)) if value}
    if size:
        spec["resources"] = {"instanceType": size}
    return spec, config_map


def _data(name: str, folder: Path | None, data: Path) -> tuple[Object, Object | None]:
    if folder and (place := _inside(data, folder)) and place in pack.pack(folder).files:
        return {"path": place}, None
    text = data.read_bytes()
    if len(text) > limits.ARCHIVE_BYTES:
        raise CliError(
            f"{data} has {len(text) / 1e6:.1f} MB, and a ConfigMap holds 1 MB: keep it on a PersistentVolumeClaim and apply a FlowRun with"
            " data.persistentVolumeClaim (docs/runs.md)"
        )
    key, config_map = re.sub(r"[^-._a-zA-Z0-9]", "-", data.name), f"{name}-data"
    try:
        body = {"data": {key: text.decode()}}
    except UnicodeDecodeError:
        raise CliError(f"{data} is no UTF-8 text: data is .jsonl, .csv or .tsv") from None
    labels = {"app.kubernetes.io/managed-by": "kubectl-flow"}
    made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": config_map, "labels": labels}, **body}
    return {"configMap": {"name": config_map, "key": key}}, made


def _inside(path: Path, folder: Path) -> str:
    """The file's path in the flow folder; empty if it isn't there."""
    path = path.absolute()
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else ""


def _mapped(text: str) -> tuple[str, Any]:
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise CliError(f"--column-mapping {text} has no value: write INPUT='${{data.COLUMN}}'", code=2)
    return name, value


def _follow(cluster: Cluster, name: str) -> None:
    """Show how it goes on until it is over; exit with 1 if it failed."""
    last = ""
    try:
        for run in _changes(cluster, name):
            status = run.get("status", {})
            complete = render.condition(run, "Complete")
            text = f"{status.get('phase') or 'New'} {status.get('progress') or ''}".strip()
            if (line := f"{text}  {complete.get('message', '')}".strip()) != last:
                last = line
                click.echo(line)
            if status.get("phase") in FINAL:
                _tell_end(run)
                sys.exit(0 if status["phase"] == "Completed" else 1)
    except KeyboardInterrupt:
        message = f"detached: run {name} goes on without you; kubectl flow run show {name} shows it, kubectl flow run cancel {name} ends it"
        raise CliError(message, code=130) from None


def _changes(cluster: Cluster, name: str) -> Iterator[Object]:
    while True:
        with cluster.watch(RUN, name) as changes:
            for change in changes:
                if change["type"] == "DELETED":
                    raise CliError(f"run {name} was deleted")
                yield change["object"]
        time.sleep(0.5)


def _tell_end(run: Object) -> None:
    status = run.get("status", {})
    for problem in status.get("errors") or ():
        click.echo(f"line {problem.get('line', '-')}: {problem['message']}", err=True)
    for metric, value in (status.get("metrics") or {}).items():
        click.echo(f"{metric}: {value}")


@run_command.command("ls")
@click.option("-o", "--output", default="", metavar="json|yaml|name|wide|...", help="As kubectl get prints it.")
@app.common
def ls_command(cluster: Cluster, output: str) -> None:
    """List runs, the newest first."""
    if output:
        cluster.become("get", RUN, f"-o={output}")
    runs = sorted(cluster.objects(RUN), key=lambda run: str(run["metadata"]["creationTimestamp"]), reverse=True)
    if not runs:
        click.echo("no runs here: kubectl flow run create makes one", err=True)
        return
    heads = ("NAME", "PHASE", "LINES", "ENVIRONMENT", "SESSION", "DURATION", "AGE")
    render.table(render.console(), heads, [_row(run) for run in runs], phase="PHASE")


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


@run_command.command("show")
@_NAME
@click.option("-o", "--output", default="", metavar="json|yaml|name", help="The object, as kubectl get prints it.")
@app.common
def show_command(cluster: Cluster, name: str, output: str) -> None:
    """Show one run: state, lines, metrics, errors, where its outputs are."""
    if output:
        cluster.become("get", RUN, name, f"-o={output}")
    render.fields(render.console(), screen(cluster.get(RUN, name)))


def screen(run: Object) -> list[tuple[str, str]]:
    """What `show` shows, by name; empty values aren't shown."""
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
        *((f"line {problem.get('line', '-')}", problem["message"]) for problem in status.get("errors") or ()),
    ]


@run_command.command("cancel")
@_NAME
@app.common
def cancel_command(cluster: Cluster, name: str) -> None:
    """End a run. Lines that are done keep their outputs."""
    if (phase := cluster.get(RUN, name).get("status", {}).get("phase")) in FINAL:
        click.echo(f"{name} is over already: {phase}")
        return
    cluster.patch(RUN, name, {"spec": {"cancel": True}})
    click.echo(f"{name} is being canceled; lines that are done keep their outputs")
