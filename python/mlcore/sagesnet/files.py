"""Moments of systems from files, by how their names end.

automata   .npy: whole numbers (X, Y, Z) of a moment, (T, X, Y, Z) or (T, B, X, Y, Z)
atoms      extxyz, LAMMPS dump or data file; a folder of `mlcore.sagesnet.carbon.Dataset`, or
           one of its runs, FOLDER/NAME.h5

(moments,) = read_moments("pull.lammpstrj", "atoms", Reading(stride=10))
net.rollout(moments.states[0], until=100)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray

from mlcore.data import Trajectory, read_trajectory
from mlcore.errors import FileFormatError, InvalidArgument
from mlcore.sagesnet.atoms.frames import states_of
from mlcore.sagesnet.atoms.grid import AtomGrid

__all__ = [
    "Moments",
    "Raw",
    "Reading",
    "found",
    "read_all",
    "read_grids",
    "read_moments",
    "read_raw",
]

_LIKE = 1e-9


@dataclass(frozen=True)
class Reading:
    """How files become states.

    Args:
        stride: frames of the file in a step.
        edge: A, of a cell of atoms, as near as the box allows.
        slots: most atoms that can be read of a cell.
        room: A that is added to a box on both sides of axes that are open.
        multiple: of which numbers of cells are, as lifts need them.
        units: of LAMMPS' files, "metal" or "real"; None: as the file says.
        elements: of LAMMPS' types 1, 2, ..., where a file does not say them.
    """

    stride: int = 1
    edge: float = 2.0
    slots: int = 4
    room: float = 0.0
    multiple: int = 1
    units: str | None = None
    elements: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Moments:
    """Consecutive states of a file.

    Attributes:
        name: of the file.
        states: one step apart.
        interval: fs of a step, None where the file does not say.
        cell: (3, 3) box of the file, A; None for automata.
        shift: (3,) A from places in the file to those of the states.
    """

    name: str
    states: list[Any]
    interval: float | None = None
    cell: NDArray[np.float64] | None = None
    shift: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Raw:
    """A run of atoms, before it is known on which cells it lies.

    Attributes:
        trajectory: of it.
        driven: (n,) atoms that grips hold; None: none.
        interval: see `Moments`.
    """

    trajectory: Trajectory
    driven: NDArray[np.bool_] | None = None
    interval: float | None = None


def found(patterns: Iterable[str], folder: Path) -> list[Path]:
    """Files and folders of these names, or patterns with * of names, relative to a folder.

    Raises:
        FileFormatError: nothing is called so.
    """
    paths = []
    for pattern in patterns:
        whole = (folder / pattern).absolute()
        some = [whole]
        if set(pattern) & set("*?["):
            root = Path(whole.anchor)
            some = sorted(root.glob(str(whole.relative_to(root))))
        if not some or not some[0].exists():
            raise FileFormatError(f"{whole}: no such file")
        paths += some
    return paths


def read_moments(path: str | Path, kind: str, reading: Reading = Reading()) -> list[Moments]:
    """The runs of a file or folder; atoms of all of them are on equal cells if boxes are open.

    Args:
        path: see the head of this module.
        kind: "automaton" or "atoms".
        reading: settings.

    Raises:
        FileFormatError: it cannot be read; names file and what is wrong.
        InvalidArgument: no such kind, or settings that do not fit the file.
    """
    return read_all([Path(path)], kind, [reading])[0]


def read_all(paths: Sequence[Path], kind: str, readings: Sequence[Reading]) -> list[list[Moments]]:
    """`read_moments` of several; atoms of all that are in open boxes are on equal cells."""
    pairs = list(zip(paths, readings, strict=True))
    if kind == "automaton":
        return [[read_grids(path, reading.stride)] for path, reading in pairs]
    if kind != "atoms":
        raise InvalidArgument(f"cells of kind {kind!r} are not read from files")
    raw = [read_raw(path, reading) for path, reading in pairs]
    each = [reading for reading, some in zip(readings, raw, strict=True) for _ in some]
    every = iter(_on_cells([one for some in raw for one in some], each))
    return [[next(every) for _ in some] for some in raw]


def read_grids(path: Path, stride: int = 1) -> Moments:
    """States of automata; see `read_moments`."""
    try:
        array = np.load(path, allow_pickle=False)
    except OSError as error:
        raise FileFormatError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError) as error:
        raise FileFormatError(f"{path}: not a .npy file of numbers") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "iub" or 0 in array.shape:
        raise FileFormatError(f"{path}: must be a .npy file of whole numbers")
    if array.ndim == 3:
        array = array[None]
    if array.ndim == 4:
        array = array[:, None]
    if array.ndim != 5:
        told = "(X, Y, Z), (T, X, Y, Z) or (T, B, X, Y, Z)"
        raise FileFormatError(f"{path}: must be {told}, got {array.shape}")
    return Moments(str(path), list(torch.from_numpy(array[::stride].astype(np.int64))))


def read_raw(path: Path, reading: Reading) -> list[Raw]:
    """Runs of atoms as they stand in a file or folder; see `read_moments`."""
    from mlcore.sagesnet.carbon.dataset import Dataset, Sample

    if path.is_dir():
        runs = list(Dataset(path))
        if not runs:
            raise FileFormatError(f"{path}: holds no finished run")
        return [_pulled(sample, reading.stride) for sample in runs]
    if path.suffix == ".h5":
        return [_pulled(Sample(path.parent, path.stem), reading.stride)]
    trajectory = read_trajectory(
        path, units=reading.units, frames=slice(None, None, reading.stride)
    )
    if trajectory.cell is None:
        raise FileFormatError(f"{path}: says no box")
    if trajectory.velocities is None and trajectory.units is None:
        trajectory = replace(trajectory, units="real")
    return [Raw(trajectory)]


def _pulled(sample: Any, stride: int) -> Raw:
    """A run of a set of carbon."""
    window, pull = sample.window(stride=stride), sample.record["pull"]
    femtoseconds = 1000.0 * pull["timestep"]
    start = sample.start
    grips = start.arrays["grip"] != 0
    trajectory = Trajectory(
        times=window.steps * femtoseconds,
        positions=window.positions,
        velocities=window.velocities,
        cell=start.cell[:],
        pbc=np.zeros(3, bool),
        ids=start.arrays["id"],
        symbols=np.array(start.get_chemical_symbols()),
        units="real",
        source=str(sample.file),
    )
    return Raw(trajectory, grips, femtoseconds * pull["frame"] * stride)


def _on_cells(raw: Sequence[Raw], readings: Sequence[Reading]) -> list[Moments]:
    """Runs on the cells of their boxes; those that are open all around share the largest."""
    roomy = [_roomy(one.trajectory, r.room) for one, r in zip(raw, readings, strict=True)]
    largest = np.max(
        [np.diag(np.asarray(t.cell)) for t, _ in roomy if _is_open(t)] or [np.zeros(3)], axis=0
    )
    made = []
    for one, (trajectory, shift), reading in zip(raw, roomy, readings, strict=True):
        box = np.diag(largest) if _is_open(trajectory) else trajectory.cell
        cell = Atoms(cell=box, pbc=trajectory.pbc)
        grid = AtomGrid.over(cell, reading.edge, reading.slots, reading.multiple)
        states = states_of(trajectory, grid, units=reading.units, elements=reading.elements)
        if one.driven is not None:
            held = torch.from_numpy(one.driven)
            states = [replace(state, driven=held) for state in states]
        name, box = one.trajectory.source, one.trajectory.cell
        made.append(Moments(name, states, one.interval, box, shift))
    return made


def _is_open(trajectory: Trajectory) -> bool:
    cell = np.asarray(trajectory.cell)
    return not trajectory.periodic and bool(abs(cell - np.diag(np.diag(cell))).max() < _LIKE)


def _roomy(trajectory: Trajectory, room: float) -> tuple[Trajectory, NDArray[np.float64]]:
    """In a box with more room beyond its open axes, and how far it is moved in there."""
    cell, pbc = np.asarray(trajectory.cell), np.asarray(trajectory.pbc)
    axes = cell / np.linalg.norm(cell, axis=1)[:, None]
    wide = np.where(pbc, 0.0, room)[:, None] * axes
    shift: NDArray[np.float64] = wide.sum(axis=0)
    moved = trajectory.positions + shift
    return replace(trajectory, cell=cell + 2 * wide, positions=moved), shift
