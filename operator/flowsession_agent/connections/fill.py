"""Puts the mounted connections into prompt flow's store, by prompt flow's own SDK. Runs in the session's Python, not in the agent's.

`fill NAMES`: a JSON list of the names that were filled before. Those no longer mounted are removed. Prints a JSON object:
- `filled`, the names, and `problems`, by name, each with `code` and `message`; neither holds a value;
- `core`, if only prompt flow's core is installed, which has no store: the connections themselves, as its executor takes them. They are
  passed through a pipe and stay in memory;
- `site`, the folder of a user's own packages.
"""

from __future__ import annotations

import json
import os
import site
import sys

from flowsession_agent.connections.mounted import REFUSED, listed
from flowsession_protocol.connection_kinds import CUSTOM, KINDS, BadConnectionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NICENESS = 5


def main() -> None:
    """Fill the store."""
    before = json.loads(sys.argv[1])
    os.nice(NICENESS)
    stdout = os.dup(1)
    os.dup2(2, 1)  # what prompt flow prints must not mix with the result
    answer = {**fill(before), "site": site.getusersitepackages()}
    os.write(stdout, json.dumps(answer).encode())
    os._exit(0)  # telemetry's threads must not delay the exit


def fill(before: list[str]) -> dict[str, Any]:
    """Fill the store and return the outcome."""
    problems: dict[str, dict[str, str]] = {}
    found: dict[str, dict[str, Any]] = {}
    for connection in listed(os.environ):
        try:
            found[connection.name] = connection.read()
        except BadConnectionError as error:
            problems[connection.name] = {"code": error.code, "message": str(error)}
    gone = [name for name in before if name not in found]
    filled: list[str] = []
    try:
        if found or gone:
            _store(found, gone, filled, problems)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "promptflow":
            raise
        return {"filled": [], "problems": problems, "core": {name: for_core(name, data) for name, data in found.items()}}
    return {"filled": filled, "problems": problems, "core": None}


def for_core(name: str, data: dict[str, Any]) -> dict[str, Any]:
    """Return a connection in the form of promptflow-core's `_to_execution_connection_dict` (1.18.5)."""
    kind = KINDS[data["type"]]
    if kind.name == CUSTOM:
        own = {f"promptflow.connection.{key}": data[key] for key in ("custom_type", "module", "package", "package_version") if key in data}
        hidden = data["secrets"]
        value = {**(data.get("configs") or {}), **(own if "custom_type" in data else {}), **hidden}
    else:
        value = {key: data[key] for key in kind.fields if data.get(key) is not None}
        hidden = [key for key in value if key == "api_key"]
    return {"name": name, "type": kind.class_name, "module": kind.module, "value": value, "secret_keys": list(hidden)}


def _store(found: dict[str, dict[str, Any]], gone: list[str], filled: list[str], problems: dict[str, dict[str, str]]) -> None:
    import gc

    gc.disable()
    from promptflow._sdk.entities._connection import _Connection  # type: ignore[import-not-found,unused-ignore]
    from promptflow.client import PFClient  # type: ignore[import-not-found,unused-ignore]

    connections = PFClient().connections
    for name in gone:
        connections.delete(name)
    for name, data in found.items():
        try:
            connections.create_or_update(_Connection._load(data=data))
            filled.append(name)
        except Exception as error:  # its text may hold values
            problems[name] = {"code": REFUSED, "message": f"prompt flow refuses it ({_named(error)}): correct its fields in the Secret"}


def _named(error: BaseException) -> str:
    """Return the type of an exception and of its cause, without their text."""
    cause = error.__cause__ or error.__context__
    return type(error).__name__ + (f": {type(cause).__name__}" if cause is not None else "")
