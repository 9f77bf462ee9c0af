"""Runs tests over a mutated tree, in a process of their own that was forked with everything foreign already imported."""

import contextlib
import importlib
import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

FOREIGN = [
    "pytest",
    "_pytest.assertion.rewrite",
    "pytest_asyncio.plugin",
    "hypothesis",
    "hypothesis.strategies",
    "aiohttp.web",
    "kopf",
    "kubernetes.client",
    "pydantic",
    "yaml",
    "ruamel.yaml",
    "cryptography.hazmat.primitives.asymmetric.ed25519",
    "prometheus_client",
    "packaging.requirements",
    "looptime",
]
"""Imported once for all mutants, since that takes longer than most of the tests."""

MEMORY = 4 * 1024**3
"""Address space of a run: a loop that a mutant makes endless may fill a list."""


class Chosen:
    """A pytest plugin: only these tests, in this order."""

    def __init__(self, tests: Sequence[str]) -> None:
        self.order = {test: place for place, test in enumerate(tests)}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """The rest is deselected in silence."""
        items[:] = sorted((item for item in items if item.nodeid in self.order), key=lambda item: self.order[item.nodeid])


def preload() -> None:
    """Before the first fork. Nothing of the project's own: it is what changes."""
    for name in FOREIGN:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def passes(tree: Path, tests: Sequence[str], seconds: float, log: Path) -> bool | None:
    """Whether all of the tests pass; None where they were not through within the time of processor, or ten times that on the clock."""
    allowed = 20 + 4 * seconds
    process = multiprocessing.get_context("fork").Process(target=_run, args=(tree, list(tests), int(allowed), log))
    process.start()
    process.join(10 * allowed)
    if process.is_alive() or process.exitcode == -signal.SIGXCPU:
        _end(process.pid)
        process.join()
        return None
    _end(process.pid)
    if process.exitcode == pytest.ExitCode.NO_TESTS_COLLECTED:
        raise SystemExit(f"mutants: pytest found none of the tests; see {log}")
    return process.exitcode == 0


def _end(pid: int | None) -> None:
    """The run and all that it started: it leads a group of its own."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid or 0, signal.SIGKILL)


def _run(tree: Path, tests: list[str], processor: int, log: Path) -> None:
    os.setsid()
    resource.setrlimit(resource.RLIMIT_CPU, (processor, processor + 5))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(tree)
    sys.dont_write_bytecode = True  # a mutant may have its original's size and second
    folders = [str(tree / folder) for folder in ("operator", "tools", "tests")]
    sys.path[:0] = folders
    os.environ["PYTHONPATH"] = os.pathsep.join(folders)
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    files = list(dict.fromkeys(test.partition("::")[0] for test in tests))
    code = pytest.main(["-q", "-x", "--no-header", "-p", "no:cacheprovider", *files], plugins=[Chosen(tests)])
    sys.stdout.flush()
    os._exit(int(code))
