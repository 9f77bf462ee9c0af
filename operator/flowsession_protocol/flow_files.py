"""Names in a flow folder: which file is the flow, and of which kind, by the rules of promptflow-core's `resolve_flow_path` (1.18.5)."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Container, Iterable

DAG = ("flow.dag.yaml", "flow.dag.yml")
FLEX = ("flow.flex.yaml", "flow.flex.yml")
PROMPTY = ".prompty"

MOVED_ASIDE = ".kept"
"""Suffix that a session appends to the name of a file that another one displaces, followed by a number if that name is taken."""


def candidates(names: Iterable[str]) -> list[str]:
    """Return the flow files among a folder's `names` in order of precedence. If there are none, return its prompty, if it has exactly
    one."""
    names = set(names)
    found = [name for name in (*DAG, *FLEX) if name in names]
    prompties = [name for name in names if name.endswith(PROMPTY) and "/" not in name]
    return found or (prompties if len(prompties) == 1 else [])


def kind(name: str, keys: Container[str]) -> str:
    """Return `dag`, `flex` or `prompty`. For prompt flow, the key `entry` makes a flex flow, whatever the file's name."""
    if name.endswith(PROMPTY):
        return "prompty"
    return "flex" if "entry" in keys or (name in FLEX and "nodes" not in keys) else "dag"


def kind_of(value: object) -> str:
    """Return the kind of a value read from YAML, in words for people. Parsers return subclasses of lists, mappings and numbers."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "true or false"
    words = ((list, "a list"), (dict, "a mapping"), (str, "a text"), ((int, float), "a number"))
    return next((word for kind, word in words if isinstance(value, kind)), f"a {type(value).__name__}")
