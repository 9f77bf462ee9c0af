"""Compares a node's inputs with its tool's parameters."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from flowsession_agent.check.findings import Findings
    from flowsession_agent.check.references import Value


NO_TOOL = "it has no function with @tool: add `from promptflow.core import tool` and put @tool above the function"


def several(names: list[str]) -> str:
    """Return the sentence about a file with more than one tool."""
    return f"it has {len(names)} tools ({', '.join(names)}), but must have one: move the others into files of their own"


class Parameters:
    """A function's parameters: names in order, those without a default, and whether it accepts any name."""

    def __init__(self, names: list[str], required: list[str], *, any_name: bool) -> None:
        self.names = names
        self.required = required
        self.any_name = any_name


def compare(
    name: str, conditional: bool, inputs: dict[str, Value], parameters: Parameters, path: str, line: int | None, found: Findings
) -> None:
    """Report inputs that a node's tool doesn't take, and missing required ones, unless the node is conditional and may never run."""
    for given, value in inputs.items():
        if given not in parameters.names and not parameters.any_name and not value.empty:
            takes = f"it takes {', '.join(parameters.names)}" if parameters.names else "it takes none"
            message = f"its tool takes no input {given!r} ({takes}): rename or remove it in the node, or add it to the function"
            found.problem("UnexpectedInput", message, file=path, line=line, node=name)
    missing = [wanted for wanted in parameters.required if wanted not in inputs or inputs[wanted].empty]
    if missing and not conditional:
        message = f"its tool needs the input{'s' if len(missing) > 1 else ''} {', '.join(map(repr, missing))}, which the node does not give"
        found.problem("MissingInput", f"{message}: add to its inputs, or give the parameter a default", file=path, line=line, node=name)
