"""Checks a flow's tools with prompt flow's own loaders (promptflow-core 1.18.5): the function, its inputs and their types."""

from __future__ import annotations

import inspect
import os

from flowsession_agent.check import references
from flowsession_agent.check.advice import missing
from flowsession_agent.check.package_tools import why_not
from flowsession_agent.check.signature import NO_TOOL, Parameters, compare, several

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from flowsession_agent.check.connections import Connections
    from flowsession_agent.check.findings import Findings


class Tools:
    """The tools of one flow. `load` returns a file's module, or None after reporting why it can't."""

    def __init__(self, folder: str, found: Findings, load: Callable[[str, str], Any], known_connections: Connections) -> None:
        self._folder = folder
        self._found = found
        self._load = load
        self._connections = known_connections
        self._modules: dict[str, Any] = {}

    def script(self, node: dict[str, Any]) -> None:
        """Report what is wrong with the tool in a node's own file."""
        from promptflow._core import tool_meta_generator as upstream  # type: ignore[import-not-found,unused-ignore]

        module = self._module(node["path"], node["name"])
        if module is None:
            return
        try:
            function, initial = upstream.collect_tool_function_in_module(module)
            tool = upstream._parse_tool_from_function(function, initial, gen_custom_type_conn=True)
        except upstream.NoToolDefined:
            self._report("NoTool", NO_TOOL, node)
            return
        except upstream.MultipleToolsDefined:
            found = upstream.collect_tool_functions_in_module(module) + upstream.collect_tool_methods_in_module(module)
            self._report("SeveralTools", several(sorted(tool.__name__ for tool in found)), node)
            return
        except upstream.BadFunctionInterface as error:
            self._report("BadInterface", f"{error}", node)
            return
        self._compare(node, function, tool, node["path"])

    def packages(self, nodes: list[dict[str, Any]], file: str) -> None:
        """Report missing package tools, and wrong inputs of the others."""
        if not nodes:
            return
        from promptflow._core.tools_manager import ToolLoader  # type: ignore[import-not-found,unused-ignore]
        from promptflow.exceptions import PromptflowException  # type: ignore[import-not-found,unused-ignore]

        wanted = [node["tool"] for node in nodes]
        loader = ToolLoader(self._folder, wanted)
        for node in nodes:
            try:
                tool = loader.load_package_tool(node["tool"])
                module = __import__(tool.module, fromlist=["_"])
                function = getattr(getattr(module, tool.class_name) if tool.class_name else module, tool.function)
            except (PromptflowException, ImportError, AttributeError):
                message = why_not(node["tool"], wanted, self._folder)
                self._found.problem("PackageToolMissing", message, file=file, line=node["line"], node=node["name"])
                continue
            self._compare(node, function, tool, file)

    def prompts(self, nodes: list[dict[str, Any]], file: str) -> None:
        """Report what is wrong with llm and prompt nodes, apart from their templates."""
        if not nodes:
            return
        try:
            from promptflow.tools import aoai, openai, template_rendering  # type: ignore[import-not-found,unused-ignore] # noqa: F401
        except ImportError as error:
            for node in nodes:
                self._found.problem(
                    "ModuleMissing",
                    missing(error.name or "promptflow.tools", self._folder),
                    file=file,
                    line=node["line"],
                    node=node["name"],
                )
            return
        from promptflow._core.tools_manager import apis  # type: ignore[import-not-found,unused-ignore]

        for node in nodes:
            kind = self._connections.type_of(node["connection"])
            providers = {name.partition(".")[0] for name in apis if _same(name.partition(".")[0], kind)}
            if node["type"] != "llm" or not kind:
                continue
            offered = sorted(name.partition(".")[2] for name in apis if name.partition(".")[0] in providers)
            if not providers:
                if not _same(kind, "Serverless"):  # which prompt flow treats as OpenAI's
                    message = f"its connection {node['connection']!r} is of type {kind}, which no model is called by: name another one"
                    self._found.problem("ConnectionType", message, file=file, line=node["line"], node=node["name"])
            elif node["api"] not in offered:
                message = f"its api {node['api']!r} is none of {', '.join(offered)}, which {providers.pop()} has"
                self._found.problem("UnknownApi", message, file=file, line=node["line"], node=node["name"])
            else:
                self._call(node, f"{providers.pop()}.{node['api']}", file)

    def _call(self, node: dict[str, Any], api: str, file: str) -> None:
        """Report wrong inputs of a model's call. Its template's variables and its parameters share one namespace."""
        from promptflow._core.tools_manager import BuiltinsManager  # type: ignore[import-not-found,unused-ignore]

        tool = BuiltinsManager._load_llm_api(api)
        both = sorted(set(node["variables"]) & set(tool.inputs))
        if both:
            text = f"its variable{'s' if len(both) > 1 else ''} {', '.join(map(repr, both))} {'are' if len(both) > 1 else 'is'} a parameter"
            way = "give the variable another name, in the template and in the node's inputs"
            self._found.problem("ReservedName", f"{text} of {api}, which prompt flow refuses: {way}", file=node["path"], node=node["name"])
        for name, (value_kind, _, literal) in node["inputs"].items():
            if value_kind == references.LITERAL and literal not in (None, "") and name in tool.inputs:
                self._literal(node, name, literal, tool.inputs[name], file, node["line"])

    def _module(self, path: str, node: str) -> Any:
        if path not in self._modules:
            self._modules[path] = self._load(path, node)
        return self._modules[path]

    def _compare(self, node: dict[str, Any], function: Any, tool: Any, file: str) -> None:
        inputs = {name: references.Value(kind, to, literal) for name, (kind, to, literal) in node["inputs"].items()}
        original = getattr(function, "__original_function", function)
        parameters = _parameters(original, tool)
        line = original.__code__.co_firstlineno if hasattr(original, "__code__") and not node["package"] else node["line"]
        if parameters is not None:
            compare(node["name"], node["conditional"], inputs, parameters, file, line, self._found)
        for name, value in inputs.items():
            if value.kind == references.LITERAL and not value.empty and name in tool.inputs:
                self._literal(node, name, value.literal, tool.inputs[name], file, line)

    def _literal(self, node: dict[str, Any], name: str, value: Any, definition: Any, file: str, line: int | None) -> None:
        """Report a literal input in the flow's file that prompt flow can't convert to the type that the tool declares."""
        from promptflow.contracts.tool import ConnectionType, ValueType  # type: ignore[import-not-found,unused-ignore]

        kind = definition.type[0]
        if ConnectionType.is_connection_class_name(kind):
            if trouble := self._connections.trouble(value):
                self._found.problem(trouble[0], f"its input {name!r}: {trouble[1]}", file=file, line=line, node=node["name"])
        elif kind is ValueType.ASSISTANT_DEFINITION:
            if isinstance(value, str) and not os.path.isfile(os.path.join(self._folder, value)):
                message = f"its input {name!r} names the file {value!r}, which is not in the flow folder"
                self._found.problem("SourceMissing", message, file=file, line=line, node=node["name"])
        elif isinstance(kind, ValueType) and kind is not ValueType.IMAGE:
            try:
                kind.parse(value)
            except Exception:
                message = f"its input {name!r} is {value!r}, which is no {kind.value}: correct it, or the parameter's annotation"
                self._found.problem("InputType", message, file=file, line=line, node=node["name"])

    def _report(self, code: str, message: str, node: dict[str, Any]) -> None:
        self._found.problem(code, message, file=node["path"], line=1, node=node["name"])


def _same(one: str, other: str) -> bool:
    """Return whether two names mean the same connection type: AzureOpenAI, azure_open_ai, AzureOpenAIConnection."""
    return one.replace("_", "").lower().removesuffix("connection") == other.replace("_", "").lower().removesuffix("connection")


def is_entry(found: object) -> bool:
    """Return whether prompt flow accepts it as a flex flow's entry."""
    return inspect.isfunction(found) or (inspect.isclass(found) and callable(found) and "__call__" in dir(found))


def is_entry_of(module: Any, name: str) -> bool:
    """Return whether a name that the module itself defines could be the entry."""
    found = getattr(module, name, None)
    return not name.startswith("_") and is_entry(found) and getattr(found, "__module__", "") == module.__name__


def _parameters(function: Any, tool: Any) -> Parameters | None:
    """Return the tool's parameters, including those of its class's constructor; None if they can't be determined."""
    try:
        signature = inspect.signature(function, follow_wrapped=False)  # of what is called, whatever its __wrapped__ says
    except (TypeError, ValueError):
        return None
    own = [parameter for parameter in signature.parameters.values() if parameter.name != "self"]
    if any(parameter.kind in (parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY) for parameter in own):
        return None
    any_name = any(parameter.kind is parameter.VAR_KEYWORD for parameter in own)
    own = [parameter for parameter in own if parameter.kind is not parameter.VAR_KEYWORD]
    template = [parameter.name for parameter in own if getattr(parameter.annotation, "__name__", "") == "PromptTemplate"]
    names = [parameter.name for parameter in own]
    required = [parameter.name for parameter in own if parameter.default is parameter.empty and parameter.name not in template]
    names += [name for name in tool.inputs or {} if name not in names]  # those of the class's constructor
    return Parameters(names, required, any_name=any_name)
