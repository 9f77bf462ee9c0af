"""Prompt flow's connection types and their fields (1.18.5), and the validation of a connection. Messages never contain values."""

from __future__ import annotations

import difflib
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterable

KEY, MEID = "key", "meid_token"
CUSTOM = "custom"


class Kind:
    """A connection type: its required fields, its optional fields, and whether it works without an API key."""

    def __init__(self, name: str, needs: str, *, may: str = "", keyless: bool = False) -> None:
        self.name = name
        self.needs = tuple(needs.split())
        self.may = tuple(may.split())
        self.keyless = keyless

    @property
    def module(self) -> str:
        """Python module that defines its class."""
        return "promptflow_vectordb.connections" if self.name in ("qdrant", "weaviate") else "promptflow.connections"

    @property
    def class_name(self) -> str:
        """Name of that class."""
        return f"{TYPES[self.name]}Connection"

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of all its fields."""
        return self.needs + self.may + (("auth_mode",) if self.keyless else ())


KINDS = {
    kind.name: kind
    for kind in (
        Kind("open_ai", "api_key", may="organization base_url"),
        Kind("azure_open_ai", "api_key api_base", may="api_type api_version resource_id", keyless=True),
        Kind("serverless", "api_key api_base"),
        Kind("azure_ai_services", "api_key endpoint", keyless=True),
        Kind("cognitive_search", "api_key api_base", may="api_version", keyless=True),
        Kind("azure_content_safety", "api_key endpoint", may="api_version api_type"),
        Kind("form_recognizer", "api_key endpoint", may="api_version api_type"),
        Kind("serp", "api_key"),
        Kind("qdrant", "api_key api_base"),
        Kind("weaviate", "api_key api_base"),
        Kind(CUSTOM, "secrets", may="configs custom_type module package package_version"),
    )
}

TYPES = {
    "open_ai": "OpenAI",
    "azure_open_ai": "AzureOpenAI",
    "serverless": "Serverless",
    "azure_ai_services": "AzureAIServices",
    "cognitive_search": "CognitiveSearch",
    "azure_content_safety": "AzureContentSafety",
    "form_recognizer": "FormRecognizer",
    "serp": "Serp",
    "qdrant": "Qdrant",
    "weaviate": "Weaviate",
    CUSTOM: "Custom",
}
"""Names of the types in prompt flow's store."""

ALWAYS = ("name", "type", "module", "$schema")

_PLACEHOLDERS = re.compile(r"<[a-z-]+>|\*+|")
"""Placeholders that prompt flow treats as a value not given yet: <user-input>, <no-change>, asterisks."""


class BadConnectionError(Exception):
    """The connection is invalid. The text says why and what to do, and contains no values."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def kind_of(value: object) -> Kind | None:
    """Return the type that a text names in any of prompt flow's forms, or None if there is no such type."""
    bare = _bare(value) if isinstance(value, str) else ""
    return next((kind for kind in KINDS.values() if _bare(kind.name) == bare), None)


def validated(data: object) -> dict[str, Any]:
    """Return the fields of a valid connection, with `type` spelled as in KINDS. Raises BadConnectionError."""
    if not isinstance(data, dict) or not all(isinstance(name, str) for name in data):
        raise BadConnectionError("ConnectionInvalid", "it must be a mapping of fields, such as type: open_ai")
    if not data.get("type"):
        raise BadConnectionError("ConnectionField", f"it has no type: add one of {', '.join(KINDS)}")
    kind = kind_of(data["type"])
    if kind is None:
        raise BadConnectionError("ConnectionType", f"its type is none of {', '.join(KINDS)}{_meant(data['type'], KINDS)}")
    if kind.name != CUSTOM and (grouped := sorted({"configs", "secrets"} & data.keys())):
        message = f"type {kind.name} has no {grouped[0]}: give its fields by their own names, {', '.join(kind.fields)}"
        raise BadConnectionError("ConnectionField", message)
    keyless = kind.keyless and data.get("auth_mode") == MEID
    if kind.keyless and data.get("auth_mode") not in (None, KEY, MEID):
        raise BadConnectionError("ConnectionField", f"its auth_mode must be {KEY} or {MEID}")
    for name in kind.needs:
        if name == "api_key" and keyless:
            continue
        if data.get(name) in (None, "", {}):
            raise BadConnectionError("ConnectionField", _lacks(kind, name, data))
        _check(name, data[name], nested=kind.name == CUSTOM and name == "secrets")
    for name in kind.fields:
        if name not in kind.needs and data.get(name) is not None:
            _check(name, data[name], nested=kind.name == CUSTOM and name == "configs", empty=True)
    return {**data, "type": kind.name}


def _check(name: str, value: object, *, nested: bool = False, empty: bool = False) -> None:
    if nested:
        if not isinstance(value, dict):
            raise BadConnectionError("ConnectionField", f"its {name} must be a mapping of names to texts")
        for inner, text in value.items():
            _check(f"{name}.{inner}", text, empty=name == "configs")
    elif not isinstance(value, str):
        raise BadConnectionError("ConnectionField", f"its {name} is not a text: write it in quotes")
    elif not empty and _PLACEHOLDERS.fullmatch(value.strip()):
        raise BadConnectionError("ConnectionField", f"its {name} is empty or only a placeholder: give the value in the Secret")


def _lacks(kind: Kind, name: str, data: dict[str, Any]) -> str:
    unknown = [other for other in data if other not in kind.fields and other not in ALWAYS]
    near = difflib.get_close_matches(name, unknown, 1, 0.7)
    message = f"it has no {name}, which type {kind.name} needs"
    if near:
        return f"{message}: its field {near[0]!r} is probably meant"
    key = "secrets.NAME" if name == "secrets" else name
    if name == "api_key" and kind.keyless:
        return f"{message}: add the key {key} to the Secret, or auth_mode: {MEID} to use the session's identity"
    return f"{message}: add {'the field to connection.yaml, or ' if name != 'secrets' else ''}the key {key} to the Secret"


def _meant(value: object, known: Iterable[str]) -> str:
    """Return a suggestion for a misspelled word, or "" if no known word is close. Never repeats the word, which may be an API key in the
    wrong place."""
    near = difflib.get_close_matches(str(value).lower(), known, 1, 0.7)
    return f"; {near[0]} is probably meant" if near else ""


def _bare(text: str) -> str:
    return re.sub(r"[_\s-]", "", text).lower().removesuffix("connection")
