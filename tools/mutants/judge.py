"""Runs tests against a mutant in its own process, which is ended with everything that it started."""

import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import CodeType
from typing import TextIO

import pytest

from mutants import patch

FOREIGN = ["pytest", "pytest_asyncio.plugin", "hypothesis.strategies", "aiohttp.web", "kopf", "kubernetes.client", "pydantic", "yaml"]
"""Modules imported once for all runs that import the project's own modules anew."""

MEMORY = 4 * 1024**3
"""Bytes of address space of a run: a mutant's endless loop may fill a list."""


@dataclass(frozen=True)
class Mutant:
    """One module of the copy with one change."""

    path: Path
    original: str
    mutated: str
    at_import: bool
    """Whether its line runs when the module is imported, perhaps not only then."""


@dataclass(eq=False)
class Judge:
    """A pytest plugin that collects all tests, then calls `work` with itself instead of running them."""

    tree: Path
    log: Path
    work: Callable[["Judge"], None]
    session: pytest.Session | None = None
    items: dict[str, pytest.Item] = field(default_factory=dict)
    out: TextIO | None = None

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Call `work`, now that everything is imported and collected."""
        if session.testsfailed:
            raise session.Interrupted(f"{session.testsfailed} errors during collection")
        self.session, self.items = session, {item.nodeid: item for item in session.items}
        with session.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            self.work(self)
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write failures to the log, which holds the last mutant's run."""
        if report.failed:
            print(report.nodeid, report.longreprtext, sep="\n", file=self.out)

    def passes(self, mutant: Mutant, tests: Sequence[str], seconds: float) -> bool | None:
        """Return whether all tests pass, or None if they exceed 20 s plus 4 * `seconds` of CPU, or four times that on the clock."""
        allowed = int(20 + 4 * seconds)
        functions = None if mutant.at_import else patch.changed_functions(mutant.original, mutant.mutated, str(mutant.path))
        process: BaseProcess
        if functions is None:
            context = multiprocessing.get_context("forkserver")
            context.set_forkserver_preload(FOREIGN)
            process = context.Process(target=_anew, args=(self.tree, mutant, list(tests), allowed, self.log))
        else:
            process = multiprocessing.get_context("fork").Process(target=self._patched, args=(mutant, functions, tests, allowed))
        process.start()
        process.join(4 * allowed)
        late = process.is_alive() or process.exitcode == -signal.SIGXCPU
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid or 0, signal.SIGKILL)
        process.join()
        if process.exitcode == pytest.ExitCode.NO_TESTS_COLLECTED:
            raise SystemExit(f"mutants: pytest found none of the tests; see {self.log}")
        return None if late else process.exitcode == 0

    def _patched(self, mutant: Mutant, functions: dict[tuple[str, int], CodeType], tests: Sequence[str], processor: int) -> None:
        self.out = _confine(processor, self.log)
        if functions and not patch.put(functions, str(mutant.path)):
            print("no function to be changed was found", file=self.out)
            os._exit(pytest.ExitCode.NO_TESTS_COLLECTED)
        assert self.session
        self.session.config.pluginmanager.unregister(name="terminalreporter")
        hooks = self.session.config.hook
        items = [self.items[test] for test in tests if test in self.items]  # some names contain a time
        for item, following in zip(items, [*items[1:], None], strict=True):
            hooks.pytest_runtest_protocol(item=item, nextitem=following)
            if self.session.testsfailed:
                break
        self.out.flush()
        os._exit(1 if self.session.testsfailed else 0)


def _confine(processor: int, log: Path) -> TextIO:
    os.setsid()
    resource.setrlimit(resource.RLIMIT_CPU, (processor, processor + 5))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    output = log.open("w", buffering=1)
    os.dup2(output.fileno(), 1)
    os.dup2(output.fileno(), 2)
    sys.stdout = sys.stderr = output
    return output


class _Changed(importlib.machinery.SourceFileLoader):
    """Load another text than the file's."""

    text = ""

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002 - importlib's words
        """Compile the text, without a cache."""
        code: CodeType = compile(self.text, self.path, "exec")
        return code


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, tree: Path, mutant: Mutant) -> None:
        self.name = ".".join(mutant.path.relative_to(tree / "operator").with_suffix("").parts).removesuffix(".__init__")
        self.loader = _Changed(self.name, str(mutant.path))
        self.loader.text = mutant.mutated

    def find_spec(self, fullname: str, *_: object) -> importlib.machinery.ModuleSpec | None:
        """Find only the mutant."""
        return importlib.util.spec_from_file_location(fullname, self.loader.path, loader=self.loader) if fullname == self.name else None


class _Chosen:
    """A pytest plugin that runs only these tests, in this order."""

    def __init__(self, tests: Sequence[str]) -> None:
        self.order = {test: place for place, test in enumerate(tests)}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted((item for item in items if item.nodeid in self.order), key=lambda item: self.order[item.nodeid])


def _anew(tree: Path, mutant: Mutant, tests: list[str], processor: int, log: Path) -> None:
    _confine(processor, log)
    os.chdir(tree)
    sys.meta_path.insert(0, _Finder(tree, mutant))
    files = list(dict.fromkeys(test.partition("::")[0] for test in tests))
    code = pytest.main(["-q", "-x", "--no-header", "-p", "no:cacheprovider", *files], plugins=[_Chosen(tests)])
    sys.stdout.flush()
    os._exit(int(code))
