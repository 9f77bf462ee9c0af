"""The console scripts `kubectl-flow` and `kubectl-flowsession`."""

import os
import sys

from flowsession_cli.errors import INTERRUPTED, CliError


def main() -> None:
    """Run the command line and exit: 0 for success, 1 with one sentence on standard error, 2 for wrong usage."""
    own = sys.argv[: sys.argv.index("--")] if "--" in sys.argv else sys.argv
    if debug := "--debug" in own:
        sys.argv.remove("--debug")
    os.environ.setdefault("GOGC", "400")  # kubectl, a Go program, starts in 43 ms in place of 52 if it collects garbage less often
    try:
        from flowsession_cli import app  # noqa: PLC0415 - a missing library is reported in a sentence
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except ModuleNotFoundError as error:
        sys.exit(f"kubectl flow: the library {error.name} is missing: install flowsession with its extra, as flowsession[cli]")
    try:
        code = (
            app.cli.main(sys.argv[1:] or ["--help"], prog_name=_name(), complete_var="_KUBECTL_FLOW_COMPLETE", standalone_mode=False) or 0
        )
    except Exception as error:
        if debug:
            raise
        code = _report(error)
    sys.exit(code if isinstance(code, int) else 0)


def _name() -> str:
    """Return the command as the user typed it: kubectl runs a plugin by the name of its file."""
    name = os.path.basename(sys.argv[0])  # noqa: PTH119 - pathlib costs more than the rest of this module
    name = name.removesuffix(".pyz")
    return name.replace("kubectl-", "kubectl ") if name.startswith("kubectl-") else "kubectl flow"


def _report(error: Exception) -> int:
    """Print the error as one sentence and return the exit code."""
    import click  # noqa: PLC0415

    if isinstance(error, CliError):
        print(f"kubectl flow: {error}", file=sys.stderr)
        return error.code
    if isinstance(error, click.ClickException):
        error.show()
        return error.exit_code
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    if isinstance(error, click.Abort):
        print("kubectl flow: interrupted", file=sys.stderr)
        return INTERRUPTED
    if isinstance(error, BrokenPipeError):  # kubectl flow ls | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    if isinstance(error, OSError) and error.strerror:  # a file that can't be read or written, a disk that is full
        sentence = ": ".join(str(part) for part in (error.filename, error.strerror) if part)
    else:
        sentence = f"an error of this program, {type(error).__name__}: {error}; --debug shows where, for a report of it"
    print(f"kubectl flow: {sentence}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    main()
