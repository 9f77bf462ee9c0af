"""Connections as Secrets, made from prompt flow's own files: what in them is secret, and who uses them. Messages contain no values."""

import base64
import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from flowsession.api import GROUP
from flowsession_cli import naming
from flowsession_cli.cluster import ENVIRONMENT, Cluster, Object
from flowsession_cli.errors import CliError, NotFound
from flowsession_protocol import connection_kinds
from flowsession_protocol.connection_kinds import ALWAYS, CUSTOM, MEID, BadConnectionError, Kind

SECRET = "secret"  # noqa: S105 - a kind
LABEL = f"{GROUP}/connection"
FILES = ("connection.yaml", "connection.yml")
HIDDEN = "********"
_GROUPS = ("configs", "secrets")
"""Groups of fields that only a custom connection has. `validated` refuses them for other types."""

_LARGEST = 256 * 1024
_PLACEHOLDER = re.compile(r"<[a-z-]+>|\*+|")

Fields = dict[str, str]
"""Values by the keys of the Secret: `api_base`, `secrets.NAME`."""

Ask = Callable[[str, bool], str]
"""Function that asks for a field's value. True: the value is secret and must not be shown."""


def read(path: Path) -> dict[str, Any]:
    """Return the fields of prompt flow's file, all as text. Raises CliError, which names lines and fields but no values."""
    import yaml  # noqa: PLC0415 - not for --help

    try:
        text = path.read_bytes()[: _LARGEST + 1]
        # Values stay text as written, such as an api_version's date, which the agent takes as text only if it is quoted.
        found = yaml.load(text.decode("utf-8-sig"), Loader=yaml.BaseLoader)  # noqa: S506 - it makes texts alone
    except UnicodeDecodeError:
        raise CliError(f"{path} is not text: save it as UTF-8") from None
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark is not None else ""
        raise CliError(f"{path}{line}: not YAML: a value with : # or {{ must be in quotes") from None
    if len(text) > _LARGEST:
        raise CliError(f"{path} has more than {_LARGEST // 1024} KiB: is it a connection's file?")
    if not isinstance(found, dict):
        raise CliError(f"{path} holds no mapping of fields, such as type: open_ai")
    return {str(name): value for name, value in found.items()}


def completed(source: str, found: Mapping[str, Any], ask: Ask) -> tuple[Fields, list[str]]:
    """Return the Secret's fields, asking for missing values, and the fields that the type doesn't have. Raises CliError."""
    kind = connection_kinds.kind_of(found.get("type"))
    if kind is None:
        _validated(source, dict(found))  # raises, with what is wrong
        raise AssertionError
    given = {name: value for name, value in found.items() if name not in ALWAYS or name == "module"}
    unknown = [name for name in given if name not in (*kind.fields, *_GROUPS)]
    _refuse_misspelt(source, kind, given, unknown)
    data: dict[str, Any] = {
        name: value for name, value in given.items() if name in (*kind.fields, *_GROUPS) and value not in ("", {}, None)
    }
    keyless = kind.keyless and data.get("auth_mode") == MEID
    for name in sorted(kind.needs, key=is_secret):
        if kind.name == CUSTOM:
            data[name] = _secrets(source, given.get(name), ask)
        elif _is_open(data.get(name)) and not (keyless and name == "api_key"):
            data[name] = ask(name, is_secret(name))
    validated = _validated(source, {"type": kind.name, **data})
    return _flat({"type": kind.name, **{name: value for name, value in validated.items() if name != "type"}}), unknown


def is_secret(key: str) -> bool:
    """Return whether a key's value must be hidden."""
    return key == "api_key" or key.startswith("secrets.") or key in FILES


def manifest(name: str, fields: Fields) -> Object:
    """Return the Secret in the form that sessions look for."""
    labels = {LABEL: "true", "app.kubernetes.io/managed-by": "kubectl-flow"}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "labels": labels}, "type": "Opaque", "stringData": fields}


def secret_name(name: str) -> str:
    """Return the name of a connection's Secret: open_ai_connection becomes open-ai-connection."""
    made = re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")
    if not made:
        raise CliError(f"{name} makes no name for a Secret: give one by --name", code=2)
    return made


def find(cluster: Cluster, name: str) -> Object:
    """Return the Secret of a connection, by its own name or the connection's. Raises CliError with the existing connections."""
    found = cluster.find(SECRET, secret_name(name))
    if found is None or not is_connection(found):
        advice = naming.others(
            [thing["metadata"]["name"] for thing in every(cluster)], "kubectl flow connection create -f connection.yaml makes one"
        )
        if found is not None:
            raise NotFound(f"Secret {secret_name(name)} is not known as a connection: {how_to_label(secret_name(name))}; {advice}")
        raise NotFound(f"there is no connection {name}; {advice}")
    return found


def every(cluster: Cluster) -> list[Object]:
    """Return the connections of the namespace."""
    return cluster.objects(SECRET, f"-l={LABEL}=true")


def unlabelled(cluster: Cluster, environments: list[Object], listed: list[Object]) -> list[tuple[str, str]]:
    """Return the Secrets without the label that environments use as connections, each with the first such environment."""
    labelled = {secret["metadata"]["name"] for secret in listed}
    uses: dict[str, str] = {}
    for of, _, name in _uses(environments):
        uses.setdefault(name, of)
    return [(name, of) for name, of in uses.items() if name not in labelled and cluster.find(SECRET, name)]


def how_to_label(name: str) -> str:
    """Return the advice for a Secret without the label."""
    return f"kubectl label secret {name} {LABEL}=true makes it one of these"


def is_connection(secret: Object) -> bool:
    """Return whether it is labeled as a connection."""
    return bool((secret["metadata"].get("labels") or {}).get(LABEL) == "true")


def users(cluster: Cluster, secret: str, environments: list[Object] | None = None) -> list[tuple[str, str]]:
    """Return the environments that use a Secret, each with the connection's name there."""
    found = environments if environments is not None else cluster.objects(ENVIRONMENT)
    return [(of, known) for of, known, name in _uses(found) if name == secret]


def _uses(environments: list[Object]) -> Iterator[tuple[str, str, str]]:
    """Yield each environment with a connection's name there and the name of its Secret."""
    for thing in environments:
        for entry in thing["spec"].get("connections") or ():
            yield thing["metadata"]["name"], entry["name"], entry["secretName"]


def shown(secret: Object) -> list[tuple[str, str]]:
    """Return the fields by name, with secret values hidden."""
    data = {key: base64.b64decode(value) for key, value in (secret.get("data") or {}).items()}
    file = next((name for name in FILES if name in data), "")
    fields: Mapping[str, str] = _flat(_parsed(data[file])) if file else {key: value.decode(errors="replace") for key, value in data.items()}
    kind = connection_kinds.kind_of(fields.get("type", "").strip())
    known = (*kind.fields, *ALWAYS) if kind else ()
    rows = []
    for key, value in sorted(fields.items(), key=lambda item: (item[0] != "type", item[0])):
        # A field that the type doesn't have may be a misspelled secret, and so may any field of an unknown type.
        seen = not is_secret(key) and (key in known or (kind is not None and key.startswith("configs.")))
        rows.append((key, value.strip() if seen else HIDDEN))
    return rows


def kind_shown(secret: Object) -> str:
    """Return the type as `ls` shows it."""
    found = dict(shown(secret)).get("type", "-")
    return found if connection_kinds.kind_of(found) else "-"


def _parsed(content: bytes) -> dict[str, Any]:
    import yaml  # noqa: PLC0415

    try:
        found = yaml.load(content.decode("utf-8-sig"), Loader=yaml.BaseLoader)  # noqa: S506 - it makes texts alone
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _flat(data: Mapping[str, Any]) -> Fields:
    """Return one key per field. Each group of a custom connection gives one key per name in it."""
    fields: Fields = {}
    for name, value in data.items():
        if isinstance(value, dict):
            fields |= {f"{name}.{inner}": str(text) for inner, text in value.items()}
        else:
            fields[name] = str(value)
    return fields


def _validated(source: str, data: dict[str, Any]) -> dict[str, Any]:
    try:
        return connection_kinds.validated(data)
    except BadConnectionError as error:
        raise CliError(f"{source}: {error}") from None


def _refuse_misspelt(source: str, kind: Kind, given: Mapping[str, Any], unknown: list[str]) -> None:
    for name in unknown:
        near = difflib.get_close_matches(name, [field for field in kind.fields if field not in given], 1, 0.7)
        if near:
            raise CliError(f"{source}: type {kind.name} has no field {name}: {near[0]} is probably meant")


def _secrets(source: str, found: object, ask: Ask) -> object:
    """Return the secrets of a custom connection, asking for those without a value."""
    if not isinstance(found, dict) or not found:
        raise CliError(
            f"{source}: a custom connection needs secrets: name them there, with no value or <user-input>, and they are asked for"
        )
    return {name: ask(f"secrets.{name}", True) if _is_open(value) else value for name, value in found.items()}


def _is_open(value: object) -> bool:
    """Return whether a value is still to be given, by prompt flow's rules."""
    return value is None or (isinstance(value, str) and _PLACEHOLDER.fullmatch(value.strip()) is not None)
