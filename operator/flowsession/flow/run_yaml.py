"""Converts prompt flow's run.yml to fields of a FlowRun, one to one, by prompt flow's own schema of runs (RunSchema, 1.18).

As there, unknown fields are warnings, and unknown keys of `resources` and `identity` are errors.
"""

import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from flowsession.flow.yaml import FolderError, document
from flowsession_protocol.flow_files import kind_of

FILE = "run.yml"
"""Its name in messages if no path was given."""
AUTOMATIC = "automatic"
"""Azure's word for a session or size that is to be chosen automatically."""
_FLOW_FILES = (".yaml", ".yml", ".prompty")
_REMOTE = ("azureml:", "http://", "https://", "abfss://", "wasbs://")
_IDENTITIES = ("managed", "user_identity")


MOST_VALUES = 2000
"""Values, keys and brackets in run.yml, and values in a field's mapping with aliases expanded: 10 ms of the operator's only thread."""
MOST_WARNINGS = 10


class RunYamlError(Exception):
    """run.yml can't be used. The text says what, where and what to do."""


@dataclass(frozen=True)
class RunYaml:
    """The contents of a run.yml."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    """Fields of a FlowRun's spec."""
    environment_file: str = ""
    """A file of the flow folder with environment variables, in the form of .env files."""
    init_file: str = ""
    """A file of the flow folder with the arguments for a flex flow's class, JSON or JSON lines."""
    managed: str | None = None
    """Client ID of the managed identity that it asks for, empty for any; None: it does not ask for one."""
    warnings: tuple[str, ...] = ()


def read(text: str, path: str) -> RunYaml:
    """Return the contents of run.yml. Raises RunYamlError.

    `path` is its path in the source. If empty, its relative paths start where its field `flow` finds the flow folder.
    """
    name = path or FILE
    try:
        found = document(name, text.encode(), most_values=MOST_VALUES)
    except FolderError as error:
        raise RunYamlError(str(error)) from None
    return _Reader(name, path, found).read()


class _Reader:
    def __init__(self, name: str, path: str, found: Mapping[Any, Any]) -> None:
        self._name = name
        self._found = {key: value for key, value in found.items() if value is not None}
        self._warnings: list[str] = []
        self._here = posixpath.dirname(path)
        self._root = ""
        """The flow folder, relative to run.yml's own folder."""
        self._placed = bool(path)

    def read(self) -> RunYaml:
        self._look_for_unknown_fields()
        self._find_root()
        settings: dict[str, Any] = {}
        for key, (field_name, convert) in _FIELDS.items():
            if key in self._found and (value := convert(self, key, self._found[key])) not in (None, {}):
                settings[field_name] = value
        return RunYaml(
            settings,
            environment_file=self._file("environment_variables"),
            init_file=self._file("init"),
            managed=self._managed(),
            warnings=tuple(self._warnings),
        )

    def _look_for_unknown_fields(self) -> None:
        for key in self._found:
            if key in _FIELDS or key in ("$schema", "flow", "identity") or len(self._warnings) == MOST_WARNINGS:
                continue
            if key in ("name", "properties"):
                self._warnings.append(f"{self._name}: {key} is left out: {_LEFT_OUT[key]}")
                continue
            near = get_close_matches(str(key), [*_FIELDS, "flow", "identity"], 1)
            self._warnings.append(
                f"{self._name}: {str(key)[:80]!r} is no field of a run" + (f": did you mean {near[0]!r}?" if near else "")
            )

    def _find_root(self) -> None:
        flow = self._found.get("flow")
        if flow is None:
            return
        text = self._text("flow", flow)
        if text.startswith(_REMOTE):
            raise self._error("flow", f"{text!r} lies elsewhere: environmentRef names the environment whose flow is run; leave flow out")
        if posixpath.isabs(text):
            raise self._error("flow", f"{text!r} is absolute: name it relative to {self._name}, or leave it out")
        root = posixpath.normpath(text.replace("\\", "/"))
        if root.endswith(_FLOW_FILES):
            root = posixpath.dirname(root) or "."
        if self._placed and posixpath.normpath(posixpath.join(self._here, root)) != ".":
            raise self._error("flow", f"{text!r} is not the flow folder of this environment, as spec.path has it: correct one of them")
        self._root = "" if root == "." else root

    def path(self, key: str, value: object) -> str:
        """Return a path relative to the flow folder. Raises RunYamlError."""
        text = self._text(key, value)
        if text.startswith(_REMOTE):
            raise self._error(
                key, f"{text!r} lies elsewhere: put the file into the flow folder, or into a ConfigMap, and name it in spec.data.configMap"
            )
        if posixpath.isabs(text):
            raise self._error(key, f"{text!r} is absolute: name a file relative to {self._name}")
        whole = posixpath.normpath(text.replace("\\", "/"))
        inside = posixpath.normpath(posixpath.join(self._here, whole)) if self._placed else posixpath.relpath(whole, self._root or ".")
        if inside.split("/")[0] == ".." or inside == ".":
            raise self._error(
                key,
                f"{text!r} lies outside of the flow folder, and a session has that folder alone: put it there, by additional_includes of"
                " the flow for instance, or into a ConfigMap, and name it in the spec",
            )
        return inside

    def data(self, key: str, value: object) -> dict[str, str]:
        return {"path": self.path(key, value)}

    def text(self, key: str, value: object) -> str:
        return self._text(key, value)

    def words(self, key: str, value: object) -> dict[str, str]:
        """Return texts by name. Other scalars become texts, and null becomes an empty text."""
        return {name: "" if one is None else self._text(f"{key}.{name}", one) for name, one in self._mapping(key, value).items()}

    def values(self, key: str, value: object) -> dict[str, Any]:
        """Return JSON values by name, with aliases expanded."""
        left = MOST_VALUES

        def plain(one: object) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise self._error(key, f"has more than {MOST_VALUES:,} values: put them into the data")
            if isinstance(one, dict):
                return {str(name): plain(inner) for name, inner in one.items()}
            if isinstance(one, (list, tuple)):
                return [plain(inner) for inner in one]
            return one if one is None or isinstance(one, (str, bool, int, float)) else str(one)

        return {name: plain(one) for name, one in self._mapping(key, value).items()}

    def words_or_file(self, key: str, value: object) -> dict[str, str]:
        return {} if isinstance(value, str) else self.words(key, value)

    def values_or_file(self, key: str, value: object) -> dict[str, Any]:
        return {} if isinstance(value, str) else self.values(key, value)

    def words_of_nodes(self, key: str, value: object) -> dict[str, dict[str, str]]:
        return {name: self.words(f"{key}.{name}", one) for name, one in self._mapping(key, value).items()}

    def session(self, key: str, value: object) -> dict[str, str] | None:
        name = self._text(key, value)
        return None if name in ("", AUTOMATIC) else {"name": name}

    def resources(self, key: str, value: object) -> dict[str, str]:
        found = self._known(key, value, _RESOURCES)
        return {_RESOURCES[name]: self._text(f"{key}.{name}", one) for name, one in found.items()}

    def _managed(self) -> str | None:
        if "identity" not in self._found:
            return None
        found = self._known("identity", self._found["identity"], ("type", "client_id"))
        kind = str(found.get("type", "")).lower()
        if kind not in _IDENTITIES:
            raise self._error("identity", f"type {found.get('type')!r} is none of {' and '.join(_IDENTITIES)}")
        return self._text("identity.client_id", found.get("client_id", "")) if kind == "managed" else None

    def _file(self, key: str) -> str:
        value = self._found.get(key)
        return self.path(key, value) if isinstance(value, str) else ""

    def _known(self, key: str, value: object, known: Any) -> dict[str, Any]:
        found = self._mapping(key, value)
        for name in found:
            if name not in known:
                near = get_close_matches(name, list(known), 1)
                message = f"did you mean {near[0]!r}?" if near else f"there are {' and '.join(known)}"
                raise self._error(key, f"unknown key {name[:80]!r}: {message}")
        return {name: one for name, one in found.items() if one is not None}

    def _mapping(self, key: str, value: object) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self._error(key, f"is {kind_of(value)}, but must be a mapping")
        return {str(name): one for name, one in value.items()}

    def _text(self, key: str, value: object) -> str:
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, (str, int, float)):
            return str(value)
        raise self._error(key, f"is {kind_of(value)}, but must be a text")

    def _error(self, key: str, message: str) -> RunYamlError:
        return RunYamlError(f"{self._name}: {key}: {message}" if not message.startswith("is ") else f"{self._name}: {key} {message}")


_FIELDS: Mapping[str, tuple[str, Callable[[_Reader, str, object], Any]]] = {
    "display_name": ("displayName", _Reader.text),
    "description": ("description", _Reader.text),
    "tags": ("tags", _Reader.words),
    "data": ("data", _Reader.data),
    "column_mapping": ("columnMapping", _Reader.values),
    "run": ("run", _Reader.text),
    "variant": ("variant", _Reader.text),
    "environment_variables": ("environmentVariables", _Reader.words_or_file),
    "connections": ("connections", _Reader.words_of_nodes),
    "init": ("init", _Reader.values_or_file),
    "runtime": ("sessionRef", _Reader.session),
    "resources": ("resources", _Reader.resources),
}
_RESOURCES = {"instance_type": "instanceType", "compute": "compute"}
_LEFT_OUT = {"name": "a FlowRun has its own name", "properties": "a FlowRun has labels, annotations and tags"}
