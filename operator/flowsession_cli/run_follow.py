"""Follow a run until it is over: a bar in a terminal, one line per event in a pipe."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from flowsession_cli import changes, render
from flowsession_cli.cluster import RUN, Cluster, Object
from flowsession_cli.errors import detaching
from flowsession_cli.run_files import FINAL

if TYPE_CHECKING:
    from rich.console import RenderableType

_BAR = 40
_PATIENCE_SECONDS = 10.0
"""Seconds after which a run that is still queued shows how to find out why."""

_COLUMNS_OF_COUNTS = 34


def until_over(cluster: Cluster, name: str) -> Object:
    """Return the run once it is over, and show its progress. ^C detaches. Raises CliError if it is gone."""
    ways = {"shows": f"kubectl flow run stream {name}", "ends": f"kubectl flow run cancel {name} cancels it"}
    with detaching(name, **ways), _shown(name) as show:
        for run in changes.of(cluster, RUN, name, noun="run", deleted=", and its outputs in ConfigMaps with it"):
            show(run)
            if run.get("status", {}).get("phase") in FINAL:
                return run
    raise AssertionError("changes don't end")


def print_result(run: Object) -> None:
    """Print the run's result: warnings and failed lines on standard error, metrics and how to see more on standard output."""
    status, name = run["status"], run["metadata"]["name"]
    for warning in status.get("warnings") or ():
        print(f"warning: {warning}", file=sys.stderr)
    errors = status.get("errors") or ()
    for problem in errors:
        print(f"{place(problem)}: {problem['message']}", file=sys.stderr)
    if (failed := (status.get("lines") or {}).get("failed", 0)) > len(errors):
        print(f"{failed - len(errors)} more lines failed", file=sys.stderr)
    for metric, value in (status.get("metrics") or {}).items():
        print(f"{metric}: {value}")
    lines = status.get("lines") or {}
    if status.get("outputs"):
        if lines.get("completed") or lines.get("failed"):
            print(f"kubectl flow run details {name}   shows its lines")
        else:
            print(f"kubectl flow run logs {name}      shows its log")
        print(f"kubectl flow run download {name}  brings its files here")
    elif status["phase"] == "Failed":
        print(f"kubectl flow run logs {name} shows its log", file=sys.stderr)


def place(problem: Object) -> str:
    """Return the line or node that failed."""
    line = f"line {problem['line']}" if "line" in problem else ""
    node = f"node {problem['node']}" if problem.get("node") else ""
    return ", ".join(part for part in (line, node) if part) or "the run"


@contextmanager
def _shown(name: str) -> Iterator[Callable[[Object], None]]:
    if not render.is_terminal(sys.stdout):
        yield Lines().show
        return
    from rich.live import Live  # noqa: PLC0415

    picture = RunPicture(name)
    with Live(picture, console=render.console(), refresh_per_second=10):
        yield picture.take


class Lines:
    """A run as lines with elapsed seconds, each change once."""

    def __init__(self) -> None:
        self._began = time.time()
        self._last = ""

    def show(self, run: Object) -> None:
        """Print what is new."""
        if (text := state(run)) != self._last:
            self._last = text
            print(f"{time.time() - self._began:6.1f} s  {text}", flush=True)


def state(run: Object) -> str:
    """Return phase, counts and the operator's message on one line."""
    status = run.get("status", {})
    message = render.condition(run, "Complete").get("message", "")
    counts = " ".join(part for part in (status.get("phase") or "New", status.get("progress")) if part)
    return f"{counts}: {message}" if message else counts


class RunPicture:
    """A run in progress: phase, bar, counts, seconds and the operator's message."""

    def __init__(self, name: str) -> None:
        from rich.spinner import Spinner  # noqa: PLC0415

        self.name = name
        self.run: Object = {}
        self.began = time.time()
        self._spinner = Spinner("dots")

    def take(self, run: Object) -> None:
        """Show this state from now on."""
        self.run = run

    def __rich__(self) -> "RenderableType":
        return self.at(time.time(), render.console().width)

    def at(self, now: float, width: int) -> "RenderableType":
        """Return the picture at that time."""
        from rich.console import Group  # noqa: PLC0415
        from rich.padding import Padding  # noqa: PLC0415
        from rich.progress_bar import ProgressBar  # noqa: PLC0415
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        status = self.run.get("status", {})
        phase = status.get("phase") or "New"
        lines = status.get("lines") or {}
        total, done = lines.get("total", 0), lines.get("completed", 0) + lines.get("failed", 0)
        over = {"Completed": Text("✓", "green"), "Failed": Text("✗", "red"), "Canceled": Text("✗", "yellow")}.get(phase)
        cells: list[RenderableType] = [over or self._spinner, Text(phase, render.STYLES.get(phase, ""))]
        if total and (room := min(_BAR, width - _COLUMNS_OF_COUNTS)) > 4:
            cells.append(ProgressBar(total=total, completed=done, width=room, complete_style="red" if lines.get("failed") else "green"))
        counts = f"{done}/{total}" if total else ""
        failed = f"{lines['failed']} failed" if lines.get("failed") else ""
        cells.append(Text.assemble(counts, ", " if failed else "", (failed, "red")))
        cells.append(Text(render.span(_seconds(status, self.began, now)), "dim"))
        row = Table(box=None, pad_edge=False, show_header=False, padding=(0, 1, 0, 0))
        for _ in cells:
            row.add_column(no_wrap=True)
        row.add_row(*cells)
        message = render.condition(self.run, "Complete").get("message", "")
        if phase == "Queued" and now - self.began > _PATIENCE_SECONDS:
            message = f"{message}\nkubectl flow why run/{self.name} says more"
        return Group(row, Padding(Text(message), (0, 0, 0, 2), expand=False)) if message else row


def _seconds(status: Object, began: float, now: float) -> float:
    """Return the seconds since the run started, or since it has been watched if it hasn't. For a finished run, return its duration."""
    start = render.seconds_of(status["startedAt"]) if status.get("startedAt") else began
    end = render.seconds_of(status["completedAt"]) if status.get("completedAt") else now
    return max(0.0, end - start)
