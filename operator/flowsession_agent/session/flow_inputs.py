"""Find which inputs, nodes and variants a flow has without running it. Prompt flow ignores inputs that a flow doesn't have."""

from __future__ import annotations

import ast
import difflib
import os
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SHOWN = 10
REFERENCE = re.compile(r"\s*\$\{(.+)\}\s*$")


def refusal(flow: str, given: list[str], *, node: str = "", variant: str = "") -> dict[str, str] | None:
    """Return `code` and `message` about the first name that the flow in this file lacks; None if it lacks none, or that is unknown."""
    try:
        if node and (message := _unknown_node(flow, node)):
            return {"code": "UnknownNode", "message": message}
        if variant and (message := _unknown_variant(flow, variant)):
            return {"code": "UnknownVariant", "message": message}
        known = _of_node(flow, node) if node else _known(flow)
    except Exception:  # a broken flow: prompt flow reports it when the flow runs
        return None
    name = next((name for name in given if name not in known), None) if known is not None else None
    if name is None or known is None:
        return None
    whose = f"The node {node!r}" if node else "The flow"
    return {"code": "UnknownInput", "message": unknown(f"{whose} has no input {name!r}", name, known, "inputs")}


def unknown(message: str, name: str, known: list[str], what: str) -> str:
    """Return the message with the closest of the known names, and the first ten. `what`: the noun for them, in the plural."""
    if not known:
        return f"{message}: it has no {what}."
    near = difflib.get_close_matches(name, known, 1)
    names = f"{', '.join(known[:SHOWN])}{', ...' if len(known) > SHOWN else ''}"
    return f"{message}: {f'is {near[0]!r} meant? Its' if near else 'its'} {what} are {names}."


def _unknown_node(flow: str, node: str) -> str:
    known = [str(found.get("name")) for found in declared(flow).get("nodes") or ()]
    return "" if node in known else unknown(f"The flow has no node {node!r}", node, known, "nodes")


def _unknown_variant(flow: str, variant: str) -> str:
    variants = declared(flow).get("node_variants") or {}
    known = [f"${{{node}.{name}}}" for node, found in variants.items() for name in found.get("variants") or ()]
    return "" if variant in known else unknown(f"The flow has no variant {variant!r}", variant, known, "variants")


def _of_node(flow: str, node: str) -> list[str]:
    """Return the names by which prompt flow accepts a node's inputs: their own, and the references that they are bound to."""
    data = declared(flow)
    found = next(found for found in data["nodes"] if found.get("name") == node)
    if found.get("use_variants"):
        chosen = data["node_variants"][node]
        found = chosen["variants"][chosen["default_variant_id"]]["node"]
    inputs = found.get("inputs") or {}
    bound = [match.group(1) for value in inputs.values() if isinstance(value, str) and (match := REFERENCE.match(value))]
    return [*map(str, inputs), *bound]


def _known(flow: str) -> list[str] | None:
    if flow.endswith(".prompty"):
        head = _head(_text(flow))
        return _of_prompty(_parsed(head)) if head else None
    data = declared(flow)
    if data.get("language", "python") != "python":
        return None
    own = list(data.get("inputs") or {})
    return own if "entry" not in data else _of_entry(os.path.dirname(flow), str(data["entry"]), own)


def declared(flow: str) -> dict[str, Any]:
    """Return the content of the flow's file, for a prompty its front matter. Raises any error of reading or parsing it."""
    text = _text(flow)
    data = _parsed(_head(text) if flow.endswith(".prompty") else text)
    return data if isinstance(data, dict) else {}


def _text(flow: str) -> str:
    with open(flow, encoding="utf-8") as file:
        return file.read()


def _head(text: str) -> str:
    from flowsession_agent.check.prompty import PARTS

    match = PARTS.search(text)
    return match.group(1) if match else ""


def _parsed(text: str) -> Any:
    from flowsession_agent.check import yaml_file

    return yaml_file.parse(text)


def _of_prompty(head: Any) -> list[str] | None:
    declared = head.get("inputs") or head.get("sample") or {}
    return list(map(str, declared)) if isinstance(declared, dict) else None


def _of_entry(folder: str, entry: str, own: list[str]) -> list[str] | None:
    """Return the parameters of the function or the class's `__call__`; None if it is defined elsewhere, or decorators change them."""
    module, _, name = entry.partition(":")
    with open(os.path.join(folder, f"{module.replace('.', '/')}.py"), "rb") as file:
        body: list[ast.stmt] = ast.parse(file.read()).body
    found = [item for item in body if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and item.name == name]
    bound = len(found) == 1 and isinstance(found[0], ast.ClassDef)
    if bound and isinstance(found[0], ast.ClassDef):
        found = [item for item in found[0].body if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef)) and item.name == "__call__"]
    if len(found) != 1 or isinstance(found[0], ast.ClassDef) or not all(map(_is_trace, found[0].decorator_list)):
        return None
    arguments = found[0].args
    names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return list(dict.fromkeys([*names[bound:], *map(str, own)]))


def _is_trace(decorator: ast.expr) -> bool:
    return (isinstance(decorator, ast.Name) and decorator.id == "trace") or (
        isinstance(decorator, ast.Attribute) and decorator.attr == "trace"
    )
