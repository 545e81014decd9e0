"""Frames that many tests learn from."""

from __future__ import annotations

import pytest
from ase import Atoms
from known_potentials import lj_frames


@pytest.fixture(scope="session")
def frames() -> list[Atoms]:
    return lj_frames(10)
