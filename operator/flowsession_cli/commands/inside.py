"""Commands in a session, by kubectl exec: `test`, `chat`, `check`, `sh` and `exec`."""

import sys
from pathlib import Path

import click

from flowsession_cli import app, naming, options
from flowsession_cli.cluster import SESSION, Cluster
from flowsession_cli.errors import CliError

_TARGET = click.argument("target", default="", metavar="[NAME or DIR]", shell_complete=app.complete(SESSION))


@click.command("test", cls=options.ManyValues)
@_TARGET
@click.option(
    "--inputs", multiple=True, metavar="NAME=VALUE", help="An input of the flow; may be repeated. Others have the flow's defaults."
)
@click.option("--inputs-file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A JSON file with inputs, by name.")
@click.option("--node", default="", help="Run this node alone; the inputs are the node's.")
@click.option("--variant", default="", metavar="NODE.VARIANT", help="Run with this variant of a node.")
@click.option("--traceback", is_flag=True, help="When the flow fails, show all that it wrote.")
@app.common
def test_command(
    cluster: Cluster, target: str, inputs: tuple[str, ...], inputs_file: Path | None, node: str, variant: str, traceback: bool
) -> None:
    """Run the flow once and print its outputs as JSON.

    In the session of that name, or of that flow folder; without an argument of the folder that you are in. A suspended session is resumed.

    \b
    kubectl flow test --inputs question="What is a session?"
    """
    values = _checked([*_of_file(inputs_file), *inputs])
    chosen = [*(["--node", node] if node else []), *(["--variant", variant] if variant else [])]
    words = ["flow", "test", *(["--inputs", *values] if values else []), *chosen, *(["--traceback"] if traceback else [])]
    _execute(cluster, target, words, interactive=False)


def _checked(values: list[str]) -> list[str]:
    if bad := next((value for value in values if "=" not in value), ""):
        raise CliError(f"--inputs {bad} has no value: write NAME=VALUE", code=2)
    return values


def _of_file(path: Path | None) -> list[str]:
    """Return the inputs of a JSON file as NAME=VALUE. A value that isn't text is written as JSON."""
    if path is None:
        return []
    import json  # noqa: PLC0415

    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise CliError(f"{path} is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise CliError(f"{path} holds no mapping: write {{'NAME': VALUE}}, as prompt flow has it")
    return [f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in found.items()]


@click.command("chat", cls=options.ManyValues)
@_TARGET
@click.option("--inputs", multiple=True, metavar="NAME=VALUE", help="One of the flow's other inputs; may be repeated.")
@click.option("--variant", default="", metavar="NODE.VARIANT", help="Chat with this variant of a node.")
@app.common
def chat_command(cluster: Cluster, target: str, inputs: tuple[str, ...], variant: str) -> None:
    """Talk to a chat flow, which is given the history.

    ^C cancels an answer, ^D ends the chat. Without a terminal each line of standard input is a message.

    \b
    kubectl flow chat
    """
    values = _checked(list(inputs))
    words = ["flow", "chat", *(["--inputs", *values] if values else []), *(["--variant", variant] if variant else [])]
    _execute(cluster, target, words, interactive=True)


@click.command("check")
@_TARGET
@click.option("-o", "--output", default="", metavar="json", help="What was found, as JSON.")
@app.common
def check_command(cluster: Cluster, target: str, output: str) -> None:
    """Say what is wrong with the flow as it is in the session, edits included, without running it.

    Each problem has its file, line and way out. Exits with 1 when there is one.
    """
    if output not in ("", "json"):
        raise CliError(f"-o {output} is nothing that check prints: leave it away, or give json", code=2)
    _execute(cluster, target, ["flow", "check", *(["--json"] if output else [])], interactive=False)


@click.command("sh")
@_TARGET
@app.common
def sh_command(cluster: Cluster, target: str) -> None:
    """Open a terminal in a session, in its flow folder. While it lives, the session does."""
    _execute(cluster, target, ["sh", "-c", "exec $(command -v bash || command -v sh)"], interactive=True)


@click.command("exec")
@click.argument("target", metavar="NAME", shell_complete=app.complete(SESSION))
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@app.common
def exec_command(cluster: Cluster, target: str, command: tuple[str, ...]) -> None:
    """Run a command in a session; its exit status is this one's.

    \b
    kubectl flow exec NAME -- python train.py
    """
    _execute(cluster, target, list(command), interactive=True)


def _execute(cluster: Cluster, target: str, command: list[str], *, interactive: bool) -> None:
    session = naming.usable(cluster, target)
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    # With its own terminal the command gets ^C. Without one its output stays unchanged, for pipes.
    sys.stdout.flush()
    cluster.execute(session["status"]["podName"], command, stdin=interactive or terminal, tty=terminal)
