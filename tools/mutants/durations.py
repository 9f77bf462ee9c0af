"""A pytest plugin for the baseline: writes how long each test took to the file that MUTANTS_DURATIONS names."""

import json
import os
from collections import defaultdict
from pathlib import Path

import pytest

SECONDS: dict[str, float] = defaultdict(float)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Add up setup, call and teardown."""
    SECONDS[report.nodeid] += report.duration


def pytest_sessionfinish() -> None:
    Path(os.environ["MUTANTS_DURATIONS"]).write_text(json.dumps(SECONDS))
