"""Which inputs a flow has, told without running any of it. Prompt flow takes no notice of inputs that a flow hasn't got."""

from __future__ import annotations

import ast
import difflib
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SHOWN = 10


def unknown(flow: str, given: list[str]) -> str:
    """The sentence about the first of the `given` names that the flow in this file hasn't got; empty where it has all, or can't be told."""
    try:
        known = _known(flow)
    except Exception:  # whatever is wrong with the flow: prompt flow says it when it runs
        return ""
    name = next((name for name in given if name not in known), None) if known is not None else None
    if name is None or known is None:
        return ""
    said = f"The flow has no input {name!r}"
    if not known:
        return f"{said}: it has no inputs."
    near = difflib.get_close_matches(name, known, 1)
    names = f"{', '.join(known[:SHOWN])}{', ...' if len(known) > SHOWN else ''}"
    return f"{said}: {f'is {near[0]!r} meant? Its' if near else 'its'} inputs are {names}."


def _known(flow: str) -> list[str] | None:
    with open(flow, encoding="utf-8") as file:
        text = file.read()
    if flow.endswith(".prompty"):
        from flowsession_agent.check.prompty import PARTS

        match = PARTS.search(text)
        return _of_prompty(_parsed(match.group(1))) if match else None
    data = _parsed(text)
    if data.get("language", "python") != "python":
        return None
    own = list(data.get("inputs") or {})
    return own if "entry" not in data else _of_entry(os.path.dirname(flow), str(data["entry"]), own)


def _parsed(text: str) -> Any:
    from flowsession_agent.check import yaml_file

    return yaml_file.parse(text)


def _of_prompty(head: Any) -> list[str] | None:
    declared = head.get("inputs") or head.get("sample") or {}
    return list(map(str, declared)) if isinstance(declared, dict) else None


def _of_entry(folder: str, entry: str, own: list[str]) -> list[str] | None:
    """Return what the function or the class' `__call__` takes by its definition; None where that is elsewhere, or decorators change it."""
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
