"""What an input's value refers to, as promptflow-core's InputAssignment reads it (1.18.5)."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LITERAL, FLOW_INPUT, NODE = "literal", "flow input", "node"
_PREFIXES = ("flow.", "inputs.")


class Value:
    """An input's value: a literal, the flow's input `name`, or the output of node `name`."""

    def __init__(self, kind: str, name: str = "", literal: Any = None) -> None:
        self.kind = kind
        self.name = name
        self.literal = literal

    @property
    def empty(self) -> bool:
        """Whether prompt flow treats the input as not given."""
        return self.kind == LITERAL and (self.literal is None or self.literal == "")


def parse(value: Any) -> Value:
    """Return what the value refers to."""
    if not isinstance(value, str) or not value.startswith("$") or len(value) <= 2 or value[1] != "{" or value[-1] != "}":
        return Value(LITERAL, literal=value)
    inner = value[2:-1]
    for prefix in _PREFIXES:
        if inner.startswith(prefix):
            return Value(FLOW_INPUT, inner[len(prefix) :])
    return Value(NODE, inner.partition(".")[0])
