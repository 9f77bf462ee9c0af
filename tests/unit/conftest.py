"""Hypothesis profiles: bounded, without deadlines (the machines are slow), and the same examples every time in CI."""

import os

from hypothesis import HealthCheck, settings

settings.register_profile("quick", max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("quick"), derandomize=True, database=None)
settings.register_profile("thorough", settings.get_profile("quick"), max_examples=600, stateful_step_count=40)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or "ci")
