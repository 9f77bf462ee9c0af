"""The part of the check that imports the flow's tools, as prompt flow's executor would. Runs in the session's Python, not in the agent's.

`imports FOLDER FINDINGS RESULT`: adds its findings to those of reading, and writes both. The working folder is a copy of the flow's. If the
process ends midway, the result names the file that was being imported.
"""

from __future__ import annotations

import gc
import json
import os
import sys

from flowsession_agent.check import connections, findings, tools
from flowsession_agent.check.findings import Findings
from flowsession_agent.check.tools import Tools
from flowsession_agent.check.trouble import RELATIVE, describe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NICENESS = 15
PLACEHOLDER = "flowsession-check"
"""Stands for values of connections in environment variables: no service is called here."""


def main() -> None:
    """Import the flow's tools and write the findings."""
    folder, given, target = sys.argv[1:]
    os.nice(NICENESS)
    with open(given, encoding="utf-8") as file:
        members = json.load(file)
    found, work = Findings.remembered(members), members["work"]
    sys.path.insert(0, folder)
    for name, value in (work.get("environment") or {}).items():
        os.environ[name] = PLACEHOLDER if value.startswith("${") else value
    check = Import(folder, work, found, target)
    gc.disable()  # imports leave no garbage, and looking for it would take a fifth of the time
    try:
        check.run()
    except Exception as error:  # prompt flow's internals may be another version's
        found.leave(f"prompt flow could not look at it: {type(error).__name__}: {error}")
    check.save()
    sys.stdout.flush()
    os._exit(0)  # what tools started on import must not hold up the check


class Import:
    """The import check of one flow."""

    def __init__(self, folder: str, work: dict[str, Any], found: Findings, target: str) -> None:
        self._folder = folder
        self._work = work
        self._found = found
        self._target = target
        self._guessed = any(value.startswith("${") for value in (work.get("environment") or {}).values())

    def run(self) -> None:
        """Check every tool. Raises what prompt flow itself raises when it isn't as expected."""
        if self._work["kind"] == "dag":
            self._dag()
        else:
            self._loaded()
            if self._work["kind"] == "flex":
                self._entry()

    def save(self, *, doing: str = "") -> None:
        """Write the findings so far. `doing` is the file whose import begins now."""
        findings.write(self._target, {**self._found.members(), "doing": doing})

    def _dag(self) -> None:
        known = connections.known(os.environ)
        inspected = Tools(self._folder, self._found, self._module, known)
        for node in self._work["nodes"]:
            if node["type"] == "python" and not node["package"]:
                self._script(node, inspected)
        inspected.packages([node for node in self._work["nodes"] if node["package"] and node["tool"]], self._work["file"])
        inspected.prompts([node for node in self._work["nodes"] if node["type"] in ("llm", "prompt")], self._work["file"])
        if not self._found.count:
            self._upstream()

    def _script(self, node: dict[str, Any], inspected: Tools) -> None:
        if node["path"] and os.path.isfile(os.path.join(self._folder, node["path"])):
            inspected.script(node)

    def _module(self, path: str, node: str) -> Any:
        """Return the module of a file, loaded as prompt flow does; None after reporting why that fails."""
        from promptflow._core.tool_meta_generator import (  # type: ignore[import-not-found,unused-ignore]
            load_python_module_from_file,
        )

        self.save(doing=path)
        try:
            return load_python_module_from_file(os.path.join(self._folder, path))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self._failed(error, path, node)
        finally:
            self.save()
        return None

    def _failed(self, error: BaseException, path: str, node: str = "") -> None:
        cause = error.__cause__ or error
        message = describe(cause, folder=self._folder, default=path)
        if self._guessed and message.code == "ImportFailed":
            self._found.leave(f"{path} asks at its import for what only a connection can give: {message.message}")
        elif message.code in ("MemoryShort", "NoSpace", "OutsideMissing"):
            self._found.leave(f"{path}: {message.message}")
        elif not any(
            one.get("file") == message.file and one["code"] in ("ModuleMissing", "SyntaxError", RELATIVE) for one in self._found.problems
        ):
            self._found.problem(message.code, message.message, file=message.file, line=message.line, node=node)

    def _upstream(self) -> None:
        """Report what prompt flow itself finds wrong with the flow as a whole. Called if nothing else was found."""
        from pathlib import Path

        from promptflow.contracts.flow import Flow  # type: ignore[import-not-found,unused-ignore]
        from promptflow.exceptions import PromptflowException  # type: ignore[import-not-found,unused-ignore]
        from promptflow.executor.flow_validator import FlowValidator  # type: ignore[import-not-found,unused-ignore]

        try:
            flow = Flow.from_yaml(Path(self._work["file"]), working_dir=Path(self._folder))._apply_default_node_variants()
            FlowValidator._ensure_outputs_valid(FlowValidator._validate_nodes_topology(flow))
        except (PromptflowException, KeyError, ValueError) as error:
            self._found.problem("Refused", f"prompt flow refuses it: {error}", file=self._work["file"])

    def _loaded(self) -> None:
        """Report why prompt flow can't load the flow's file: its schema, or a prompty's model."""
        from promptflow.client import load_flow  # type: ignore[import-not-found,unused-ignore]
        from promptflow.exceptions import PromptflowException  # type: ignore[import-not-found,unused-ignore]

        file = self._work["file"]
        try:
            load_flow(os.path.join(self._folder, file))
        except Exception as error:
            words = str(error).replace(f"{self._folder}/", "")
            if isinstance(error, PromptflowException) or type(error).__name__ in ("ValidationError", "ValidationException"):
                self._found.problem("Refused", f"prompt flow refuses it: {words}", file=file)
            else:
                self._found.leave(f"prompt flow could not load {file}: {type(error).__name__}: {words}")

    def _entry(self) -> None:
        """Check the function or class that a flex flow names."""
        entry, path = self._work["entry"], self._work["path"]
        name = entry.partition(":")[2]
        self.save(doing=path)
        try:
            from promptflow._core.tool_meta_generator import (  # type: ignore[import-not-found,unused-ignore]
                load_python_module_from_entry,
            )

            module = load_python_module_from_entry(entry)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self._failed(error, path)
            return
        if tools.is_entry(getattr(module, name, None)):
            self._interface(module, path)
        else:
            here = ", ".join(sorted(other for other in vars(module) if tools.is_entry_of(module, other))[:10]) or "no function"
            message = f"entry {entry!r} names {name!r}, which is no function or callable class of {path}: it has {here}"
            self._found.problem("NoEntry", message, file=self._work["file"])

    def _interface(self, module: Any, path: str) -> None:
        """Check what the entry takes and returns, which prompt flow must be able to describe."""
        from promptflow._core import tool_meta_generator as upstream  # type: ignore[import-not-found,unused-ignore]
        from promptflow.exceptions import PromptflowException  # type: ignore[import-not-found,unused-ignore]

        function, cls = upstream.collect_flow_entry_in_module(module, self._work["entry"])
        try:
            upstream.generate_flow_meta_dict_by_object(function, cls)
        except PromptflowException as error:
            code = getattr(getattr(function, "__original_function", function), "__code__", None)
            way = "write a type that prompt flow takes there, or leave the annotation out"
            self._found.problem(
                "BadInterface",
                f"prompt flow refuses it: {str(error).rstrip('.')}: {way}",
                file=path,
                line=code.co_firstlineno if code else None,
            )
