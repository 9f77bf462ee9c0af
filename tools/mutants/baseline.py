"""A copy of the checkout, and one run of its unit tests that records which test touches which line, and how long it takes."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from coverage import CoverageData

from mutants.order import SLOW, Baseline

ELSEWHERE = (
    "agent",
    "api",
    "package_cache",
    "test_documents.py",
    "test_layout.py",
    "test_localcluster.py",
    "test_patterns.py",
    "test_programs.py",
)
"""Files of `tests/unit` that test other code, or sources as text."""


def copy(checkout: Path, to: Path) -> str:
    """Copy the files that git knows or would add. The mutants are made in the copy. Returns a digest of code and tests."""
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=checkout, check=True, capture_output=True, text=True
    ).stdout.split("\0")
    shutil.rmtree(to, ignore_errors=True)
    digest = hashlib.sha256()
    for name in sorted(name for name in names if name and (checkout / name).is_file()):
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(checkout / name, to / name)
        if name.startswith(("operator/", "tests/")):
            digest.update(f"{name}\0".encode() + (checkout / name).read_bytes())
    return digest.hexdigest()


def tests(tree: Path, slow: bool) -> list[str]:
    """Return pytest's arguments for the tests to collect."""
    ignored = [f"--ignore={tree}/tests/unit/{name}" for name in ELSEWHERE]
    return [f"{tree}/tests/unit", f"--rootdir={tree}", *ignored, *(f"--ignore-glob={tree}/{name}" for name in SLOW if not slow)]


def environment(tree: Path) -> dict[str, str]:
    """Return the environment for pytest in the copy: the copy's modules take precedence over installed ones."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(str(tree / folder) for folder in ("operator", "tools", "tests"))}


def run(tree: Path, kept: Path, digest: str, slow: bool) -> Baseline:
    """Run the unit tests, or read the result of a run over the same files."""
    coverage, durations, of = kept / "coverage", kept / "durations.json", kept / "digest"
    digest += " slow" * slow
    if not (of.exists() and of.read_text() == digest):
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir(parents=True)
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "mutants.durations", *tests(tree, slow)]
        command += ["--cov=operator/flowsession", "--cov-context=test", "--cov-report="]
        given = {**environment(tree), "MUTANTS_DURATIONS": str(durations), "COVERAGE_FILE": str(coverage)}
        if subprocess.run(command, check=False, cwd=tree, env=given).returncode:
            raise SystemExit("mutants: the unit tests fail without any mutation; see above")
        of.write_text(digest)
    return Baseline(_touched(CoverageData(str(coverage)), tree), json.loads(durations.read_text()))


def _touched(data: CoverageData, tree: Path) -> dict[str, dict[int, frozenset[str]]]:
    data.read()
    return {
        str(Path(file).relative_to(tree)): _by_line({line: _tests(contexts) for line, contexts in data.contexts_by_lineno(file).items()})
        for file in data.measured_files()
    }


def _by_line(lines: dict[int, frozenset[str]]) -> dict[int, frozenset[str]]:
    return {**lines, 0: frozenset[str]().union(*lines.values())}


def _tests(contexts: Iterable[str]) -> frozenset[str]:
    """Return the tests of contexts: pytest-cov names a context `NODE|run`, and the one for imports is empty."""
    return frozenset(context.rpartition("|")[0] for context in contexts)
