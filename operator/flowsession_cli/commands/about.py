"""Versions, and shell completion."""

import sys

import click

from flowsession import __version__
from flowsession.api import API_VERSION, GROUP
from flowsession_cli import app
from flowsession_cli.cluster import Cluster
from flowsession_cli.errors import CliError


@click.command("version")
@app.common
def version_command(cluster: Cluster) -> None:
    """Print the versions of this program and of the API that the cluster serves."""
    click.echo(f"kubectl flow {__version__}, for {API_VERSION}")
    served = [line.split("/")[1] for line in cluster.call("api-versions").split() if line.startswith(f"{GROUP}/")]
    if not served:
        raise CliError("the cluster has no flowsession: install its chart, or choose another cluster with --context")
    click.echo(f"the cluster serves {', '.join(f'{GROUP}/{version}' for version in served)}")


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion_command(shell: str) -> None:
    """Print what makes a shell complete the commands of `kubectl-flow`, and names live from the cluster.

    \b
    bash: source <(kubectl-flow completion bash)
    zsh:  source <(kubectl-flow completion zsh)
    fish: kubectl-flow completion fish | source
    """
    from click.shell_completion import get_completion_class  # noqa: PLC0415

    found = get_completion_class(shell)
    if found is None:
        raise CliError(f"no completion for {shell}", code=2)
    sys.stdout.write(found(app.cli, {}, "kubectl-flow", "_KUBECTL_FLOW_COMPLETE").source() + "\n")
