"""What is printed: color and a live picture in a terminal, plain lines, one per event, in a pipe."""

import os
import sys
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO

from flowsession_cli.cluster import Object

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_WIDE = 10_000
"""Width of a pipe, in columns: its reader truncates lines itself."""

STYLES = {
    "Running": "green", "Completed": "green", "Failed": "red", "Canceled": "yellow", "Pending": "yellow", "Starting": "cyan",
    "Installing": "cyan", "Queued": "yellow", "Preparing": "cyan", "Suspended": "dim", "Suspending": "dim",
}  # fmt: skip
"""Colors of phases."""

_WORDS = 4
"""Last lines of an installer's output in a live picture."""

WHOLE = "Ready"
"""The stage that covers the whole start."""

STAGES = {
    "Scheduled": "a node was found",
    "ImagePulled": "the image is there",
    "AgentReady": "the container runs",
    "FlowDelivered": "the flow folder is there",
    "PackagesInstalled": "packages are installed",
    "PackagesListed": "packages are listed",
    "Ready": "ready",
}
"""The result of each stage of a start, in words."""


def console(stream: TextIO | None = None) -> "Console":
    """Return a console as wide as its terminal. For a pipe it has no width limit and no color."""
    from rich.console import Console  # noqa: PLC0415 - not for --help

    stream = stream or sys.stdout
    live = is_terminal(stream)
    # A dumb terminal is treated as a pipe. rich would assume 80 columns.
    return Console(
        file=stream, highlight=False, soft_wrap=False, width=None if live else _WIDE, emoji=False, markup=False, force_terminal=live
    )


def prepare() -> None:
    """Import rich's tables in a thread while kubectl runs: the import takes a third of the time of a list."""
    import importlib  # noqa: PLC0415
    import threading  # noqa: PLC0415

    threading.Thread(target=importlib.import_module, args=("rich.table",), daemon=True).start()


def is_terminal(stream: TextIO) -> bool:
    """Return whether the stream can show a live picture."""
    return stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb")


def table(out: "Console", heads: Sequence[str], rows: Iterable[Sequence[str]], *, phase: str = "STATUS") -> None:
    """Print columns under their heads. In a narrow terminal the last columns are dropped, so that no row wraps."""
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    rows = list(rows)
    widths = [max(len(head), *(len(row[i]) for row in rows), 0) if rows else len(head) for i, head in enumerate(heads)]
    kept = len(heads)
    while kept > 1 and sum(widths[:kept]) + 3 * (kept - 1) > out.width:
        kept -= 1
    picture = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for head in heads[:kept]:
        picture.add_column(head, no_wrap=True, overflow="ellipsis")
    for row in rows:
        cells = (Text(cell, STYLES.get(cell, "") if head == phase else "") for head, cell in zip(heads, row, strict=True))
        picture.add_row(*list(cells)[:kept])
    with out.capture() as captured:
        out.print(picture)
    out.file.write("\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n")


def fields(out: "Console", pairs: Sequence[tuple[str, str]]) -> None:
    """Print names and values, without empty values. Long values continue below their beginning."""
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    picture = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    picture.add_column(no_wrap=True, style="dim")
    picture.add_column(overflow="fold")
    for name, value in pairs:
        if value:
            picture.add_row(Text(name), Text(value, STYLES.get(value.split(" ", 1)[0], "")))
    with out.capture() as captured:
        out.print(picture)
    out.file.write("\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n")


def condition(thing: Mapping[str, Any], kind: str) -> Object:
    """Return the condition of that type, or {} if the object lacks it."""
    found: Object = next((entry for entry in thing.get("status", {}).get("conditions") or () if entry["type"] == kind), {})
    return found


def seconds_of(stamp: str) -> float:
    """Return the seconds since 1970 of a time in the API's format."""
    return datetime.fromisoformat(stamp).timestamp()


def age(stamp: str, now: float | None = None) -> str:
    """Return how long ago that was, in kubectl's format: 5s, 12m, 3h, 2d."""
    return span((time.time() if now is None else now) - seconds_of(stamp)) if stamp else ""


def span(seconds: float) -> str:
    """Return a time span in one or two units."""
    seconds = max(0, round(seconds))
    if seconds < 120:
        return f"{seconds}s"
    if seconds < 7200:
        return f"{seconds // 60}m" + (f"{seconds % 60}s" if seconds < 600 and seconds % 60 else "")
    return f"{seconds // 3600}h" if seconds < 48 * 3600 else f"{seconds // 86400}d"


def files(count: int) -> str:
    """Return the number of files in words."""
    return "1 file" if count == 1 else f"{count} files"


def clock(stamp: str) -> str:
    """Return the local time of day."""
    return datetime.fromtimestamp(seconds_of(stamp), UTC).astimezone().strftime("%H:%M:%S") if stamp else ""


class StartPicture:
    """A start in progress: finished stages with their seconds, the present one with a spinner, and the operator's message."""

    def __init__(self, name: str) -> None:
        from rich.spinner import Spinner  # noqa: PLC0415

        self.name = name
        self.session: Object = {}
        self.began = time.time()
        self._spinner = Spinner("dots")
        self._words: deque[str] = deque(maxlen=_WORDS)

    def show(self, session: Object) -> None:
        """Update the session that is shown."""
        self.session = session

    def say(self, line: str) -> None:
        """Add a line of the installer's output."""
        self._words.append(line)

    def __rich__(self) -> "RenderableType":
        return self.at(time.time())

    def at(self, now: float) -> "RenderableType":
        """Return the picture at that time."""
        from rich.console import Group  # noqa: PLC0415
        from rich.padding import Padding  # noqa: PLC0415
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        picture = Table(box=None, pad_edge=False, show_header=False, padding=(0, 1, 0, 0))
        picture.add_column(width=1, no_wrap=True)
        picture.add_column(width=24, no_wrap=True)
        picture.add_column(width=8, justify="right", no_wrap=True)
        status = self.session.get("status", {})
        for stage in own_stages(status, self.began):
            if stage.get("seconds") is not None and stage["name"] != WHOLE:
                text = stage_result(stage)
                picture.add_row(Text("✓", "green"), Text(text), Text(f"{stage['seconds']:.1f} s", "dim"))
        ready = condition(self.session, "Ready")
        packages = condition(self.session, "PackagesInstalled")
        in_place = ready.get("status") == "True" and packages.get("reason") == "Installing"
        if ready.get("status") == "True" and not in_place:
            return picture
        phase = "Installing" if in_place else status.get("phase") or "Created"
        elapsed = f"{now - max(self.began, self._since(status)):.1f} s"
        picture.add_row(self._spinner, Text(phase, STYLES.get(phase, "")), Text(elapsed, "dim"))
        message = (packages if in_place else ready).get("message", "")
        words = [Padding(Text(line, "dim", no_wrap=True, overflow="ellipsis"), (0, 0, 0, 4), expand=False) for line in self._words]
        return Group(picture, Padding(Text(message), (0, 0, 0, 2), expand=False), *words)

    def _since(self, status: Mapping[str, Any]) -> float:
        open_ones = [stage["startedAt"] for stage in status.get("stages") or () if stage.get("seconds") is None and stage["name"] != WHOLE]
        return max(map(seconds_of, open_ones), default=0.0)


def stage_result(stage: Mapping[str, Any]) -> str:
    """Return the result of a finished stage in words, or the name of a stage that this version doesn't know."""
    name = str(stage["name"])
    return STAGES.get(name, name)


def own_stages(status: Mapping[str, Any], began: float) -> list[Object]:
    """Return the stages of this start without those of an earlier one. Times of the API have no fractions, and clocks differ a little."""
    return [stage for stage in status.get("stages") or () if seconds_of(stage["startedAt"]) >= began - 5]


def events(out: "Console", found: Sequence[Object], count: int) -> None:
    """Print the last Events, if any, below the previous output."""
    if rows := folded(found, count):
        out.print()
        for stamp, reason, message in rows:
            out.print(f"{clock(stamp)}  {reason}: {message}")


def folded(events: Sequence[Object], count: int) -> list[tuple[str, str, str]]:
    """Return the last Events as (time, reason, message). A repeated message appears once, with its count."""
    from flowsession_cli.cluster import event_time  # noqa: PLC0415

    seen: dict[tuple[str, str], tuple[str, int]] = {}
    for event in events:
        key = (event.get("reason", ""), event.get("message") or event.get("note") or "")
        times = (event.get("series") or {}).get("count") or event.get("count") or 1
        seen[key] = (event_time(event), seen.get(key, ("", 0))[1] + times)
    rows = sorted(
        (stamp, reason, message + (f" ({times} times)" if times > 1 else "")) for (reason, message), (stamp, times) in seen.items()
    )
    return rows[-count:]
