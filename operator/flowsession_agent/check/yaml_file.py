"""Reads YAML with prompt flow's own parser, keeping line numbers."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LARGEST = 256 * 1024
"""Characters. More than an environment's flow file may have, since sessions edit theirs."""


class NotYaml(Exception):
    """The text is not YAML; `line` is where, from 1, or None."""

    def __init__(self, message: str, line: int | None) -> None:
        super().__init__(message)
        self.line = line


def parse(text: str) -> Any:
    """Return the document. Raises NotYaml, ImportError if the session has no ruamel.yaml, or ValueError if the text is too long."""
    from ruamel.yaml import YAML  # type: ignore[import-not-found,unused-ignore]
    from ruamel.yaml.error import YAMLError  # type: ignore[import-not-found,unused-ignore]

    if len(text) > LARGEST:
        raise ValueError(f"it has more than {LARGEST} characters")
    yaml = YAML()
    yaml.preserve_quotes = True
    try:
        return yaml.load(text)
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or getattr(error, "context", None) or str(error)
        raise NotYaml(str(problem).splitlines()[0], mark.line + 1 if mark else None) from None


def line_of(mapping: Any, key: str) -> int | None:
    """Return the line, from 1, of a mapping's key, or of the mapping itself if it lacks the key."""
    try:
        position = mapping.lc.key(key) if key in mapping else (mapping.lc.line, 0)
    except (AttributeError, KeyError, TypeError):
        return None
    return int(position[0]) + 1


def line_of_item(sequence: Any, number: int) -> int | None:
    """Return the line, from 1, of a list's item."""
    try:
        return int(sequence.lc.item(number)[0]) + 1
    except (AttributeError, KeyError, TypeError, IndexError):
        return None
