"""The connections that prompt flow has in this session: those of its local store, read without prompt flow."""

from __future__ import annotations

import os


def known(environ: os._Environ[str] | dict[str, str]) -> dict[str, str] | None:
    """Names and types of the connections; None where they are kept elsewhere, or can't be read."""
    import sqlite3

    home = environ.get("PF_HOME_DIRECTORY") or os.path.join(os.path.expanduser("~"), ".promptflow")
    if environ.get("PF_CONNECTION_PROVIDER") or not _local(home):
        return None
    path = os.path.join(home, "pf.sqlite")
    if not os.path.exists(path):
        return {}
    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=1) as store:
            return dict(store.execute("SELECT connectionName, connectionType FROM connection"))
    except sqlite3.OperationalError as error:
        return {} if "no such table" in str(error) else None
    except sqlite3.Error:
        return None


def unknown(name: str) -> str:
    """The sentence about a connection that there is not."""
    home, store = os.path.expanduser("~"), os.environ.get("PF_HOME_DIRECTORY", "~/.promptflow")
    # A terminal has the image's own settings; runs of the flow have these.
    command = f"HOME={home} PF_HOME_DIRECTORY={store} pf connection create --file FILE --set name={name}"
    return f"connection {name!r} is not known in this session: create it there by `{command}`, or correct the name"


def _local(home: str) -> bool:
    """Whether prompt flow's settings leave connections in the local store, which is the default."""
    try:
        with open(os.path.join(home, "pf.yaml"), encoding="utf-8") as file:
            text = file.read(65536)
    except OSError:
        return True
    return "connection" not in text or "provider: local" in text
