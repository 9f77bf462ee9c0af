"""Finds the programs that this project's Python files start but `debian.py` does not list."""

import ast
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from localcluster import debian, paths

FOLDERS = ("tools", "tests", "bench", "operator/flowsession_agent", "operator/flowsession_cache", "operator/flowsession_protocol")
STARTERS = frozenset(
    {"run", "Popen", "call", "check_call", "check_output", "succeeds", "create_subprocess_exec", "which", "execv", "execvp", "execvpe"}
)
"""Functions whose first argument, or its first word, is a program. Functions that run something in a pod or container have other names."""

_MODULES = frozenset({"subprocess", "asyncio", "shutil", "os", "shell"})

_NAME = re.compile(r"[a-z][a-z0-9.+-]{0,40}")
_SEGMENT = re.compile(r"[;|&\n({`]")


def unlisted(root: Path = paths.CHECKOUT) -> list[str]:
    """Return `FILE:LINE: PROGRAM` for each start of an unlisted program."""
    known = debian.known()
    files = sorted(file for folder in FOLDERS for file in (root / folder).rglob("*.py"))
    found = ((file.relative_to(root), line, word) for file in files for line, word in started(file.read_text()))
    return [f"{file}:{line}: {word}" for file, line, word in found if word.rpartition("/")[2] not in known]


def started(source: str) -> Iterator[tuple[int, str]]:
    """Yield the programs that a Python source starts, with their lines.

    These are the words passed to one of STARTERS, and the first words of lists with options and of shell commands if they name programs
    of this machine.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and node.args and _called(node.func) in STARTERS:
            first = node.args[0]
            words = first.elts[:1] if isinstance(first, ast.List | ast.Tuple) else [first]
            yield from ((word.lineno, text) for word in words if (text := _text(word)) and _is_program_name(text))
        elif isinstance(node, ast.List) and any(_text(word).startswith("-") for word in node.elts):
            yield from ((node.lineno, text) for text in (_text(node.elts[0]),) if _is_here(text))
            yield from _of_shell(node)


def _of_shell(words: ast.List) -> Iterator[tuple[int, str]]:
    """Yield the first words of the commands in `["sh", "-c", SCRIPT]`."""
    texts = [_text(word) for word in words.elts]
    if len(texts) > 2 and texts[0] in ("sh", "bash") and texts[1] == "-c":
        segments = (segment.split() for segment in _SEGMENT.split(texts[2]))
        yield from ((words.lineno, segment[0]) for segment in segments if segment and _is_here(segment[0]))


def _called(function: ast.expr) -> str:
    """Return the function's name, or an empty string for a method of some object."""
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) and function.value.id in _MODULES:
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _text(node: ast.expr) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _is_program_name(text: str) -> bool:
    return text.startswith("/") or _NAME.fullmatch(text) is not None


def _is_here(text: str) -> bool:
    return _is_program_name(text) and shutil.which(text, path=debian.SEARCH) is not None
