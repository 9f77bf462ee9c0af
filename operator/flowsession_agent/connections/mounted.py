"""Reads the connections that the kubelet mounts: prompt flow's own file, or one key for each field."""

from __future__ import annotations

import json
import os

from flowsession_agent.digests import sha256
from flowsession_protocol.variables import CONNECTIONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Mapping

FILES = ("connection.yaml", "connection.yml")
MOST_BYTES = 1024 * 1024
REFUSED = "ConnectionRefused"
"""Code of a connection that prompt flow refuses although its fields are complete."""
_GROUPS = ("configs", "secrets")


class Mounted:
    """A connection's name, its Secret's name, and the folder with the Secret's keys."""

    def __init__(self, name: str, secret: str, path: str) -> None:
        self.name = name
        self.secret = secret
        self.path = path

    def keys(self) -> dict[str, bytes]:
        """Return the Secret's keys and their contents; empty while it doesn't exist."""
        found = {}
        try:
            for name in sorted(os.listdir(self.path)):
                path = os.path.join(self.path, name)
                if not name.startswith("..") and os.path.isfile(path):
                    with open(path, "rb") as file:
                        found[name] = file.read(MOST_BYTES)
        except OSError:  # replaced by the kubelet meanwhile: the next read gets all of it
            return {}
        return found

    def read(self) -> dict[str, Any]:
        """Return the fields, as prompt flow's own file has them. Raises BadConnectionError, whose text holds no value."""
        from flowsession_protocol.connection_kinds import BadConnectionError, validated

        keys = self.keys()
        if not keys:
            text = f"Secret {self.secret!r} does not exist in the session's namespace, or has no keys: create it, and it is in use within"
            raise BadConnectionError("ConnectionSecretMissing", f"{text} two minutes")
        file = next((name for name in FILES if name in keys), None)
        try:
            data = validated(_parsed(keys[file]) if file else _of_keys(keys))
        except BadConnectionError as error:
            where = f"{file} of Secret {self.secret!r}" if file else f"Secret {self.secret!r}"
            raise BadConnectionError(error.code, f"{where}: {error}") from None
        return {**data, "name": self.name}


def listed(environ: Mapping[str, str]) -> list[Mounted]:
    """Return the session's connections; empty if its environment has none."""
    try:
        found = json.loads(environ.get(CONNECTIONS) or "[]")
        return [Mounted(entry["name"], entry["secret"], entry["path"]) for entry in found]
    except (ValueError, KeyError, TypeError):
        return []


def note_refused(home: str, refused: dict[str, str]) -> None:
    """Store prompt flow's reasons for refusing connections, by name, for the check of the flow. Raises OSError."""
    path = _refused_path(home)
    if refused or os.path.exists(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            json.dump(refused, file)


def refused(home: str) -> dict[str, str]:
    """Return what `note_refused` has stored in that home."""
    try:
        with open(_refused_path(home), encoding="utf-8") as file:
            return {str(name): str(message) for name, message in json.load(file).items()}
    except (OSError, ValueError, AttributeError):
        return {}


def _refused_path(home: str) -> str:
    from flowsession_agent.connections import keyring

    return os.path.join(home, keyring.FOLDER, "refused.json")


def stamp(connections: list[Mounted]) -> str:
    """Return a digest of everything that is mounted now."""
    digest = sha256()
    for connection in connections:
        for name, content in connection.keys().items():
            digest.update(f"{connection.name}\0{name}\0{len(content)}\0".encode() + content)
    found: str = digest.hexdigest()
    return found


def _of_keys(keys: dict[str, bytes]) -> dict[str, Any]:
    from flowsession_protocol.connection_kinds import CUSTOM, BadConnectionError, kind_of

    data: dict[str, Any] = {}
    for name, content in keys.items():
        try:
            text = content.decode().rstrip("\r\n")
        except UnicodeDecodeError:
            raise BadConnectionError("ConnectionField", f"its key {name!r} is not text") from None
        group, dot, inner = name.partition(".")
        if dot and group in _GROUPS:
            _group(data, group, name)[inner] = text
        else:
            data[name] = text
    kind = kind_of(data.get("type"))
    if kind is not None and kind.name == CUSTOM:
        # In a custom connection, a field of neither group is a secret, as prompt flow has it for .env files.
        for name in [name for name in data if name not in kind.fields and name not in ("type", "name")]:
            _group(data, "secrets", name)[name] = data.pop(name)
    return data


def _group(data: dict[str, Any], group: str, name: str) -> dict[str, str]:
    """Return the mapping that the key `name` belongs to. Raises BadConnectionError if a key has the mapping's name."""
    from flowsession_protocol.connection_kinds import BadConnectionError

    found: dict[str, str] | str = data.setdefault(group, {})
    if isinstance(found, str):
        message = f"it has a key {group!r} beside {name!r}: give each of them a key of its own, as {group}.NAME"
        raise BadConnectionError("ConnectionField", message)
    return found


def _parsed(content: bytes) -> object:
    """Return the document. An error names its line, never its text."""
    from ruamel.yaml import YAML  # type: ignore[import-not-found,unused-ignore]
    from ruamel.yaml.error import YAMLError  # type: ignore[import-not-found,unused-ignore]

    from flowsession_protocol.connection_kinds import BadConnectionError

    try:
        return YAML(typ="safe", pure=True).load(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise BadConnectionError("ConnectionInvalid", "it is not text: save it as UTF-8") from None
    except (YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark is not None else ""
        raise BadConnectionError("ConnectionInvalid", f"it is not YAML{line}: a value with : # or {{ must be in quotes") from None
