"""`kubectl flow doctor`: check whether cluster, API, operator, rights and images meet this program's needs."""

import sys

import click

from flowsession_cli import app, health, render
from flowsession_cli.cluster import Cluster

_SIGNS = {True: ("ok", "green"), False: ("bad", "red"), None: ("?", "yellow")}


@click.command("doctor")
@app.common
def doctor_command(cluster: Cluster) -> None:
    """Say of cluster, API, operator, rights and images whether they are as they shall be, else the way out.

    Looks only, and changes nothing. `?` is what nobody can tell with your rights. Exits with 1 when something is bad.
    """
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    out = render.console()
    failed = False
    for line in health.examined(cluster):
        failed = failed or line.good is False
        sign, style = _SIGNS[line.good]
        picture = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
        picture.add_column(no_wrap=True, width=3)
        picture.add_column(overflow="fold")
        picture.add_row(Text(sign, style), Text(line.text))
        with out.capture() as captured:
            out.print(picture)
        out.file.write("\n".join(text.rstrip() for text in captured.get().splitlines()) + "\n")
        out.file.flush()
    if failed:
        sys.exit(1)
