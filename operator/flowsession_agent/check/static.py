"""The part of the check that only reads files, in some tenths of a second. Runs in the session's Python, not in the agent's.

`static FOLDER FLOW_FILE RESULT`: writes the findings, and under `work` the input of the import step (imports.py).
"""

from __future__ import annotations

import importlib.util
import os
import sys

from flowsession_agent.check import code, connections, findings, yaml_file
from flowsession_agent.check.advice import OUTSIDE_MODULES
from flowsession_agent.check.dag import Dag
from flowsession_agent.check.findings import Findings
from flowsession_agent.check.prompty import Prompty
from flowsession_agent.check.signature import NO_TOOL, compare, several
from flowsession_protocol import flow_files
from flowsession_protocol.flow_files import kind_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from flowsession_agent.check.dag import Node

NICENESS = 15


def main() -> None:
    """Check the flow and write the findings."""
    folder, file, target = sys.argv[1:]
    os.nice(NICENESS)
    found = Findings()
    work = Static(folder, file, found).check()
    findings.write(target, {**found.members(), "work": work})


class Static:
    """The static check of one flow."""

    def __init__(self, folder: str, file: str, found: Findings) -> None:
        self._folder = folder
        self._file = file
        self._found = found
        self._scripts = code.Scripts(folder, found)
        self._connections = connections.known(os.environ)

    def check(self) -> dict[str, Any] | None:
        """Return the input of the import step, or None if importing would be useless."""
        try:
            if importlib.util.find_spec("promptflow") is None or importlib.util.find_spec("ruamel.yaml") is None:
                raise ModuleNotFoundError("promptflow")
            work = self._prompty() if self._file.endswith(".prompty") else self._yaml()
            self._unused()
            return {**work, "connections": self._connections.types} if work is not None else None
        except ImportError:
            self._found.leave("prompt flow is not installed here: use the default image, or add promptflow to the requirements")
        except yaml_file.NotYaml as error:
            self._found.problem("NotYAML", f"not YAML: {error}", file=self._file, line=error.line)
        except UnicodeDecodeError:
            self._found.problem("NotYAML", "not text: save it as UTF-8", file=self._file)
        except (ValueError, OSError, RecursionError) as error:
            self._found.leave(f"{self._file} can't be looked at: {error}")
        return None

    def _yaml(self) -> dict[str, Any] | None:
        with open(os.path.join(self._folder, self._file), encoding="utf-8") as file:
            data = yaml_file.parse(file.read())
        if not isinstance(data, dict):
            self._found.problem("Schema", f"it is {kind_of(data)}, but must be a mapping", file=self._file, line=1)
            return None
        if data.get("language", "python") != "python":
            self._found.leave(f"its language is {data['language']}, and only Python flows are checked")
            return None
        work: dict[str, Any] = {
            "kind": flow_files.kind(self._file, data),
            "file": self._file,
            "outsideModules": os.environ.get(OUTSIDE_MODULES, ""),
        }
        variables = data.get("environment_variables")
        if isinstance(variables, dict):
            work["environment"] = {str(name): str(value) for name, value in variables.items()}
        return self._flex(data, work) if work["kind"] == "flex" else self._dag(data, work)

    def _dag(self, data: Any, work: dict[str, Any]) -> dict[str, Any] | None:
        dag = Dag(self._file, self._folder, data, self._found)
        dag.check()
        for node in dag.nodes:
            if node.type == "python" and not node.package:
                self._python(node)
            elif node.type in ("prompt", "llm"):
                self._template(node)
            if node.type == "llm":
                self._connection(node)
        work["nodes"] = [_for_import(node) for node in dag.nodes]
        return work

    def _python(self, node: Node) -> None:
        if not self._is_file(node):
            return
        script = self._scripts.read(node.path, node=node.name)
        if script is None:
            return
        self._scripts.check_imports(node.path, node=node.name)
        tools = code.tool_functions(script)
        if len(tools) > 1:
            message = several(sorted(tool.name for tool in tools))
            self._found.problem("SeveralTools", message, file=node.path, line=tools[1].lineno, node=node.name)
        elif not tools and code.has_no_tool(script):
            self._found.problem("NoTool", NO_TOOL, file=node.path, line=1, node=node.name)
        elif tools and (parameters := code.parameters_of(tools[0])):
            compare(node.name, node.conditional, node.inputs, parameters, node.path, tools[0].lineno, self._found)

    def _template(self, node: Node) -> None:
        from jinja2 import Environment, TemplateSyntaxError, meta  # type: ignore[import-not-found,unused-ignore]

        if not self._is_file(node):
            return
        try:
            with open(os.path.join(self._folder, node.path), encoding="utf-8") as file:
                names = meta.find_undeclared_variables(Environment().parse(file.read()))  # noqa: S701 - nothing is rendered
        except TemplateSyntaxError as error:
            self._found.problem("TemplateSyntax", str(error.message), file=node.path, line=error.lineno, node=node.name)
            return
        except UnicodeDecodeError:
            self._found.problem("TemplateSyntax", "not text: save it as UTF-8", file=node.path, node=node.name)
            return
        node.variables = sorted(names)
        if node.type == "prompt" and "template" in names:
            message = "the variable 'template' is prompt flow's own: give it another name"
            self._found.problem("ReservedName", message, file=node.path, node=node.name)
        for name in sorted(names - set(node.inputs)):
            message = f"the variable {name!r} has no input: it is rendered as nothing; add inputs.{name} to the node"
            self._found.warn("TemplateVariable", message, file=node.path, node=node.name)

    def _connection(self, node: Node) -> None:
        line = yaml_file.line_of(node.data, "connection")
        if not node.connection:
            message = "it names no connection: an llm node needs one"
            self._found.problem("ConnectionMissing", message, file=self._file, line=line, node=node.name)
        elif trouble := self._connections.trouble(node.connection):
            self._found.problem(*trouble, file=self._file, line=line, node=node.name)

    def _flex(self, data: Any, work: dict[str, Any]) -> dict[str, Any] | None:
        entry, line = data.get("entry"), yaml_file.line_of(data, "entry")
        if not isinstance(entry, str) or ":" not in entry:
            message = f"entry is {entry!r}, but must name a function or class, such as flow_entry:main"
            self._found.problem("NoEntry", message, file=self._file, line=line)
            return None
        module = entry.partition(":")[0]
        path = f"{module.replace('.', '/')}.py"
        if os.path.isfile(os.path.join(self._folder, path)):
            if self._scripts.read(path) is None:
                return None
            self._scripts.check_imports(path)
        elif not os.path.isdir(os.path.join(self._folder, module.partition(".")[0])) and not _installed(module):
            message = f"entry {entry!r} names the module {module!r}, but the flow folder has no {path}: add it, or correct entry"
            self._found.problem("SourceMissing", message, file=self._file, line=line)
            return None
        return {**work, "entry": entry, "path": path}

    def _prompty(self) -> dict[str, Any] | None:
        whole = Prompty(self._file, self._folder, self._found, self._connections).check()
        return {"kind": "prompty", "file": self._file} if whole else None

    def _unused(self) -> None:
        """Warn of the environment's unusable connections that no reported problem names."""
        for name, (kind, message) in self._connections.broken.items():
            if not any(problem["code"] == kind and repr(name) in problem["message"] for problem in self._found.problems):
                self._found.warn(kind, f"connection {name!r} of the environment: {message}")

    def _is_file(self, node: Node) -> bool:
        return isinstance(node.path, str) and os.path.isfile(os.path.join(self._folder, node.path))


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module.partition(".")[0]) is not None
    except (ImportError, ValueError, AttributeError):
        return True


def _for_import(node: Node) -> dict[str, Any]:
    """Return what the import step needs to know about a node, as JSON types."""
    inputs = {name: [value.kind, value.name, _plain(value.literal)] for name, value in node.inputs.items()}
    return {
        "name": node.name,
        "type": node.type,
        "package": node.package,
        "path": node.path if isinstance(node.path, str) else None,
        "tool": node.tool if isinstance(node.tool, str) else None,
        "connection": node.connection if isinstance(node.connection, str) else None,
        "api": node.data.get("api"),
        "conditional": node.conditional,
        "inputs": inputs,
        "variables": node.variables,
        "line": node.line,
    }


def _plain(value: Any) -> Any:
    """Return a YAML value in plain JSON types. The parser's strings and numbers, which remember their notation, are converted."""
    if isinstance(value, bool) or value is None:
        return value
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return str(value)
