"""What tasks made, frame by frame, as the 3D viewer of pages takes it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["LARGEST", "CellFilm", "Film", "Filmed", "PointFilm", "TrajectoryFilm"]

LARGEST = 256 << 20
"""Bytes of a file that is read for a film."""
MOST_FRAMES = 400
_ATOMS, _CELLS = 20_000, 48  # most atoms, most cells along an axis that travel
_BEAD = 0  # number of what is no element


class Film(ABC):
    """Frames.

    Attributes:
        what: they show.
        count: of frames.
    """

    what: str

    @property
    @abstractmethod
    def count(self) -> int: ...

    @abstractmethod
    def frame(self, k: int) -> dict[str, Any]:
        """Frame ``k``: ``numbers``, ``positions``, ``cell``, ``pbc``, or ``grid``.

        Also ``symbols``, where particles have names, and ``extent``, where there is no cell: a range
        for each axis that holds all frames.
        """


class Filmed(ABC):
    """A kind of task that makes something to be seen in three dimensions."""

    name: ClassVar[str]

    @abstractmethod
    def film(self, folder: Path) -> Film | None:
        """What a task has made by now; None where there is nothing yet.

        Raises:
            Error: a file of it cannot be read.
        """


def _chosen(count: int, most: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


@dataclass(frozen=True)
class PointFilm(Film):
    """Particles whose places are an array.

    Attributes:
        positions: (T, n, d), d from 1 to 3.
        numbers: (n,) of elements; None: they are none.
        cell: (3, 3), or None.
        pbc: along which of its vectors it repeats.
        names: (n,) what particles are called that are no elements.
    """

    positions: NDArray[np.floating[Any]]
    what: str
    numbers: NDArray[np.int64] | None = None
    cell: NDArray[np.float64] | None = None
    pbc: tuple[bool, bool, bool] = (False, False, False)
    names: tuple[str, ...] | None = None

    @property
    def count(self) -> int:
        return min(len(self.positions), MOST_FRAMES)

    @cached_property
    def extent(self) -> list[list[float]]:
        """Lowest and highest place along each axis, of all frames."""
        axes = self.positions.reshape(-1, self.positions.shape[-1])
        ends = np.stack([axes.min(axis=0), axes.max(axis=0)], axis=1)
        made: list[list[float]] = np.pad(ends, ((0, 3 - len(ends)), (0, 0))).tolist()
        return made

    def frame(self, k: int) -> dict[str, Any]:
        frame = np.asarray(self.positions[_chosen(len(self.positions), MOST_FRAMES)[k]], float)
        n, d = frame.shape
        step = -(-n // _ATOMS)
        frame = np.pad(frame[::step], ((0, 0), (0, 3 - d)))
        if self.cell is not None and any(self.pbc):
            frame = _wrapped(frame, self.cell, self.pbc)
        numbers = np.full(n, _BEAD) if self.numbers is None else self.numbers
        told = {
            "numbers": numbers[::step].tolist(),
            "positions": np.round(frame, 4).tolist(),
            "cell": None if self.cell is None else np.asarray(self.cell).tolist(),
            "pbc": list(self.pbc),
        }
        if self.names is not None:
            told["symbols"] = list(self.names[::step])
        return told if self.cell is not None else told | {"extent": self.extent}


def _wrapped(
    frame: NDArray[np.float64], cell: NDArray[np.float64], pbc: tuple[bool, bool, bool]
) -> NDArray[np.float64]:
    parts = frame @ np.linalg.inv(cell)
    parts = np.where(pbc, parts % 1.0, parts)
    wrapped: NDArray[np.float64] = parts @ cell
    return wrapped


class TrajectoryFilm(Film):
    """Atoms of a file of a trajectory.

    Raises:
        FileFormatError: it cannot be read.
    """

    def __init__(self, path: Path, what: str) -> None:
        self.what = what
        self._film = _read(path, path.stat().st_mtime_ns, what)

    @property
    def count(self) -> int:
        return self._film.count

    def frame(self, k: int) -> dict[str, Any]:
        return self._film.frame(k)


@lru_cache(
    maxsize=4
)  # of files that do not change any more, so that a film is not read frame by frame
def _read(path: Path, changed: int, what: str) -> PointFilm:
    from ase.data import atomic_numbers

    from mlcore.data import read_trajectory

    told = read_trajectory(path)
    numbers = None
    if told.symbols is not None:
        numbers = np.array([atomic_numbers.get(str(s), _BEAD) for s in told.symbols])
    keep = _chosen(len(told.positions), MOST_FRAMES)
    pbc = np.zeros(3, bool) if told.pbc is None else told.pbc
    places = told.positions[keep].astype(np.float32)
    periodic = (bool(pbc[0]), bool(pbc[1]), bool(pbc[2]))
    return PointFilm(places, what, numbers, told.cell, periodic)


@dataclass(frozen=True)
class CellFilm(Film):
    """Grids of cells in a .npy file.

    Attributes:
        path: of (X, Y, Z), (T, X, Y, Z) or (T, B, X, Y, Z) whole numbers; the first of B is shown.
    """

    path: Path
    what: str

    @property
    def _grids(self) -> NDArray[Any]:
        grids: NDArray[Any] = np.load(self.path, mmap_mode="r", allow_pickle=False)
        return grids[None] if grids.ndim == 3 else grids

    @property
    def count(self) -> int:
        return min(len(self._grids), MOST_FRAMES)

    def frame(self, k: int) -> dict[str, Any]:
        grids = self._grids
        grid = grids[_chosen(len(grids), MOST_FRAMES)[k]]
        grid = grid[0] if grid.ndim == 4 else grid
        thin = tuple(slice(None, None, -(-n // _CELLS)) for n in grid.shape)
        shown = np.asarray(grid[thin])
        told = {"shape": list(shown.shape), "values": shown.ravel().tolist()}
        return {"grid": told | {"most": _most(self.path, self.path.stat().st_mtime_ns)}}


@lru_cache(maxsize=16)
def _most(path: Path, changed: int) -> float:
    """The largest value of a file that does not change any more."""
    return float(np.load(path, mmap_mode="r", allow_pickle=False).max())
