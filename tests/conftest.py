"""Settings of all tests: bytecode is kept, Go and Python collect garbage less often, and examples are the same every time in CI."""

import gc
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from localcluster import debian

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an import of prompt flow takes three times as long without bytecode
os.environ.setdefault("GOGC", "400")  # a quarter less CPU time for a call of kubectl

gc.set_threshold(50_000, 20, 50)  # collections, mostly of imported modules, took a tenth of the unit tests' time

# Bounded, and without deadlines: the machines are slow.
settings.register_profile("quick", max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("quick"), derandomize=True, database=None)
settings.register_profile("thorough", settings.get_profile("quick"), max_examples=600, stateful_step_count=40)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or "ci")

_START_PROGRAMS = [Path(__file__).parent / part for part in ("agent", "apiserver", "e2e")]


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to start if a program that these tests start is missing. A process of pytest-xdist could not say so."""
    chosen = [(config.invocation_params.dir / argument.partition("::")[0]).resolve() for argument in config.args]
    parts = [part for part in _START_PROGRAMS if any(path.is_relative_to(part) or part.is_relative_to(path) for path in chosen)]
    if parts and (lacking := debian.lacking(debian.TESTS)):
        raise pytest.UsageError(f"tests/{parts[0].name}: {lacking}")
