"""Finds the session's connections for prompt flow: those from Secrets, and those in its local store, read without prompt flow."""

from __future__ import annotations

import difflib
import os

from flowsession_agent.connections import identity, mounted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Mapping

    Trouble = tuple[str, str]

MOST_NAMES = 10


class Connections:
    """Connections that a flow may name. `types`: prompt flow's types by name; None if connections are kept elsewhere or can't be read."""

    def __init__(self, types: dict[str, str] | None, broken: dict[str, Trouble]) -> None:
        self.types = types
        self.broken = broken
        """Code and message by name, for connections whose Secret is missing or wrong."""

    def type_of(self, name: object) -> str:
        """Return the connection's type, or an empty string if it is unknown or broken."""
        return (self.types or {}).get(name, "") if isinstance(name, str) else ""

    def trouble(self, name: object) -> Trouble | None:
        """Return code and message about a connection that can't be used; None if it can, or if that is unknown."""
        if not isinstance(name, str) or self.types is None or name in self.types:
            return None
        if name in self.broken:
            code, message = self.broken[name]
            return code, f"connection {name!r}: {message}"
        known = sorted({*self.types, *self.broken})
        message = f"connection {name!r} is not known in this session"
        near = difflib.get_close_matches(name, known, 1, 0.6)
        if near:
            return (
                "ConnectionMissing",
                f"{message}: is {near[0]!r} meant? Correct the name in the flow or in the environment's spec.connections",
            )
        has = f", which has {', '.join(known[:MOST_NAMES])}{', ...' if len(known) > MOST_NAMES else ''}" if known else ""
        way = "add it to the environment's spec.connections with a Secret that has its fields, or correct the name"
        return "ConnectionMissing", f"{message}{has}: {way}"


def known(environ: Mapping[str, str]) -> Connections:
    """Return the session's connections."""
    from flowsession_protocol.connection_kinds import TYPES, BadConnectionError

    brought: dict[str, str] = {}
    broken: dict[str, Trouble] = {}
    refused = mounted.refused(environ.get("HOME") or os.path.expanduser("~"))
    for connection in mounted.listed(environ):
        try:
            data = connection.read()
            _check_module(data)
            if connection.name in refused:
                raise BadConnectionError(mounted.REFUSED, f"Secret {connection.secret!r}: {refused[connection.name]}")
            identity.check(data, environ)
            brought[connection.name] = TYPES[data["type"]]
        except BadConnectionError as error:
            broken[connection.name] = error.code, str(error)
    stored = _stored(environ)
    if stored is None and not (brought or broken):
        return Connections(None, {})
    own = {name: kind for name, kind in (stored or {}).items() if name not in broken}
    return Connections({**own, **brought} if stored is not None else None, broken)


def _check_module(data: dict[str, object]) -> None:
    """Raise BadConnectionError if the connection's class is in a module that isn't installed."""
    import importlib.util

    from flowsession_protocol.connection_kinds import CUSTOM, BadConnectionError

    module = data.get("module")
    if data["type"] != CUSTOM or not data.get("custom_type") or not isinstance(module, str):
        return
    try:
        found = importlib.util.find_spec(module.partition(".")[0]) is not None
    except (ImportError, ValueError):
        found = False
    if not found:
        package = data.get("package") or module.partition(".")[0]
        raise BadConnectionError("ConnectionModule", f"its module {module!r} is not installed: add {package} to the requirements")


def _stored(environ: Mapping[str, str]) -> dict[str, str] | None:
    """Return types by name from prompt flow's local store; None if it uses another store, or this one can't be read."""
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


def _local(home: str) -> bool:
    """Return whether prompt flow's settings keep connections in the local store, which is the default."""
    try:
        with open(os.path.join(home, "pf.yaml"), encoding="utf-8") as file:
            text = file.read(65536)
    except OSError:
        return True
    return "connection" not in text or "provider: local" in text
