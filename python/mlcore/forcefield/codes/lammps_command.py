"""LAMMPS as a program of its own: a fresh `lmp` for one structure and one potential.

What a fit computes inside its own process must come out here, too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlcore.errors import FileFormatError, InvalidArgument
from mlcore.forcefield.codes.code import Code
from mlcore.forcefield.codes.templates import render
from mlcore.forcefield.settings import Settings
from mlcore.forcefield.structures.labels import labelled
from mlcore.forcefield.structures.lammps_files import write_data
from mlcore.forcefield.structures.units import LAMMPS, converted
from mlcore.io.atomic import write_text
from mlcore.io.tensors import read_bytes

if TYPE_CHECKING:
    from ase import Atoms

    from mlcore.forcefield.forms.record import Interaction, Model

__all__ = ["LammpsCommand"]

_ROOM = 3.0
_MOST_BYTES = 1 << 30


@dataclass(frozen=True)
class LammpsCommand(Code):
    """Energy, forces and stress by a potential of LAMMPS.

    Attributes:
        pair_style: what follows the word `pair_style`.
        pair_coeff: whole lines, naming `files` by their bare names.
        species: elements or beads of LAMMPS' types 1, 2, ..
        masses: g/mol of the types; left out, those of the structure.
        files: name -> content of files the lines name.
        commands: further whole lines.
        cutoff: Angstrom; room left around structures that are not periodic.
        atom_style: "atomic" or "charge".
        units: of LAMMPS, "metal" or "real".
        command: what starts it; left out, the setting `lammps_command` of this machine, else the
            `lmp` of this environment.
        templates: folder of templates that go before those of mlcore.
        timeout: s, for one structure.
    """

    pair_style: str
    pair_coeff: tuple[str, ...]
    species: tuple[str, ...]
    masses: tuple[float, ...] | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    commands: tuple[str, ...] = ()
    cutoff: float = 12.0
    atom_style: str = "atomic"
    units: str = "metal"
    command: Sequence[str] | None = None
    templates: str | os.PathLike[str] | None = None
    timeout: float = 600.0
    name: str = "lammps"
    tails: tuple[str, ...] = ("log.lammps",)

    @classmethod
    def of(cls, model: Model, values: Mapping[str, float], **options: Any) -> LammpsCommand:
        """Of a model under these values of its parameters.

        Args:
            model: such as `mlcore.forcefield.forms.model("tersoff", ["Si"])`.
            values: by name of parameter.
            options: command, templates, timeout.
        """
        return cls.of_interaction(
            model.render(values),
            tuple(s.name for s in model.species),
            tuple(float(s.mass) for s in model.species),
            **options,
        )

    @classmethod
    def of_interaction(
        cls,
        told: Interaction,
        species: tuple[str, ...],
        masses: tuple[float, ...] | None = None,
        **options: Any,
    ) -> LammpsCommand:
        """Of what LAMMPS is told about a candidate."""
        return cls(
            told.pair_style,
            tuple(told.pair_coeff),
            species,
            masses,
            dict(told.files),
            tuple(told.commands),
            told.cutoff or 12.0,
            told.atom_style,
            told.units,
            **options,
        )

    @property
    def words(self) -> Sequence[str]:
        """See `Code`."""
        from mlcore.lammps.run import command

        told = Settings.load().lammps_command if self.command is None else self.command
        start = command() if told is None else list(told)
        return [*start, "-in", "in.static", "-log", "log.lammps", "-screen", "none", "-nocite"]

    def environment(self) -> dict[str, str]:
        """See `Code`."""
        from mlcore.lammps.run import environment_variables

        if self.command is not None:
            return {"OMP_NUM_THREADS": "1"}
        return environment_variables(plugin=False)

    def record(self) -> dict[str, Any]:
        """See `Code`."""
        return {
            "pair_style": self.pair_style,
            "pair_coeff": list(self.pair_coeff),
            "species": list(self.species),
            "masses": None if self.masses is None else list(self.masses),
            "files": dict(self.files),
            "commands": list(self.commands),
            "atom_style": self.atom_style,
            "units": self.units,
            "command": None if self.command is None else list(self.command),
            "templates": None if self.templates is None else os.fspath(self.templates),
        }

    def write(self, atoms: Atoms, folder: Path) -> None:
        """Potential files, `structure.data` and `in.static`; outputs of an earlier run are removed.

        Raises:
            InvalidArgument: a species that is not known, no cell, or a wrong name of a file.
        """
        for name in ("static.txt", "forces.dump", "log.lammps"):
            (folder / name).unlink(missing_ok=True)
        for name, content in self.files.items():
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
                raise InvalidArgument(f"files: {name!r} is no bare name")
            write_text(folder / name, content)
        if self.units not in LAMMPS:
            raise InvalidArgument(f"units must be {' or '.join(LAMMPS)}, not {self.units!r}")
        charged = self.atom_style == "charge"
        placed = _placed(atoms, self.cutoff + _ROOM)
        write_data(
            folder / "structure.data",
            placed,
            self.species,
            masses=self.masses,
            charges=charged,
        )
        values = {
            "units": self.units,
            "atom_style": self.atom_style,
            "boundary": " ".join("p" if p else "f" for p in atoms.pbc),
            "data": "structure.data",
            "pair_style": self.pair_style,
            "pair_coeff": self.pair_coeff,
            "commands": self.commands,
        }
        write_text(folder / "in.static", render("lammps/in.static.j2", values, self.templates))

    def read(self, atoms: Atoms, folder: Path) -> Atoms:
        """See `Code`."""
        from ase.calculators.lammps import Prism

        numbers = _numbers(folder / "static.txt", 1, 7)[0]
        rows = _dump(folder / "forces.dump", len(atoms))
        placed = _placed(atoms, self.cutoff + _ROOM)
        prism = Prism(np.asarray(placed.cell), pbc=atoms.pbc)
        forces = prism.vector_to_ase(rows[:, 1:], wrap=False)
        stress = None
        if atoms.pbc.all():
            xx, yy, zz, yz, xz, xy = numbers[1:]
            tensor = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
            stress = prism.tensor2_to_ase(tensor)
        found = labelled(atoms, float(numbers[0]), forces, stress)
        units = {k: v for k, v in LAMMPS[self.units].items() if k != "length"}
        done = converted(found, units)
        done.info["code"] = self.name
        return done


def _placed(atoms: Atoms, room: float) -> Atoms:
    """With room around it where it is not periodic."""
    placed: Atoms = atoms.copy()
    for axis in np.flatnonzero(~np.asarray(atoms.pbc)):
        placed.center(vacuum=room, axis=int(axis))
    return placed


def _numbers(path: Path, rows: int, columns: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    text = read_bytes(path, _MOST_BYTES, "output").decode("ascii", "replace")
    try:
        table = np.array([line.split() for line in text.splitlines()], dtype=np.float64)
    except ValueError as error:
        raise FileFormatError(f"{path}: {error}") from error
    if table.shape != (rows, columns):
        raise FileFormatError(f"{path}: should hold {rows} rows of {columns} numbers")
    return table


def _dump(path: Path, n: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    text = read_bytes(path, _MOST_BYTES, "output").decode("ascii", "replace")
    _, head, body = text.partition("ITEM: ATOMS id fx fy fz")
    lines = body.splitlines()[1:]
    if not head or len(lines) != n:
        raise FileFormatError(f"{path}: should hold the forces on {n} atoms")
    try:
        rows = np.array([line.split() for line in lines], dtype=np.float64)
    except ValueError as error:
        raise FileFormatError(f"{path}: {error}") from error
    if rows.shape != (n, 4) or not np.array_equal(rows[:, 0], np.arange(1, n + 1)):
        raise FileFormatError(f"{path}: atoms are not 1 to {n}")
    return rows
