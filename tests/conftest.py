"""Settings of all tests: bytecode is kept, Go programs collect garbage less often, and examples are the same every time in CI."""

import os

from hypothesis import HealthCheck, settings

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an import of prompt flow takes three times as long without bytecode
os.environ.setdefault("GOGC", "400")  # a third less CPU time for a call of kubectl

# Bounded, and without deadlines: the machines are slow.
settings.register_profile("quick", max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("quick"), derandomize=True, database=None)
settings.register_profile("thorough", settings.get_profile("quick"), max_examples=600, stateful_step_count=40)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or "ci")
