"""The command line: the list of commands and the options common to all. A command's module is imported only when it runs."""

import importlib
import shutil
from collections.abc import Callable, Iterable
from typing import Any

import click

_ABOUT = {
    "start": ("start", "Start a flow folder, or an environment, in the cluster."),
    "ls": ("sessions", "List sessions."),
    "status": ("sessions", "Show one session on one screen."),
    "why": ("why", "Say why it isn't running, or was ended, and what to do."),
    "test": ("inside", "Run the flow once and print its outputs."),
    "chat": ("inside", "Talk to a chat flow, which is given the history."),
    "check": ("inside", "Say what is wrong with the flow as it is in the session."),
    "sh": ("inside", "Open a terminal in a session."),
    "exec": ("inside", "Run a command in a session."),
    "edits": ("edits", "Bring home what was edited inside a session: ls, diff, pull, restore, discard."),
    "cp": ("files", "Copy files and folders to a session and from it."),
    "open": ("ports", "Open a port of a session in the browser."),
    "packages": ("packages", "List the installed packages by layer, or how they differ from another session's."),
    "install": ("packages", "Install what the requirements ask for now, or only save them."),
    "set": ("settings", "Change a session's size, idle end, identity or instance."),
    "run": ("runs", "Run a flow over data: create, stream, ls, show, details, metrics, logs, cancel, download, rm."),
    "env": ("environments", "Environments: ls, show, update, check-version, refresh."),
    "size": ("computes", "List VM sizes with price, nodes and free quota: ls."),
    "instance": ("computes", "Machines of one's own: create, ls, start, stop."),
    "top": ("top", "Show what runs and what it costs, by user."),
    "suspend": ("sessions", "Release a session's compute; the object and its settings stay."),
    "resume": ("sessions", "Start a suspended session."),
    "reset": ("sessions", "Restart a session with its environment's present image and packages."),
    "keep-alive": ("sessions", "Put the idle end off by one full timeout."),
    "stop": ("sessions", "Delete a session."),
    "connection": ("connections", "Keys and addresses of models: create, ls, show, rm."),
    "doctor": ("doctor", "Say what of cluster, operator, rights and images is as it shall be."),
    "version": ("about", "Print the versions of program and API."),
    "completion": ("about", "Print what makes a shell complete commands and names."),
}
"""For each command, its module in `commands` and its line in the list of commands."""


_NARROW = 52
"""Width of a terminal, in columns, below which click would write lines wider than the terminal."""


class _Help(click.HelpFormatter):
    """Help formatter that also fits terminals of 40 columns without breaking words."""

    def __init__(self, indent_increment: int = 2, width: int | None = None, max_width: int | None = None) -> None:
        columns = shutil.get_terminal_size().columns
        super().__init__(indent_increment, width or (max(columns - 2, 20) if columns < _NARROW else None), max_width)

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """Write names and descriptions in two columns, with a narrower first column in a narrow terminal."""
        super().write_dl(rows, min(col_max, max(self.width // 3, 4)) if self.width < _NARROW else col_max, col_spacing)


class _Context(click.Context):
    formatter_class = _Help


class NearestGroup(click.Group):
    """Command group that suggests the nearest name for a mistyped command."""

    context_class = _Context

    def known(self) -> list[str]:
        """Return the names that its commands are known by."""
        return list(self.commands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command, or None if no command has that name."""
        if command := self._command(ctx, cmd_name):
            command.context_class = _Context
        return command

    def _command(self, ctx: click.Context, name: str) -> click.Command | None:
        return super().get_command(ctx, name)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Resolve the command. Fail with the nearest known name if it is mistyped."""
        import difflib  # noqa: PLC0415

        known = self.known()
        if args and args[0] not in known and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], known, n=1)
            within = f"{self.name} " if ctx.parent else ""
            ctx.fail(f"there is no command {within}{args[0]!r}{f': did you mean {near[0]}?' if near else ''}")
        return super().resolve_command(ctx, args)


class LazyGroup(NearestGroup):
    """Command group that imports only the module of the command that runs, so `--help` and completion stay fast."""

    def known(self) -> list[str]:
        """Return the names of all commands."""
        return list(_ABOUT)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
        """Return the names of the commands in the order of use."""
        return list(_ABOUT)

    def _command(self, ctx: click.Context, name: str) -> click.Command | None:  # noqa: ARG002 - as its base has it
        if name not in _ABOUT:
            return None
        module = importlib.import_module(f"flowsession_cli.commands.{_ABOUT[name][0]}")
        command: click.Command = getattr(module, f"{name.replace('-', '_')}_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        """Write the list of commands without importing their modules."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _ABOUT.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Run prompt flow's folders in a Kubernetes cluster.

    \b
    kubectl flow start        starts the flow in this folder
    kubectl flow test         runs it once
    kubectl flow why NAME     says what is wrong, where, and what to do

    It uses your kubeconfig and your rights. `--debug` with any command shows where an error came from.
    """


def common(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `-n`, `--context` and `--kubeconfig`, which the command receives as its argument `cluster`."""

    @click.option("-n", "--namespace", default="", metavar="NAMESPACE", help="The namespace, instead of the kubeconfig's.")
    @click.option("--context", default="", metavar="CONTEXT", help="The kubeconfig's context to use.")
    @click.option("--kubeconfig", default="", metavar="FILE", help="The kubeconfig, instead of KUBECONFIG or ~/.kube/config.")
    def with_cluster(namespace: str, context: str, kubeconfig: str, **arguments: Any) -> Any:
        from flowsession_cli.cluster import Cluster  # noqa: PLC0415 - not for --help

        return command(cluster=Cluster(namespace=namespace, context=context, kubeconfig=kubeconfig), **arguments)

    return around(command, with_cluster)


def around(command: Callable[..., Any], wrapper: Callable[..., Any]) -> Callable[..., Any]:
    """Return the wrapper with the command's name and docstring, and the options of both."""
    wrapper.__doc__, wrapper.__name__ = command.__doc__, command.__name__
    options = [*getattr(wrapper, "__click_params__", []), *getattr(command, "__click_params__", [])]
    wrapper.__click_params__ = options  # type: ignore[attr-defined] # where click keeps them
    return wrapper


def complete(kind: str, *options: str) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """Return a completion callback for names of that kind, read live from the cluster. It offers none if the cluster doesn't answer."""

    def names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001 - click's
        from flowsession_cli.cluster import Cluster  # noqa: PLC0415

        given = {name: ctx.params.get(name) or "" for name in ("namespace", "context", "kubeconfig")}
        return [name for name in Cluster(**given).names(kind, *options) if name.startswith(incomplete)]

    return names


def yes(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--yes`."""
    return click.option("-y", "--yes", is_flag=True, help="Don't ask.")(command)
