"""Checks flow.dag.yaml: its form, names and references, by the rules of prompt flow's executor and `flow test` (1.18.5)."""

from __future__ import annotations

import os

from flowsession_agent.check import references
from flowsession_agent.check.references import FLOW_INPUT, NODE
from flowsession_agent.check.yaml_file import line_of, line_of_item
from flowsession_protocol.flow_files import kind_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from flowsession_agent.check.findings import Findings
    from flowsession_agent.check.references import Value

TOOL_TYPES = ("llm", "python", "prompt", "custom_llm")
OTHER_TOOL_TYPES = ("csharp", "action")
"""Types that prompt flow knows, but runs elsewhere or not at all."""

VALUE_TYPES = frozenset(
    ["int", "double", "bool", "string", "secret", "prompt_template", "list", "object", "file_path", "image", "assistant_definition"]
)  # fmt: skip


class Node:
    """A node as it runs: in its default variant."""

    def __init__(self, name: str, data: Any, line: int | None) -> None:
        source = data.get("source")
        self.name = name
        self.line = line
        self.data = data
        self.type = data.get("type")
        self.source: Any = source if isinstance(source, dict) else {}
        self.path: Any = self.source.get("path")
        self.tool: Any = self.source.get("tool")
        self.package = self.source.get("type") in ("package", "package_with_prompt")
        self.connection = data.get("connection")
        self.aggregation = bool(data.get("aggregation") or data.get("reduce"))
        self.variables: list[str] = []
        """Variables of its template, if it has a readable one."""
        inputs = data.get("inputs")
        self.inputs: dict[str, Value] = {str(key): references.parse(value) for key, value in (inputs or {}).items()}
        activate = data.get("activate")
        self.conditional = isinstance(activate, dict)
        self.condition: Value | None = references.parse(activate.get("when")) if isinstance(activate, dict) else None


class Dag:
    """The flow's file, checked part by part. `nodes` are those that can be checked further."""

    def __init__(self, file: str, folder: str, data: Any, findings: Findings) -> None:
        self._file = file
        self._folder = folder
        self._data = data
        self._findings = findings
        self.nodes: list[Node] = []
        self.inputs: set[str] = set()

    def check(self) -> None:
        """Report all problems of the file itself."""
        self._check_inputs()
        listed = self._data.get("nodes")
        if "nodes" not in self._data or not isinstance(listed, (list, type(None))):
            self._report("Schema", f"nodes is {kind_of(listed)}, but must be a list", line=line_of(self._data, "nodes"))
            return
        for number, entry in enumerate(listed or ()):
            self._take(entry, line_of_item(listed, number))
        self._findings.nodes = len(listed or ())
        names: set[str] = set()
        for node in self.nodes:
            if node.name in names:
                self._report("DuplicateNode", f"there are two nodes named {node.name!r}: rename one of them", node=node)
            names.add(node.name)
            self._check_source(node)
        if len(self.nodes) == self._findings.nodes:  # else a reference to an unreadable node would look like one to a missing node
            self._check_references(names)
        self._check_outputs(names)

    def _check_inputs(self) -> None:
        inputs = self._data.get("inputs") or {}
        if not isinstance(inputs, dict):
            self._report("Schema", f"inputs is {kind_of(inputs)}, but must be a mapping", line=line_of(self._data, "inputs"))
            return
        self.inputs = set(map(str, inputs))
        for name, definition in inputs.items():
            self._check_definition("input", name, definition, inputs)

    def _check_definition(self, what: str, name: object, definition: Any, where: Any) -> bool:
        line = line_of(where, name)  # type: ignore[arg-type]
        if not isinstance(definition, dict):
            self._report("Schema", f"{what} {name!r} is {kind_of(definition)}, but must be a mapping with a type", line=line)
        elif "type" not in definition:
            self._report("Schema", f"{what} {name!r} has no type: give it one, such as string", line=line)
        elif not isinstance(definition["type"], str) or definition["type"] not in VALUE_TYPES:
            known = ", ".join(sorted(VALUE_TYPES))
            self._report("Schema", f"{what} {name!r} has the type {definition['type']!r}, which is none of {known}", line=line)
        else:
            return True
        return False

    def _take(self, entry: Any, line: int | None) -> None:
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            self._report("Schema", f"a node is {kind_of(entry)} or has no name: it must be a mapping with name, type and source", line=line)
            return
        name = entry["name"]
        data = self._variant(name, line) if entry.get("use_variants") else entry
        if data is None:
            return
        for key in ("inputs", "source", "activate"):
            if not isinstance(data.get(key), (dict, type(None))):
                where = line_of(data, key) or line
                self._report("Schema", f"its {key} is {kind_of(data[key])}, but must be a mapping", line=where, name=name)
                return
        node = Node(name, data, line)
        if "activate" in data and not (node.conditional and {"when", "is"} <= set(data["activate"])):
            self._report("Schema", "its activate needs both when and is", line=line_of(data, "activate"), name=name)
        self.nodes.append(node)

    def _variant(self, name: str, line: int | None) -> Any:
        """Return the node's definition in its default variant, or None after reporting why it can't be found."""
        known = (self._data.get("node_variants") or {}).get(name) if isinstance(self._data.get("node_variants"), dict) else None
        if not isinstance(known, dict):
            self._report("Variant", "it uses variants, but node_variants has none for it", line=line, name=name)
            return None
        default, variants = known.get("default_variant_id"), known.get("variants")
        found = variants.get(default) if isinstance(variants, dict) else None
        if not isinstance(found, dict) or not isinstance(found.get("node"), dict):
            message = f"its default variant {default!r} is not among its variants" if default else "it has no default_variant_id"
            self._report("Variant", message, line=line_of(self._data["node_variants"], name), name=name)
            return None
        return found["node"]

    def _check_source(self, node: Node) -> None:
        if node.type in OTHER_TOOL_TYPES:
            self._findings.leave(f"node {node.name!r} is of type {node.type}, which is not checked")
        elif not node.type or node.type not in TOOL_TYPES:
            message = f"its type {node.type!r} is none of" if node.type else "it has no type: give it one of"
            self._report("Schema", f"{message} {', '.join(TOOL_TYPES)}", node=node, line=line_of(node.data, "type"))
        elif not node.source:
            self._report("SourceMissing", "it has no source: name its file by source: {type: code, path: FILE}", node=node)
        elif node.package and node.type in ("python", "custom_llm"):
            if not isinstance(node.tool, str):
                self._report("Schema", "its source names no tool: source.tool must be the name of a package's tool", node=node)
        elif not isinstance(node.path, str) or not node.path:
            self._report("SourceMissing", "its source names no file: set source.path", node=node)
        elif not os.path.isfile(os.path.join(self._folder, node.path)):
            line = line_of(node.source, "path")
            self._report(
                "SourceMissing", f"its file {node.path!r} is not in the flow folder: add it, or correct source.path", node=node, line=line
            )

    def _check_references(self, names: set[str]) -> None:
        aggregating = {node.name for node in self.nodes if node.aggregation}
        needs: dict[str, set[str]] = {node.name: set() for node in self.nodes}
        for node in self.nodes:
            for key, value in [*node.inputs.items(), *([("activate", node.condition)] if node.condition else [])]:
                line = line_of(node.data.get("inputs") or {}, key) if key != "activate" else line_of(node.data, "activate")
                if value.kind == FLOW_INPUT and value.name not in self.inputs and (key in node.inputs):
                    text = f"its input {key!r} refers to the flow's input {value.name!r}, which there is not"
                    self._report("UnknownInput", f"{text}; {_known('inputs', self.inputs)}", node=node, line=line)
                elif value.kind == NODE and value.name not in names:
                    text = f"its {'activate' if key == 'activate' else f'input {key!r}'} refers to node {value.name!r}, which there is not"
                    self._report("UnknownNode", f"{text}; {_known('other nodes', names - {node.name})}", node=node, line=line)
                elif value.kind == NODE:
                    needs[node.name].add(value.name)
                    if value.name in aggregating and not node.aggregation:
                        text = f"it refers to {value.name!r}, which aggregates over all lines: only aggregation nodes may"
                        self._report("AggregationReference", text, node=node, line=line)
        for circle in _circles(needs):
            first = next(node for node in self.nodes if node.name == circle[0])
            self._report("Cycle", f"nodes refer to each other in a circle: {' -> '.join([*circle, circle[0]])}", node=first)

    def _check_outputs(self, names: set[str]) -> None:
        outputs = self._data.get("outputs") or {}
        if not isinstance(outputs, dict):
            self._report("Schema", f"outputs is {kind_of(outputs)}, but must be a mapping", line=line_of(self._data, "outputs"))
            return
        complete = len(self.nodes) == self._findings.nodes
        for name, definition in outputs.items():
            if not self._check_definition("output", name, definition, outputs):
                continue
            value, line = references.parse(definition.get("reference", "")), line_of(definition, "reference")
            if value.kind == references.LITERAL and value.literal == "":
                self._report("EmptyOutput", f"output {name!r} has no reference: name a node's output, such as ${{node.output}}", line=line)
            elif value.kind == FLOW_INPUT and value.name not in self.inputs:
                message = f"output {name!r} refers to the flow's input {value.name!r}, which there is not"
                self._report("UnknownInput", f"{message}; {_known('inputs', self.inputs)}", line=line)
            elif value.kind == NODE and value.name not in names and complete:
                message = f"output {name!r} refers to node {value.name!r}, which there is not"
                self._report("UnknownNode", f"{message}; {_known('nodes', names)}", line=line)

    def _report(self, code: str, message: str, *, line: int | None = None, node: Node | None = None, name: str = "") -> None:
        where = line if line is not None or node is None else node.line
        self._findings.problem(code, message, file=self._file, line=where, node=node.name if node else name)


def _known(what: str, names: set[str]) -> str:
    if not names:
        return f"the flow has no {what}"
    listed = sorted(names)
    return f"the {what} are {', '.join(listed[:10])}{', ...' if len(listed) > 10 else ''}"


def _circles(needs: dict[str, set[str]]) -> list[list[str]]:
    """Return one cycle for each group of nodes that can't run in any order."""
    left = {name: set(others) for name, others in needs.items()}
    while done := {name for name, others in left.items() if not others & left.keys()}:
        left = {name: others for name, others in left.items() if name not in done}
    found: list[list[str]] = []
    seen: set[str] = set()
    for start in left:
        name, path = start, list[str]()
        while name not in seen:
            seen.add(name)
            path.append(name)
            name = min(left[name] & left.keys())
        if name in path:
            found.append(path[path.index(name) :])
    return found
