"""Locations of type annotations in a source file, which are not mutated."""

import ast
from collections.abc import Iterable, Sequence

Span = tuple[tuple[int, int], tuple[int, int]]


def annotations(source: str) -> list[Span]:
    """Return where type annotations are: mypy reads them, but no test can detect a change."""
    nodes: list[ast.expr | None] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.AnnAssign | ast.arg):
            nodes.append(node.annotation)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            nodes.append(node.returns)
    return [((node.lineno, node.col_offset), (node.end_lineno or 0, node.end_col_offset or 0)) for node in nodes if node is not None]


def inside(span: Sequence[tuple[int, int]], spans: Iterable[Span]) -> bool:
    """Return whether a place is within one of them."""
    return any(start <= tuple(span[0]) and tuple(span[1]) <= end for start, end in spans)
