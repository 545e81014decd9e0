"""Shared by all tests."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# Two test processes on two cores: one thread each, unless a test asks for more.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples in every run, however slow the machine is: no change is judged by chance.
# HYPOTHESIS_PROFILE=random draws fresh ones, to search with.
for name, same in (("ci", True), ("random", False)):
    settings.register_profile(
        name, derandomize=same, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
