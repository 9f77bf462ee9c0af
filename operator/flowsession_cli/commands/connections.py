"""`kubectl flow connection`: keys and addresses of models, stored as Secrets."""

import json
import sys
from pathlib import Path

import click

from flowsession_cli import app, connections, naming, owners, render
from flowsession_cli.asking import ask
from flowsession_cli.cluster import ENVIRONMENT, Cluster, Object
from flowsession_cli.errors import CliError

_NAME = click.argument("name", shell_complete=app.complete(connections.SECRET, f"-l={connections.LABEL}=true"))
_RESTART = "sessions that run take it up by kubectl flow reset"


@click.group("connection", cls=app.NearestGroup)
def connection_command() -> None:
    """Keys and addresses of models, as Secrets that sessions find by name."""


@connection_command.command("create")
@click.option(
    "-f", "--file", "path", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=True, help="Prompt flow's file."
)
@click.option("--name", default="", help="Its name, in place of the file's; the Secret is called alike.")
@click.option("--environment", "target", default="", metavar="NAME or DIR", help="Let this environment use it by its name.")
@click.option("--stdin", "from_stdin", is_flag=True, help="Read the one value that is missing from standard input.")
@app.yes
@app.common
def create_command(cluster: Cluster, path: Path, name: str, target: str, from_stdin: bool, yes: bool) -> None:
    """Make a connection of prompt flow's own file.

    A secret that the file leaves out, or for which it has <user-input>, is asked for and not shown. Values never stand in a command line.

    \b
    kubectl flow connection create -f connection.yaml --environment chat
    """
    found = connections.read(path)
    name = name or str(found.get("name") or "")
    if not name:
        raise CliError(f"{path} has no name: give one by --name, as the flow says it", code=2)
    secret = connections.secret_name(name)
    environment = naming.environment(cluster, target)[0] if target else None
    there = cluster.find(connections.SECRET, secret)
    if there is not None and not connections.is_connection(there):
        raise CliError(f"there is a Secret {secret} already, and it is no connection: give this one another --name")
    if there is not None:
        ask(f"There is a connection {secret} already{_used(cluster, secret)}. Replace it?", yes=yes)
    if environment is not None:
        _agree(cluster, environment, yes=yes)
    fields, left_out = connections.completed(str(path), found, _reader(from_stdin))
    for field in left_out:
        click.echo(f"left out: {field}, which type {fields['type']} has not", err=True)
    body = json.dumps(connections.manifest(secret, fields))
    cluster.call("replace" if there else "create", "-f", "-", "-o", "name", stdin=body)
    click.echo(f"connection {name}, type {fields['type']}, in Secret {secret}" + (": in use within two minutes" if there else ""))
    if environment is not None:
        _use(cluster, environment, name, secret)
    elif not there:
        click.echo(f"an environment uses it by spec.connections: [{{name: {name}, secretName: {secret}}}], or by --environment here")


def _reader(from_stdin: bool) -> connections.Ask:
    """Return a function that asks for a value: at a prompt, or once from standard input."""
    read: list[str] = []

    def value(field: str, secret: bool) -> str:
        if from_stdin:
            if read:
                raise CliError(f"{field} is missing as well, and --stdin gives one value: write what is no secret into the file", code=2)
            read.append(sys.stdin.read().rstrip("\r\n"))
            if not read[0]:
                raise CliError(f"standard input has no {field}", code=2)
            return read[0]
        if not sys.stdin.isatty():
            way = "pipe it in with --stdin" if secret else "write it into the file"
            raise CliError(f"{field} is missing, and nobody is here to ask: {way}", code=2)
        return str(click.prompt(field, hide_input=secret, err=True))

    return value


def _agree(cluster: Cluster, environment: Object, *, yes: bool) -> None:
    """Raise CliError or click.Abort unless the user agrees to change somebody else's environment."""
    if owner := owners.other(environment, cluster.user):
        ask(f"The environment {environment['metadata']['name']} belongs to {owner}. Change its connections?", yes=yes)


def _use(cluster: Cluster, environment: Object, name: str, secret: str) -> None:
    of = environment["metadata"]["name"]
    before = environment["spec"].get("connections") or []
    entry = {"name": name, "secretName": secret}
    if entry in before:
        return
    after = [*(other for other in before if other["name"] != name), entry]
    cluster.patch(ENVIRONMENT, of, {"spec": {"connections": after}})
    click.echo(f"environment {of} has it as {name}; {_RESTART}")


@connection_command.command("ls")
@app.common
def ls_command(cluster: Cluster) -> None:
    """List connections, and which environments use them."""
    found = connections.every(cluster)
    environments = cluster.objects(ENVIRONMENT)
    unlabelled = connections.unlabelled(cluster, environments, found)
    if not found and not unlabelled:
        cluster.refuse_missing_namespace()
        click.echo("no connections here: kubectl flow connection create -f connection.yaml makes one", err=True)
        return
    rows = [
        (
            secret["metadata"]["name"],
            connections.kind_shown(secret),
            ", ".join(of for of, _ in connections.users(cluster, secret["metadata"]["name"], environments)) or "-",
            render.age(secret["metadata"]["creationTimestamp"]),
        )
        for secret in found
    ]
    if rows:
        render.table(render.console(), ("NAME", "TYPE", "USED BY", "AGE"), rows)
    for name, of in unlabelled:
        click.echo(f"environment {of} uses Secret {name} too, which is not listed: {connections.how_to_label(name)}", err=True)


@connection_command.command("show")
@_NAME
@app.common
def show_command(cluster: Cluster, name: str) -> None:
    """Show a connection's fields and who uses it; secrets are hidden."""
    secret = connections.find(cluster, name)
    uses = [f"{of} as {known}" for of, known in connections.users(cluster, secret["metadata"]["name"])]
    rows = [("Secret", secret["metadata"]["name"]), *connections.shown(secret), ("used by", ", ".join(uses) or "no environment")]
    render.fields(render.console(), rows)


@connection_command.command("rm")
@_NAME
@app.yes
@app.common
def rm_command(cluster: Cluster, name: str, yes: bool) -> None:
    """Delete a connection's Secret. Who uses it is told first."""
    secret = connections.find(cluster, name)["metadata"]["name"]
    ask(f"Delete the connection {secret}{_used(cluster, secret)}?", yes=yes)
    cluster.delete(connections.SECRET, secret)
    click.echo(f"connection {secret} is deleted")


def _used(cluster: Cluster, secret: str) -> str:
    uses = [of for of, _ in connections.users(cluster, secret)]
    if not uses:
        return ""
    several = len(uses) > 1
    return f", which the environment{'s' if several else ''} {', '.join(uses)} use{'' if several else 's'}"
