"""Moments written to files, by how their names end, and drawn.

run = net.rollout(moments.states[0], until=100, confidence="predictor")
film_of(run.states, run.steps, moments, told=run.told).write("out.extxyz")

.npy                   states of automata, positions of atoms
.extxyz, .lammpstrj    atoms, with what is told of confidence as columns
.vti, .vtp             the last moment: cells of automata, atoms
.pvd                   all moments, whose files lie in a folder beside
.png, .gif             the last moment, all moments
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from ase import Atoms
from ase.data import chemical_symbols
from ase.io import read
from numpy.typing import NDArray
from torch import Tensor

from mlcore.data import Trajectory, write_trajectory
from mlcore.errors import InvalidArgument
from mlcore.io.atomic import atomic_path
from mlcore.sagesnet.atoms.frames import states_of, trajectory_of
from mlcore.sagesnet.confidence import Told
from mlcore.sagesnet.files import Moments, Reading, read_grids, read_raw
from mlcore.sagesnet.grid import Grid
from mlcore.sagesnet.patterns import at_atoms, write_dump, write_extxyz
from mlcore.sagesnet.render import atoms_frame, save_gif, save_png, slice_frame
from mlcore.sagesnet.vtk import write_pvd, write_vti, write_vtp

__all__ = ["AtomFilm", "CellFilm", "Film", "Look", "film_from", "film_of"]


@dataclass(frozen=True)
class Look:
    """How moments are drawn.

    Args:
        axis: along which one looks.
        layer: of cells, for automata; None: the middle one.
        seconds: that each frame of a GIF is shown.
        colour: name of a column; None: states of automata, elements of atoms.

    Raises:
        InvalidArgument: naming what is out of range.
    """

    axis: int = 2
    layer: int | None = None
    seconds: float = 0.1
    colour: str | None = None

    def __post_init__(self) -> None:
        if self.axis not in (0, 1, 2):
            raise InvalidArgument(f"axis must be 0, 1 or 2, got {self.axis!r}")


class Film(ABC):
    """Moments to be written.

    Attributes:
        columns: by name, a number for each cell or atom in each moment.
    """

    endings: ClassVar[tuple[str, ...]]
    columns: Mapping[str, NDArray[np.float64]]

    def write(self, path: str | Path, look: Look = Look()) -> None:
        """Write to a file of the kind that its name says, whole or not at all.

        Raises:
            InvalidArgument: no such kind of file, or no such column.
            Error: it cannot be written.
        """
        path = Path(path)
        ending = self.checked(path)
        if ending == ".pvd":
            self._series(path)
        elif ending == ".png":
            save_png(path, self._frames(look, last=True)[0])
        elif ending == ".gif":
            save_gif(path, self._frames(look, last=False), seconds=look.seconds)
        else:
            self._written(path)

    @classmethod
    def checked(cls, path: Path) -> str:
        """How a file's name ends.

        Raises:
            InvalidArgument: such a film is not written to such files.
        """
        if path.suffix not in cls.endings:
            raise InvalidArgument(
                f"--out must end in one of {', '.join(cls.endings)}, got {path.name}"
            )
        return path.suffix

    def _series(self, path: Path) -> None:
        folder = path.with_suffix("")
        folder.mkdir(parents=True, exist_ok=True)
        files = []
        for k in range(len(self._times())):
            files.append(folder / f"{k:06d}{self._vtk}")
            self._moment(files[-1], k)
        write_pvd(path, files, self._times())

    def _column(self, name: str) -> NDArray[np.float64]:
        if name not in self.columns:
            known = ", ".join(self.columns) or "none"
            raise InvalidArgument(f"--colour: no column {name!r}, there is {known}")
        return self.columns[name]

    _vtk: ClassVar[str]

    @abstractmethod
    def _times(self) -> list[float]: ...
    @abstractmethod
    def _moment(self, path: Path, k: int) -> None: ...
    @abstractmethod
    def _written(self, path: Path) -> None: ...
    @abstractmethod
    def _frames(self, look: Look, last: bool) -> list[NDArray[np.uint8]]: ...


@dataclass(frozen=True)
class CellFilm(Film):
    """Automata.

    Attributes:
        states: (T, B, X, Y, Z) int64.
        steps: (T,) of level 0.
        columns: (T, B, X, Y, Z) each.
    """

    states: NDArray[np.int64]
    steps: Sequence[int]
    columns: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    endings: ClassVar[tuple[str, ...]] = (".npy", ".vti", ".pvd", ".png", ".gif")
    _vtk: ClassVar[str] = ".vti"

    def _times(self) -> list[float]:
        return [float(step) for step in self.steps]

    def _moment(self, path: Path, k: int) -> None:
        """The first system of the batch; of others the states alone, as vectors."""
        every = {"state": self.states[k]} | {name: c[k] for name, c in self.columns.items()}
        write_vti(
            path,
            {n: v[0] if len(v) == 1 else np.moveaxis(v, 0, -1) for n, v in every.items()},
        )

    def _written(self, path: Path) -> None:
        if path.suffix == ".vti":
            return self._moment(path, len(self.states) - 1)
        if self.columns:
            raise InvalidArgument(f"--out: .npy holds states alone, not {', '.join(self.columns)}")
        single = self.states.shape[1] == 1
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.save(file, self.states[:, 0] if single else self.states)

    def _frames(self, look: Look, last: bool) -> list[NDArray[np.uint8]]:
        shown = self.states if look.colour is None else self._column(look.colour)
        shown = (shown[-1:] if last else shown)[:, 0]
        # what lacks an axis is seen along it
        axis = look.axis if shown.shape[1 + look.axis] == 1 or 1 not in shown.shape[1:] else -1
        axis = axis if axis >= 0 else list(shown.shape[1:]).index(1)
        layer = shown.shape[1 + axis] // 2 if look.layer is None else look.layer
        limits = (float(shown.min()), float(shown.max()))
        pixels = max(1, 400 // max(shown.shape[1:]))
        return [
            slice_frame(box, axis=axis, index=layer, limits=limits, pixels=pixels) for box in shown
        ]


@dataclass(frozen=True)
class AtomFilm(Film):
    """Atoms.

    Attributes:
        trajectory: of one system.
        columns: (T, n) each.
    """

    trajectory: Trajectory
    columns: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    endings: ClassVar[tuple[str, ...]] = (
        ".extxyz", ".lammpstrj", ".npy", ".vtp", ".pvd", ".png", ".gif",
    )  # fmt: skip
    _vtk: ClassVar[str] = ".vtp"

    def atoms(self, k: int) -> Atoms:
        """A moment with its columns; velocities in A/fs as columns too."""
        told = self.trajectory
        assert told.symbols is not None and told.ids is not None
        made = Atoms(told.symbols.tolist(), told.positions[k], cell=told.cell, pbc=told.pbc)
        made.set_array("id", told.ids)
        if told.velocities is not None:
            made.set_array("velo", told.velocities[k])
        for name, column in self.columns.items():
            made.set_array(name, np.asarray(column[k], dtype=float))
        made.info |= {"time": float(told.times[k]), "units": told.units or "real"}
        return made

    def _times(self) -> list[float]:
        return [float(time) for time in self.trajectory.times]

    def _moment(self, path: Path, k: int) -> None:
        atoms = self.atoms(k)
        arrays = {name: atoms.arrays[name] for name in ("velo", *self.columns) if atoms.has(name)}
        write_vtp(path, atoms, arrays)

    def _written(self, path: Path) -> None:
        count = len(self.trajectory)
        if path.suffix == ".vtp":
            return self._moment(path, count - 1)
        if path.suffix == ".npy":
            with atomic_path(path) as temporary, temporary.open("wb") as file:
                np.save(file, self.trajectory.positions)
        elif not self.columns:
            write_trajectory(path, self.trajectory, dt=_unit(self.trajectory.times))
        elif path.suffix == ".extxyz":
            write_extxyz(path, [self.atoms(k) for k in range(count)])
        else:
            frames = [self.atoms(k) for k in range(count)]
            some = () if self.trajectory.velocities is None else ("vx", "vy", "vz")
            for atoms in frames:
                atoms.arrays["id"] = atoms.arrays["id"] - 1
                for k, name in enumerate(some):
                    atoms.set_array(name, atoms.arrays["velo"][:, k])
            write_dump(path, frames, [*some, *self.columns])

    def _frames(self, look: Look, last: bool) -> list[NDArray[np.uint8]]:
        values: NDArray[Any] | None = None
        limits = None
        if look.colour is not None:
            values = self._column(look.colour)
            limits = (float(values.min()), float(values.max()))
        count = len(self.trajectory)
        chosen = [count - 1] if last else range(count)
        made = [
            atoms_frame(
                self.atoms(k),
                None if values is None else values[k],
                axis=look.axis,
                limits=limits,
                title=f"{self.trajectory.times[k]:g} fs",
            )
            for k in chosen
        ]
        return _alike(made)


def film_of(
    states: Sequence[Any],
    steps: Sequence[int],
    start: Moments,
    *,
    dt: float = 1.0,
    told: Sequence[Told] = (),
) -> Film:
    """What a rollout from moments of a file recorded, in the file's own places.

    Args:
        states: of automata or of atoms.
        steps: of each.
        start: where they began.
        dt: fs, of a step.
        told: of each state, or nothing.

    Raises:
        InvalidArgument: atoms of several systems.
    """
    names = ("expected", "low", "high")
    if isinstance(states[0], Tensor):
        array = torch.stack(list(states)).numpy()
        columns = {
            name: torch.stack([getattr(one, name) for one in told]).double().numpy()
            for name in (names if told else ())
        }
        return CellFilm(array, list(steps), columns)
    trajectory = trajectory_of(states, [step * dt for step in steps])
    shift = 0.0 if start.shift is None else start.shift
    cell = trajectory.cell if start.cell is None else start.cell
    trajectory = replace(trajectory, positions=trajectory.positions - shift, cell=cell)
    orders = [state.ids.argsort().numpy() for state in states]
    columns = {
        name: np.stack(
            [
                at_atoms(getattr(one, name), _grid(one), state)[order].astype(float)
                for one, state, order in zip(told, states, orders, strict=True)
            ]
        )
        for name in (names if told else ())
    }
    return AtomFilm(trajectory, columns)


def film_from(path: str | Path, reading: Reading | None = None, colour: str | None = None) -> Film:
    """What a file holds; see `read_moments`.

    Args:
        path: file, or a run of a set of carbon.
        reading: settings; of those for cells none counts.
        colour: a column of an extxyz file to read too.

    Raises:
        FileFormatError: it cannot be read.
        InvalidArgument: no such column.
    """
    path, reading = Path(path), reading or Reading()
    if path.suffix == ".npy":
        states = torch.stack(read_grids(path, reading.stride).states).numpy()
        return CellFilm(states, [k * reading.stride for k in range(len(states))])
    (raw,) = read_raw(path, reading)
    trajectory = raw.trajectory
    if trajectory.symbols is None:
        numbers = states_of(trajectory[:1], elements=reading.elements)[0].numbers
        trajectory = replace(
            trajectory, symbols=np.array([chemical_symbols[z] for z in numbers.tolist()])
        )
    return AtomFilm(
        trajectory, {} if colour is None else {colour: _read_column(path, colour, reading)}
    )


def _read_column(path: Path, name: str, reading: Reading) -> NDArray[np.float64]:
    """(T, n) of an extxyz file, atoms by id."""
    if path.suffix not in (".xyz", ".extxyz"):
        raise InvalidArgument(f"--colour: {path.name} has no columns that are known; extxyz has")
    frames = read(path, f"::{reading.stride}", format="extxyz")
    for atoms in frames:
        if name not in atoms.arrays or atoms.arrays[name].ndim != 1:
            known = [n for n, array in atoms.arrays.items() if array.ndim == 1]
            raise InvalidArgument(f"--colour: no column {name!r} in {path.name}, there is {known}")
    orders = [np.argsort(a.arrays["id"]) if "id" in a.arrays else slice(None) for a in frames]
    rows = [a.arrays[name][order].astype(float) for a, order in zip(frames, orders, strict=True)]
    return np.stack(rows)


def _grid(told: Told) -> Grid:
    assert told.grid is not None
    return told.grid


def _unit(times: NDArray[np.float64]) -> float:
    """fs of a step that all times are multiples of."""
    steps = np.diff(times)
    return float(steps.min()) if len(steps) else 1.0


def _alike(frames: list[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    """Pictures on white of the size of the largest."""
    height, width = np.max([frame.shape[:2] for frame in frames], axis=0)
    made = []
    for frame in frames:
        white = np.full((height, width, 3), 255, np.uint8)
        white[: frame.shape[0], : frame.shape[1]] = frame
        made.append(white)
    return made
