"""`kubectl flow run create`: make a FlowRun from the options of `pf run create`."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from flowsession_cli import app, naming, options, pack, pushed, run_follow
from flowsession_cli.cluster import ENVIRONMENT, INSTANCE, RUN, SESSION, SIZE, Cluster, Object, manifest
from flowsession_cli.errors import CliError
from flowsession_protocol import limits

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_PAIRS = "INPUT=FROM"
_SET = {"display_name": "displayName", "description": "description"}


@click.command("create", cls=options.ManyValues)
@click.argument("target", default="", metavar="[DIR or ENVIRONMENT]", shell_complete=app.complete(ENVIRONMENT))
@click.option("--flow", "flow", default="", metavar="DIR", help="The flow folder, as pf run create has it: the same as DIR.")
@click.option("-f", "--file", "run_yaml", type=_FILE, help="Prompt flow's run.yml.")
@click.option("--data", type=_FILE, help="The data: .jsonl, .csv or .tsv.")
@click.option("--column-mapping", multiple=True, metavar=_PAIRS, help="Where inputs come from: text='${data.question}' other='constant'.")
@click.option(
    "--run", "earlier", default="", metavar="NAME", help="An earlier run, for ${run.outputs.x}.", shell_complete=app.complete(RUN)
)
@click.option("--resume-from", default="", metavar="NAME", help="An earlier run, to run its other lines.", shell_complete=app.complete(RUN))
@click.option("--variant", default="", metavar="${NODE.VARIANT}", help="A node's variant to run.")
@click.option("--connections", multiple=True, metavar="NODE.FIELD=VALUE", help="Connections and inputs of them, in place of a node's own.")
@click.option(
    "--environment-variables",
    multiple=True,
    metavar="NAME=VALUE",
    help="Environment variables for the flow, or a file that ends with .env.",
)
@click.option("--init", multiple=True, metavar="NAME=VALUE", help="Arguments for the class of a flex flow, or a JSON file with them.")
@click.option("--set", "members", multiple=True, metavar="KEY=VALUE", help="display_name, description or tags.NAME.")
@click.option("--name", default="", help="Name of the run; else the environment's with a time.")
@click.option("--session", default="", metavar="NAME", help="The session to run in.", shell_complete=app.complete(SESSION))
@click.option("--size", default="", metavar="VMSIZE", shell_complete=app.complete(SIZE), help="VM size of the session that it runs in.")
@click.option(
    "--instance", default="", metavar="NAME", shell_complete=app.complete(INSTANCE), help="The compute instance of yours to run on."
)
@click.option("--identity", default="", metavar="SERVICEACCOUNT", help="The ServiceAccount that its session acts as.")
@click.option(
    "--concurrency", type=click.IntRange(1, 1000), metavar="N", help="Lines at a time; else as many as the session has processors."
)
@click.option("--line-timeout", default="", metavar="10m", help="Time after which a line fails.")
@click.option("--timeout", default="", metavar="1h", help="Time after which the run is ended.")
@click.option("--outputs-claim", default="", metavar="CLAIM[/FOLDER]", help="The PersistentVolumeClaim that keeps outputs of any size.")
@click.option("--wait/--no-wait", "-s", "--stream", "wait", default=True, help="Show it until it is over (the default); 1 if it failed.")
@app.common
def create_command(cluster: Cluster, target: str, flow: str, name: str, wait: bool, **given: Any) -> None:
    """Run a flow over data.

    The flow is that of a folder that was started, or of an environment. Options are those of pf run create. Data in the flow folder is
    taken from what was pushed by the last start; a file that is new or changed since, or lies elsewhere, goes along, up to 1 MB. With
    --resume-from only the lines that have no outputs are run, with the settings of that run.

    \b
    kubectl flow run create --data questions.jsonl --column-mapping question='${data.question}'
    kubectl flow run create -f run.yml
    kubectl flow run create --resume-from answers
    """
    wanted = Wanted(**given)
    if not (wanted.run_yaml or wanted.data or wanted.earlier or wanted.resume_from):
        raise CliError("a run needs data: give --data FILE, --run NAME for an earlier run's outputs, or -f run.yml", code=2)
    settings = _settings(wanted.run_yaml)
    target = target or flow or _flow_of(wanted.run_yaml, settings)
    environment, folder = _environment(cluster, target, wanted.resume_from)
    name = _name(name or str(settings.get("name") or ""), environment)
    spec, config_map = wanted.spec(name, folder, settings, _pushed(cluster, environment) if folder else None)
    run = manifest("FlowRun", name, {"user": cluster.user(), "environmentRef": {"name": environment}, **spec})
    if wanted.display:
        run["spec"] |= wanted.display
    _create(cluster, run, config_map)
    click.echo(f"run {name} of {environment}")
    if wait:
        found = run_follow.until_over(cluster, name)
        run_follow.print_result(found)
        click.get_current_context().exit(0 if found["status"]["phase"] == "Completed" else 1)


def _create(cluster: Cluster, run: Object, config_map: Object | None) -> None:
    """Create the run and the ConfigMap with its data, which is deleted with the run."""
    if config_map is None:
        cluster.create(run)
        return
    cluster.create(config_map)
    place = config_map["metadata"]["name"]
    try:
        made = cluster.create(run)
    except CliError:
        cluster.delete("configmap", place)
        raise
    owner = {"apiVersion": made["apiVersion"], "kind": "FlowRun", "name": made["metadata"]["name"], "uid": made["metadata"]["uid"]}
    try:
        cluster.patch("configmap", place, {"metadata": {"ownerReferences": [owner]}})
    except CliError as error:
        click.echo(f"ConfigMap {place} with the data stays when the run is deleted: {error}", err=True)


def _environment(cluster: Cluster, target: str, resume_from: str) -> tuple[str, Path | None]:
    """Return the environment's name, and the local folder that it was started from, if there is one."""
    if resume_from and not target:
        return str(cluster.get(RUN, resume_from)["spec"]["environmentRef"]["name"]), None
    environment, folder = naming.environment(cluster, target)
    return str(environment["metadata"]["name"]), folder


def _pushed(cluster: Cluster, environment: str) -> Mapping[str, str] | None:
    """Return the SHA-256 of the files that `kubectl flow start` pushed last, or None for an environment that it didn't make."""
    return pack.unpacked(pushed.found(cluster, environment)) or None


def _name(given: str, environment: str) -> str:
    if not given:
        return f"{environment[:34]}-{time.strftime('%Y%m%d-%H%M%S')}"
    return naming.checked(given, "run")


def _settings(run_yaml: Path | None) -> Object:
    """Return the content of run.yml, or {} if it is invalid, which the operator reports."""
    if run_yaml is None:
        return {}
    import yaml  # noqa: PLC0415 - only for run.yml

    try:
        found = yaml.safe_load(run_yaml.read_bytes())
    except (yaml.YAMLError, UnicodeDecodeError):
        return {}
    return found if isinstance(found, dict) else {}


def _flow_of(run_yaml: Path | None, settings: Object) -> str:
    """Return the flow folder that run.yml names, or an empty string if that isn't local."""
    flow = settings.get("flow")
    if run_yaml is None or not isinstance(flow, str) or "://" in flow:
        return ""
    place = run_yaml.parent / flow
    if place.is_file():
        place = place.parent
    return str(place.resolve()) if place.is_dir() else ""


@dataclass(frozen=True)
class Wanted:
    """What the options ask for."""

    run_yaml: Path | None = None
    data: Path | None = None
    column_mapping: tuple[str, ...] = ()
    earlier: str = ""
    resume_from: str = ""
    variant: str = ""
    connections: tuple[str, ...] = ()
    environment_variables: tuple[str, ...] = ()
    init: tuple[str, ...] = ()
    members: tuple[str, ...] = ()
    session: str = ""
    size: str = ""
    instance: str = ""
    identity: str = ""
    concurrency: int | None = None
    line_timeout: str = ""
    timeout: str = ""
    outputs_claim: str = ""

    def spec(
        self, name: str, folder: Path | None, settings: Object, pushed: Mapping[str, str] | None = None
    ) -> tuple[Object, Object | None]:
        """Return the run's spec without user and environment, and the ConfigMap with its data if that is uploaded.

        `pushed`: the SHA-256 of the files that the last start pushed, if known. A file that is new or changed since is uploaded.
        """
        spec: Object = {}
        data, config_map = self.data, None
        packed = pack.pack(folder) if folder and (data or self.run_yaml) else None
        if packed and pushed is not None:
            packed = replace(packed, files={path: digest for path, digest in packed.files.items() if pushed.get(path) == digest})
        if self.run_yaml:
            spec["runYaml"] = self.run_yaml.read_text()
            if packed and (place := _inside(self.run_yaml, packed.root)):
                spec["path"] = place
            data = data or _data_elsewhere(self.run_yaml, settings, packed)
        if data:
            spec["data"], config_map = data_of(name, folder, packed, data)
        for key, value in self._members().items():
            if value:
                spec[key] = value
        return spec, config_map

    def _members(self) -> Object:
        claim, _, path = self.outputs_claim.partition("/")
        lines = {"concurrency": self.concurrency, "timeoutSeconds": seconds("--line-timeout", self.line_timeout)}
        return {
            "columnMapping": options.pairs("--column-mapping", self.column_mapping),
            "run": self.earlier,
            "resumeFrom": self.resume_from,
            "variant": self.variant and (self.variant if self.variant.startswith("${") else f"${{{self.variant}}}"),
            "connections": options.nested("--connections", self.connections),
            "environmentVariables": options.environment("--environment-variables", self.environment_variables),
            "init": arguments(self.init),
            "sessionRef": {"name": self.session} if self.session else {},
            "resources": {key: value for key, value in (("instanceType", self.size), ("compute", self.instance)) if value},
            "identity": {"type": "Managed", "serviceAccountName": self.identity} if self.identity else {},
            "lines": {key: value for key, value in lines.items() if value},
            "timeoutSeconds": seconds("--timeout", self.timeout),
            "outputs": {"persistentVolumeClaim": {"claimName": claim, **({"path": path} if path else {})}} if claim else {},
        }

    @property
    def display(self) -> Object:
        """What `--set` says of the run."""
        found: Object = {}
        for key, value in options.pairs("--set", self.members).items():
            if key.startswith("tags.") and key != "tags.":
                found.setdefault("tags", {})[key.removeprefix("tags.")] = value
            elif key in _SET:
                found[_SET[key]] = value
            else:
                raise CliError(f"--set {key} can't be set: display_name, description and tags.NAME can", code=2)
        return found


def data_of(name: str, folder: Path | None, packed: pack.Packed | None, data: Path) -> tuple[Object, Object | None]:
    """Return `spec.data`, and a ConfigMap with the data if the session doesn't have it."""
    if folder and packed and (place := _inside(data, folder)) and _inside(data, packed.root) in packed.files:
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


def _data_elsewhere(run_yaml: Path, settings: Object, packed: pack.Packed | None) -> Path | None:
    """Return the file that run.yml names as data, if it is local and was not pushed."""
    data = settings.get("data")
    if not isinstance(data, str) or "://" in data or data.startswith("azureml:"):
        return None
    path = (run_yaml.parent / data).resolve()
    pushed = packed is not None and _inside(path, packed.root) in packed.files
    return path if path.is_file() and not pushed else None


def _inside(path: Path, folder: Path) -> str:
    """Return the file's path in the folder, or an empty string if it isn't there."""
    path, folder = path.resolve(), folder.resolve()
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else ""


def arguments(values: tuple[str, ...]) -> Object:
    """Return the arguments of `--init`: NAME=VALUE, or a JSON file with a mapping."""
    if len(values) == 1 and "=" not in values[0]:
        import json  # noqa: PLC0415

        try:
            found = json.loads(Path(values[0]).read_text())
        except OSError as error:
            raise CliError(f"--init {values[0]}: {error.strerror}; write NAME=VALUE, or the name of a JSON file", code=2) from None
        except ValueError as error:
            raise CliError(f"--init {values[0]} is no JSON: {error}", code=2) from None
        if not isinstance(found, dict):
            raise CliError(f"--init {values[0]} holds no mapping: write {{'NAME': VALUE}}", code=2)
        return found
    return dict(options.pairs("--init", values))


def seconds(option: str, text: str) -> int:
    """Return the seconds of a typed time: 90s, 30m, 1h30m. A number alone is seconds, an empty text 0."""
    if not text:
        return 0
    if (found := options.seconds(f"{text}s" if text.isdecimal() else text)) is None:
        raise CliError(f"{option} {text} is no time: write 90s, 30m or 1h30m", code=2)
    return found
