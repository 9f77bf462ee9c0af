"""Checks a prompty by reading it: its head by the rules of promptflow-core's Prompty (1.18.5), and its template's syntax."""

from __future__ import annotations

import os
import re

from flowsession_agent.check import yaml_file
from flowsession_agent.check.dag import VALUE_TYPES
from flowsession_agent.check.yaml_file import line_of
from flowsession_protocol.flow_files import kind_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from flowsession_agent.check.connections import Connections
    from flowsession_agent.check.findings import Findings

PARTS = re.compile(r"(?<!-)-{3,}\n(.*)---\n(.*)", re.DOTALL)
"""Matches what promptflow-core's `Prompty._parse_prompty` matches, in linear time."""

REFERENCE = re.compile(r"\$\{(\w+):(.*)\}")
MODEL_KEYS = ("api", "configuration", "parameters", "response")
PROVIDERS = {
    "azure_openai": ("AZURE_OPENAI_ENDPOINT", "AZURE_OPENAI_API_KEY"),
    "AzureOpenAI": ("AZURE_OPENAI_ENDPOINT", "AZURE_OPENAI_API_KEY"),
    "openai": ("OPENAI_API_KEY",),
    "OpenAI": ("OPENAI_API_KEY",),
}
"""Values of `configuration.type`, each with the variables that replace a configuration without any address or key."""


class Prompty:
    """One prompty. `known`: the session's connections."""

    def __init__(self, file: str, folder: str, found: Findings, known: Connections) -> None:
        self._file = file
        self._folder = folder
        self._found = found
        self._known = known
        self._first = 0

    def check(self) -> bool:
        """Report what is wrong, and return whether loading it by prompt flow could reveal more. Raises what reading YAML raises."""
        with open(os.path.join(self._folder, self._file), encoding="utf-8") as file:
            text = file.read()
        match = PARTS.search(text)
        if match is None:
            self._report("Schema", "it must begin with YAML between two lines of ---, followed by the template", line=1)
            return False
        self._first = text.count("\n", 0, match.start(1))
        data = yaml_file.parse("\n" * self._first + match.group(1))
        if not isinstance(data, (dict, type(None))):
            self._report("Schema", f"its head is {kind_of(data)}, but must be a mapping", line=2)
            return False
        before = self._found.count
        data = {} if data is None else data
        self._model(data)
        inputs = data.get("inputs") or {}
        if isinstance(inputs, dict):
            for name, definition in inputs.items():
                self._input(name, definition, line_of(inputs, name))
        self._template(match.group(2), text.count("\n", 0, match.start(2)))
        return self._found.count == before

    def _model(self, data: Any) -> None:
        model, line = data.get("model"), line_of(data, "model")
        if isinstance(model, str) and REFERENCE.match(model):
            return  # it is in another file, which loading reads
        if not isinstance(model, dict):
            message = f"model is {kind_of(model)}" if "model" in data else "it has no model"
            self._report("Schema", f"{message}: it needs one with configuration and parameters", line=line)
            return
        for key in model:
            if key not in MODEL_KEYS:
                message = f"model.{key} is no key of a model, which has {', '.join(MODEL_KEYS)}: remove it"
                self._report("Schema", f"{message}, or move it to parameters", line=line_of(model, key))
        parameters = model.get("parameters")
        if "parameters" not in model:
            self._report("Schema", "model.parameters is missing: add it, at least as parameters: {}", line=line)
        elif not isinstance(parameters, dict) and not _refers(parameters):
            message = f"model.parameters is {kind_of(parameters)}, but must be a mapping, at least {{}}"
            self._report("Schema", message, line=line_of(model, "parameters"))
        if "configuration" not in model:
            message = "model.configuration is missing: name a connection and a deployment there"
            self._report("Schema", message, line=line)
        elif isinstance(model["configuration"], dict):
            self._configuration(model["configuration"], line_of(model, "configuration"))
        elif not _refers(model["configuration"]):
            message = f"model.configuration is {kind_of(model['configuration'])}, but must be a mapping with type and connection"
            self._report("Schema", message, line=line_of(model, "configuration"))

    def _configuration(self, given: Any, line: int | None) -> None:
        kind, connection = _resolved(given.get("type")), _resolved(given.get("connection"))
        unset = {key: name for key, value in given.items() if (name := _unset(value))}
        for key, name in unset.items():
            text = f"model.configuration.{key} is ${{env:{name}}}, but {name} is not set in this session: set it in the session's spec.env"
            if key == "api_key" and given.get("base_url") and "base_url" not in unset:
                self._found.warn("EnvironmentMissing", text, file=self._file, line=line_of(given, key))  # self-hosted servers may need none
            else:
                self._report("EnvironmentMissing", f"{text}, or name a connection", line=line_of(given, key))
        if connection:
            self._connection(connection, line_of(given, "connection"), known=not unset)
        elif kind not in PROVIDERS and "type" not in unset:
            text = f"model.configuration.type is {kind!r}" if "type" in given else "model.configuration has neither type nor connection"
            self._report("ConnectionType", f"{text}: it must be azure_openai or openai", line=line_of(given, "type") or line)
        elif kind in PROVIDERS and not any(value for key, value in given.items() if key not in ("type", "azure_deployment", "model")):
            missing = [name for name in PROVIDERS[kind] if name not in os.environ]
            if missing:
                text = f"model.configuration has no connection, and {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set"
                self._report(
                    "EnvironmentMissing", f"{text} in this session: name a connection, or set it in the session's spec.env", line=line
                )

    def _connection(self, name: object, line: int | None, *, known: bool) -> None:
        if not isinstance(name, str) or not known:
            return
        kind = self._known.type_of(name)
        if trouble := self._known.trouble(name):
            self._report(*trouble, line=line)
        elif kind and kind.replace("_", "").lower() not in ("azureopenai", "openai"):
            message = f"connection {name!r} is of type {kind}, but a prompty needs one of AzureOpenAI or OpenAI: name another one"
            self._report("ConnectionType", message, line=line)

    def _input(self, name: object, definition: Any, line: int | None) -> None:
        if isinstance(definition, dict) and "type" not in definition:
            self._report("Schema", f"input {name!r} has no type: give it one, such as string", line=line)
        elif isinstance(definition, dict) and definition["type"] not in VALUE_TYPES:
            known = ", ".join(sorted(VALUE_TYPES))
            self._report("Schema", f"input {name!r} has the type {definition['type']!r}, which is none of {known}", line=line)

    def _template(self, text: str, above: int) -> None:
        from jinja2 import Environment, TemplateSyntaxError  # type: ignore[import-not-found,unused-ignore]

        try:
            Environment().parse(text)  # noqa: S701 - nothing is rendered
        except TemplateSyntaxError as error:
            self._report("TemplateSyntax", str(error.message), line=above + error.lineno)

    def _report(self, code: str, message: str, *, line: int | None) -> None:
        self._found.problem(code, message, file=self._file, line=line)


def _refers(value: object) -> bool:
    return isinstance(value, str) and REFERENCE.match(value) is not None


def _resolved(value: object) -> Any:
    """Return the value, taken from the environment if it is a reference to a variable."""
    match = REFERENCE.match(value) if isinstance(value, str) else None
    return os.environ.get(match.group(2), value) if match and match.group(1) == "env" else value


def _unset(value: object) -> str:
    """Return the unset environment variable that a value refers to; empty otherwise."""
    match = REFERENCE.match(value) if isinstance(value, str) else None
    return match.group(2) if match and match.group(1) == "env" and match.group(2) not in os.environ else ""
