"""Shared by all tests."""

from __future__ import annotations

import os

# Two test processes on two cores: one thread each, unless a test asks for more.
os.environ.setdefault("OMP_NUM_THREADS", "1")
