"""mlcore.lammps.label: LAMMPS' own styles as the reference of learned forces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ase
import ase.io
import numpy as np
import pytest
from lammps_case import Array, Case
from mlcore import lammps
from mlcore.errors import Error, InvalidArgument
from scipy.spatial.transform import Rotation
from test_native_force import box, head, lattice
from written_bundles import CUTOFF, edges, lennard_jones

LJ = ("lj/cut 2.5", "* * 1.0 1.0")
PAIRS = {(1, 1): 1.0, (1, 2): 0.5, (2, 2): 2.0}
COEFFS = [f"{a} {b} {epsilon} 1.0" for (a, b), epsilon in PAIRS.items()]


def expected(x: Array, cell: Array | None, types: Array) -> tuple[float, Array]:
    """Energy and forces by the slow and obvious way."""
    D, i, j = (t.numpy() for t in edges(x, cell))
    epsilon = np.array(
        [PAIRS[min(a, b), max(a, b)] for a, b in zip(types[i], types[j], strict=True)]
    )
    r = np.linalg.norm(D, axis=1)
    u, slope = lennard_jones(r)
    forces = np.zeros_like(x)
    np.add.at(forces, i, (epsilon * slope / r)[:, None] * D)
    return float(0.5 * (epsilon * u).sum()), forces


def fluid(cell: Array, pbc: Any = True, seed: int = 0) -> ase.Atoms:
    rng = np.random.default_rng(seed)
    n = 4
    grid = np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing="ij"), -1).reshape(-1, 3) / n
    x = grid @ cell + rng.uniform(-0.1, 0.1, (n**3, 3))
    atoms = ase.Atoms("X64", positions=x, cell=cell, pbc=pbc)
    atoms.arrays["type"] = rng.integers(1, 3, n**3)
    return atoms


CELLS = {
    "cube": 4.8 * np.eye(3),
    "leaning": np.array([[4.8, 0, 0], [1.2, 4.8, 0], [-0.6, 0.9, 4.8]]),
    "turned": np.array([[4.8, 0, 0], [1.2, 4.8, 0], [-0.6, 0.9, 4.8]])
    @ Rotation.from_rotvec([0.3, -1.1, 0.7]).as_matrix(),
    "left-handed": np.array([[0, 4.8, 0], [4.8, 0.7, 0], [0.2, 0.4, 4.8]]),
}


def test_cells_of_any_shape() -> None:
    given = [fluid(cell, seed=k) for k, cell in enumerate(CELLS.values())]
    given[0].positions += [4.8, -9.6, 0]  # unwrapped positions
    labelled = lammps.label(given, "lj/cut 2.5", COEFFS)
    for atoms, found in zip(given, labelled, strict=True):
        energy, forces = expected(atoms.positions, np.asarray(atoms.cell), atoms.arrays["type"])
        assert found.get_potential_energy() == pytest.approx(energy, rel=1e-10)
        np.testing.assert_allclose(found.get_forces(), forces, rtol=0, atol=1e-9)
        assert found == atoms and atoms.calc is None


def test_open_boundaries_and_species() -> None:
    atoms = fluid(CELLS["cube"], pbc=False)
    atoms.symbols = np.where(atoms.arrays.pop("type") == 1, "Ar", "Kr")
    atoms.cell = None
    atoms.positions += 100.0
    (found,) = lammps.label(atoms, "lj/cut 2.5", COEFFS, species=["Ar", "Kr"])
    types = np.where(atoms.symbols == "Ar", 1, 2)
    energy, forces = expected(atoms.positions, None, types)
    assert found.get_potential_energy() == pytest.approx(energy, rel=1e-10)
    np.testing.assert_allclose(found.get_forces(), forces, rtol=0, atol=1e-9)
    single = ase.Atoms("Ar", positions=[[1, 2, 3]])
    (alone,) = lammps.label(single, *LJ)
    assert alone.get_potential_energy() == 0 and not alone.get_forces().any()


def test_recorded_frames_get_the_forces_they_had(case: Case) -> None:
    case.atoms(lattice(4), box(4.8))
    lj = f"pair_style lj/cut {CUTOFF}\npair_coeff * * 1 1\nvelocity all create 2 4711\nfix i all nve\n"
    case.ok(head() + lj + "fix r all mlcore record out.xyz every 10 energy yes\nrun 40\n")
    known = ase.io.read(case.folder / "out.xyz", index=":")
    found = lammps.label(case.folder / "out.xyz", *LJ, ranks=2)
    assert len(found) == len(known) == 5
    for a, b in zip(found, known, strict=True):
        assert a.get_potential_energy() == pytest.approx(b.get_potential_energy(), rel=1e-12)
        np.testing.assert_allclose(a.get_forces(), b.get_forces(), rtol=0, atol=1e-10)
        assert a.info["step"] == b.info["step"]


def test_commands_and_files_beside(tmp_path: Path) -> None:
    (tmp_path / "force.lmp").write_text("pair_modify shift yes\n")
    atoms = fluid(CELLS["cube"])
    plain, shifted = (
        lammps.label(atoms, *LJ, commands=c, folder=tmp_path)[0] for c in ((), "include force.lmp")
    )
    step = 4 * (2.5**-12 - 2.5**-6)
    pairs = len(edges(atoms.positions, CELLS["cube"])[0]) / 2
    difference = shifted.get_potential_energy() - plain.get_potential_energy()
    assert difference == pytest.approx(-step * pairs, rel=1e-9)


def test_progress(capfd: pytest.CaptureFixture[str]) -> None:
    lammps.label([fluid(CELLS["cube"])] * 3, *LJ, commands=(), progress=True)
    assert "labelling" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": []}, "frames must hold at least one frame"),
        ({"frames": [3]}, "frame 0 is 3"),
        ({"frames": "absent.xyz"}, "absent.xyz cannot be read"),
        ({"species": ["Ar"]}, "species must name X"),
        ({"folder": "absent"}, "folder: no such folder"),
        ({"ranks": 0}, "ranks must be at least 1"),
    ],
)
def test_wrong_arguments(change: dict[str, Any], message: str) -> None:
    given = {"frames": fluid(CELLS["cube"]), "pair_style": LJ[0], "pair_coeff": LJ[1], **change}
    with pytest.raises(InvalidArgument, match=message):
        lammps.label(**given)


def test_wrong_frames() -> None:
    atoms = fluid(CELLS["leaning"], pbc=[True, True, False])
    lammps.label(atoms, *LJ)
    leaning = fluid(np.array([[4.8, 0, 1.0], [0, 4.8, 0], [0, 0, 4.8]]), pbc=[True, True, False])
    assert lammps.label(leaning, *LJ)[0].get_forces().shape == (64, 3)
    for change, message in (
        ({"positions": np.full((64, 3), np.nan)}, "not finite"),
        ({"cell": np.ones((3, 3))}, "without volume"),
    ):
        atoms = fluid(CELLS["cube"])
        for name, value in change.items():
            setattr(atoms, name, value)
        with pytest.raises(InvalidArgument, match=message):
            lammps.label(atoms, *LJ)


def test_what_lammps_says() -> None:
    atoms = fluid(CELLS["cube"])
    with pytest.raises(Error, match="Unrecognized pair style 'lj/smoth'"):
        lammps.label(atoms, "lj/smoth 2.5", LJ[1])
    atoms.positions[1] = atoms.positions[0]
    with pytest.raises(Error, match="not finite; do atoms overlap"):
        lammps.label(atoms, *LJ)


def test_warnings_do_not_get_between() -> None:
    """LAMMPS says where an energy is due that it warns no more, after a hundred of them."""
    frames = [
        ase.Atoms("X2", [[0, 0, 0], [1.1 + 1e-3 * k, 0, 0]], cell=[9] * 3) for k in range(110)
    ]
    told = lammps.label(frames, *LJ, commands="neighbor 5.0 bin")
    energies = [one.get_potential_energy() for one in told]
    expected = [lennard_jones(np.array([1.1 + 1e-3 * k]))[0][0] for k in range(110)]
    np.testing.assert_allclose(energies, expected, rtol=1e-10)
