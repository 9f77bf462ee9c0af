"""Reads the flow's Python files without running them: syntax, the tool function and its parameters, and modules that can't be found.

Reports only what is certain. What code may decide at run time is left to the import step.
"""

from __future__ import annotations

import ast
import importlib.util
import os

from flowsession_agent.check import trouble
from flowsession_agent.check.advice import missing
from flowsession_agent.check.signature import Parameters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from flowsession_agent.check.findings import Findings

LARGEST = 2 * 1024 * 1024
IMPORT_PATH_CHANGES = (
    "sys.path",
    "__package__",
    "sys.modules",
    "meta_path",
    "site.",
    "importlib",
    "__import__",
    "pkgutil",
    "subprocess",
    "exec(",
)
"""Text in a file that may make further modules importable."""


class Script:
    """One parsed file."""

    def __init__(self, path: str, text: str, tree: ast.Module) -> None:
        self.path = path
        self.text = text
        self.tree = tree


class Scripts:
    """The flow folder's Python files, each read once."""

    def __init__(self, folder: str, findings: Findings) -> None:
        self._folder = folder
        self._findings = findings
        self._scripts: dict[str, Script | None] = {}
        self._missing: set[tuple[str, str]] = set()

    def read(self, path: str, *, node: str = "") -> Script | None:
        """Return a file of the folder, or None if it can't be read or isn't Python. The latter is reported."""
        if path not in self._scripts:
            self._scripts[path] = self._parse(path, node)
        return self._scripts[path]

    def check_imports(self, path: str, *, node: str = "") -> None:
        """Report imports that will fail when this file is imported: its own, and those of the folder's modules that it imports."""
        reached = self._reached(path, node)
        if any(word in script.text for script in reached for word in IMPORT_PATH_CHANGES):
            return
        for script in reached:
            if "/" not in script.path or script.path == path:  # prompt flow loads a flow's file by itself, not as part of a package
                for written, line in _relative(script.tree):
                    self._findings.problem(trouble.RELATIVE, trouble.relative(written), file=script.path, line=line, node=node)
            for name, line in _imported(script.tree):
                top = name.partition(".")[0]
                if (script.path, top) not in self._missing and not self._findable(name):
                    self._missing.add((script.path, top))
                    self._findings.problem("ModuleMissing", missing(name, self._folder), file=script.path, line=line, node=node)

    def _reached(self, path: str, node: str) -> list[Script]:
        """Return the file and the folder's own modules that it imports unconditionally, directly or indirectly."""
        found: dict[str, Script] = {}
        todo = [path]
        while todo:
            script = self.read(todo.pop(), node=node)
            if script is None or script.path in found:
                continue
            found[script.path] = script
            for name, _ in _imported(script.tree):
                top = name.partition(".")[0]
                todo += [own for own in (f"{top}.py", f"{top}/__init__.py") if os.path.isfile(os.path.join(self._folder, own))]
        return list(found.values())

    def _findable(self, name: str) -> bool:
        top = name.partition(".")[0]
        if os.path.exists(os.path.join(self._folder, top)) or any(entry.startswith(f"{top}.") for entry in os.listdir(self._folder)):
            return True
        try:
            return importlib.util.find_spec(top) is not None
        except (ImportError, ValueError, AttributeError):
            return True  # odd, but not for this check to report

    def _parse(self, path: str, node: str) -> Script | None:
        try:
            with open(os.path.join(self._folder, path), "rb") as file:
                content = file.read(LARGEST + 1)
            if len(content) > LARGEST:
                return None
            tree = ast.parse(content, filename=path)
            return Script(path, content.decode("utf-8", errors="replace"), tree)
        except SyntaxError as error:
            self._findings.problem("SyntaxError", f"not Python: {error.msg}", file=path, line=error.lineno, node=node)
        except ValueError as error:
            self._findings.problem("SyntaxError", f"not Python: {error}", file=path, node=node)
        except (OSError, RecursionError, MemoryError):
            pass
        return None


def has_no_tool(script: Script) -> bool:
    """Return whether the file can't hold a tool: nothing in it refers to prompt flow's `tool` or `ToolProvider`, or could indirectly."""
    for item in ast.walk(script.tree):
        if isinstance(item, ast.alias) and item.name in ("tool", "ToolProvider", "*"):
            return False
        if isinstance(item, (ast.Name, ast.Attribute)):
            name = item.id if isinstance(item, ast.Name) else item.attr
            if name in ("tool", "ToolProvider", "exec", "globals", "setattr"):
                return False
    return True


def tool_functions(script: Script) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Return the functions that are certainly tools: at the top level, with prompt flow's own decorator, and of a unique name."""
    aliases = {
        alias.asname or alias.name
        for item in script.tree.body
        if isinstance(item, ast.ImportFrom) and (item.module or "").partition(".")[0] == "promptflow" and not item.level
        for alias in item.names
        if alias.name == "tool"
    }
    bound = [item.name for item in script.tree.body if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))]
    return [
        item
        for item in script.tree.body
        if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef))
        and any(_name_of(decorator) in aliases for decorator in item.decorator_list)
        and bound.count(item.name) == 1
    ]


def parameters_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Parameters | None:
    """Return a tool function's parameters; None if they are uncertain, as with further decorators."""
    if len(function.decorator_list) != 1:
        return None
    arguments = function.args
    if arguments.posonlyargs or arguments.vararg:
        return None
    names = [argument.arg for argument in arguments.args]
    required = names[: len(names) - len(arguments.defaults)]
    for number, argument in enumerate(arguments.kwonlyargs):
        names.append(argument.arg)
        if arguments.kw_defaults[number] is None:
            required.append(argument.arg)
    return Parameters(names, required, any_name=arguments.kwarg is not None)


def _name_of(decorator: ast.expr) -> str:
    function = decorator.func if isinstance(decorator, ast.Call) else decorator
    return function.id if isinstance(function, ast.Name) else ""


def _imported(tree: ast.Module) -> list[tuple[str, int]]:
    """Return the modules that are imported unconditionally: at the top level, not within `try`, `if` or `def`."""
    found = []
    for item in tree.body:
        if isinstance(item, ast.Import):
            found += [(alias.name, item.lineno) for alias in item.names]
        elif isinstance(item, ast.ImportFrom) and item.module and not item.level:
            found.append((item.module, item.lineno))
    return found


def _relative(tree: ast.Module) -> list[tuple[str, int]]:
    """Return the relative imports at the file's top level, as source text, with their lines."""
    return [(ast.unparse(item), item.lineno) for item in tree.body if isinstance(item, ast.ImportFrom) and item.level]
