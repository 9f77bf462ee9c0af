"""Names in a flow folder. Which file is the flow, and of which kind: as promptflow-core's `resolve_flow_path` (1.18.5) has it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Container, Iterable

DAG = ("flow.dag.yaml", "flow.dag.yml")
FLEX = ("flow.flex.yaml", "flow.flex.yml")
PROMPTY = ".prompty"

MOVED_ASIDE = ".kept"
"""What a session appends to the name of a file that had to give way to another one; a number follows where that name is taken."""


def candidates(names: Iterable[str]) -> list[str]:
    """The flow files among a folder's `names`, by their order of precedence; without any, its prompty, if it has just one."""
    names = set(names)
    found = [name for name in (*DAG, *FLEX) if name in names]
    prompties = [name for name in names if name.endswith(PROMPTY) and "/" not in name]
    return found or (prompties if len(prompties) == 1 else [])


def kind(name: str, keys: Container[str]) -> str:
    """`dag`, `flex` or `prompty`. What makes a flex flow for prompt flow is the key `entry`, whatever the file's name."""
    if name.endswith(PROMPTY):
        return "prompty"
    return "flex" if "entry" in keys or (name in FLEX and "nodes" not in keys) else "dag"


def kind_of(value: object) -> str:
    """Return what a value that was read from YAML is, in a person's words; parsers have subclasses of lists, mappings and numbers."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "true or false"
    words = ((list, "a list"), (dict, "a mapping"), (str, "a text"), ((int, float), "a number"))
    return next((word for kind, word in words if isinstance(value, kind)), f"a {type(value).__name__}")
