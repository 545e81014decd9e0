"""LAMMPS inside this process, told an interaction or the lines of somebody's input."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk
from mlcore.forcefield.evaluate.box import new_lammps
from mlcore.forcefield.forms import Interaction, Model
from mlcore.lammps.environment import find_environment

__all__ = ["POTENTIALS", "crystal", "energy", "rendered_energy"]

POTENTIALS = find_environment(torch=False).lammps / "share/lammps/potentials"


def crystal(species: Sequence[str], lattice: str = "diamond", a: float = 5.43) -> Atoms:
    """A small cubic crystal, its species in turn, its atoms a little off their places."""
    atoms = bulk("Si", lattice, a=a, cubic=True)
    if len(atoms) < 8:
        atoms = atoms.repeat((2, 2, 1))
    atoms.rattle(0.05, seed=3)
    atoms.set_array("kind", np.arange(len(atoms)) % len(species) + 1)
    return atoms


def energy(
    atoms: Atoms,
    masses: Sequence[float],
    lines: Sequence[str],
    units: str = "metal",
    atom_style: str = "atomic",
) -> tuple[float, np.ndarray]:
    """Energy and (n, 3) forces of ``atoms`` (orthorhombic) in LAMMPS' units, under ``lines``."""
    x, y, z = atoms.cell.lengths().tolist()
    with new_lammps() as lmp:
        lmp.commands_list(
            [
                f"units {units}",
                f"atom_style {atom_style}",
                "atom_modify map array",
                f"region box block 0 {x!r} 0 {y!r} 0 {z!r}",
                f"create_box {len(masses)} box",
                *(f"mass {k + 1} {mass!r}" for k, mass in enumerate(masses)),
            ]
        )
        lmp.create_atoms(
            len(atoms), None, atoms.arrays["kind"].tolist(), atoms.positions.ravel().tolist()
        )
        lmp.commands_list([*lines, "run 0 post no"])
        forces = np.array(lmp.gather_atoms("f", 1, 3)).reshape(-1, 3)
        return float(lmp.get_thermo("pe")), forces


def rendered_energy(
    atoms: Atoms, model: Model, interaction: Interaction, folder: Path
) -> tuple[float, np.ndarray]:
    """As `energy`, of what a model renders."""
    for name, text in interaction.files.items():
        (folder / name).write_text(text)

    def placed(line: str) -> str:
        return " ".join(str(folder / w) if w in interaction.files else w for w in line.split())

    return energy(
        atoms,
        [s.mass for s in model.species],
        [
            placed(f"pair_style {interaction.pair_style}"),
            *map(placed, interaction.pair_coeff),
            *interaction.commands,
        ],
        interaction.units,
        interaction.atom_style,
    )
