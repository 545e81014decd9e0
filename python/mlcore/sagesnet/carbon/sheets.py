"""Carbon bodies to pull at: sheets of graphene, nanotubes, chains of hydrocarbon.

A body is an `ase.Atoms` whose first axis is the direction of the pull. Its array ``grip`` is -1
at the lower grip, 1 at the upper one, 0 between; its array ``id`` numbers the atoms; ``info``
holds ``section``, the area in square angstrom that stress refers to.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.build import nanotube as _nanotube
from numpy.typing import NDArray

from mlcore.errors import InvalidArgument

__all__ = ["BOND", "PAPER", "REDUCED", "THICKNESS", "TINY", "Design", "body", "chain", "tube"]

BOND = 1.3968
"""A: the bond of graphene at rest by AIREBO; widths of sheets, hence stresses, are told with it."""
THICKNESS = 3.7
"""A: of a sheet, as P. Z. Hanakata et al., Phys. Rev. Lett. 121, 255304 (2018), take it."""


@dataclass(frozen=True)
class Design:
    """A sheet and the grid of its cuts.

    Unit cells hold four atoms and are rectangles, armchair along the pull.

    Args:
        grid: cells of the cutting grid (along, across) the pull.
        cells: unit cells of each (along, across).
        grip: rows of unit cells, never cut, at either end; they are held and moved.
        cut: rows of unit cells that a cut takes from a cell of the grid, all across it, in its
            middle; None: three tenths of them, at least one.
        period: edges (along, across) of the unit cell as built, A; the sheet relaxes from there.

    Raises:
        InvalidArgument: naming what is out of range.
    """

    grid: tuple[int, int] = (3, 5)
    cells: tuple[int, int] = (4, 6)
    grip: int = 2
    cut: int | None = None
    period: tuple[float, float] = (4.118, 2.3775)

    def __post_init__(self) -> None:
        for name in ("grid", "cells", "period"):
            pair = getattr(self, name)
            if len(pair) != 2 or not min(pair) > 0:
                raise InvalidArgument(f"{name} must be two numbers above 0, got {pair!r}")
            object.__setattr__(self, name, tuple(pair))
        if self.grip < 1:
            raise InvalidArgument(f"grip must be at least 1 row of unit cells, got {self.grip}")
        if not 0 < self.cut_rows < self.cells[0]:
            raise InvalidArgument(f"cut must leave rows of the {self.cells[0]}, got {self.cut}")

    @property
    def bits(self) -> int:
        """Cells of the grid: length of a pattern."""
        return self.grid[0] * self.grid[1]

    @property
    def cut_rows(self) -> int:
        """Rows of unit cells that a cut takes."""
        return max(1, round(0.3 * self.cells[0])) if self.cut is None else self.cut

    @property
    def shape(self) -> tuple[int, int]:
        """Unit cells (along, across) of the whole sheet."""
        along = self.grid[0] * self.cells[0] + 2 * self.grip
        return along, self.grid[1] * self.cells[1]

    def sheet(self) -> tuple[Atoms, NDArray[np.int64]]:
        """The uncut sheet, and the unit cell (along, across) of every atom (n, 2)."""
        a, b = self.period
        four = np.array([[1 / 6, 0.25], [1 / 3, 0.75], [2 / 3, 0.75], [5 / 6, 0.25]])
        place = np.stack(np.meshgrid(*map(np.arange, self.shape), indexing="ij"), -1)
        place = np.repeat(place.reshape(-1, 2), 4, axis=0)
        flat = (place + np.tile(four, (len(place) // 4, 1))) * [a, b]
        grip = np.zeros(len(place), np.int64)
        grip[place[:, 0] < self.grip] = -1
        grip[place[:, 0] >= self.shape[0] - self.grip] = 1
        x = np.column_stack([flat, np.zeros(len(flat))])
        section = self.shape[1] * np.sqrt(3) * BOND * THICKNESS
        return body(Atoms("C" * len(x), x), grip, section), place


REDUCED = Design()
"""About 1,770 atoms, 67 x 73 A at rest."""
PAPER = Design(cells=(10, 16))
"""The sheet of Hanakata et al.: 34 x 80 unit cells, 10,880 atoms before cuts."""
TINY = Design(grid=(1, 3), cells=(5, 3), grip=1, cut=1)
"""For tests: 252 atoms before cuts."""


def body(atoms: Atoms, grip: NDArray[np.int64], section: float) -> Atoms:
    """``atoms`` as a body: with grips, numbers and the area that stress refers to.

    Raises:
        InvalidArgument: a grip is empty, nothing is between them, or the area is not positive.
    """
    found = {int(g) for g in np.unique(grip)}
    if found != {-1, 0, 1} or len(grip) != len(atoms):
        raise InvalidArgument(f"grip must be -1, 0 or 1 for every atom, all three, got {found}")
    if not (np.isfinite(section) and section > 0):
        raise InvalidArgument(f"section must be an area above 0, got {section!r}")
    made: Atoms = atoms.copy()
    made.set_array("grip", np.asarray(grip, np.int64))
    made.set_array("id", np.arange(len(made), dtype=np.int64))
    made.info = {"section": float(section)}
    made.pbc = False
    return made


def _held(x: NDArray[np.float64], width: float) -> NDArray[np.int64]:
    return np.asarray((x >= x.max() - width).astype(np.int64) - (x <= x.min() + width))


def tube(n: int = 5, m: int = 5, length: int = 12, grip: float = 4.0) -> Atoms:
    """A nanotube (n, m) of ``length`` unit cells, held over ``grip`` A at either end.

    Stress refers to a wall of 3.7 A, as that of a sheet.
    """
    made = _nanotube(n, m, length=length, bond=BOND)
    x = made.positions[:, [2, 0, 1]]
    around = np.sqrt(3) * BOND * np.sqrt(n * n + n * m + m * m)
    return body(Atoms(made.numbers, x), _held(x[:, 0], grip), around * THICKNESS)


def chain(carbons: int = 12, section: float = 18.2) -> Atoms:
    """The straight alkane of so many carbons, a strand of polyethylene, held at its last two.

    Args:
        carbons: number of carbons, from 6 on.
        section: area of a strand in the crystal of polyethylene, A^2.
    """
    if carbons < 6:
        raise InvalidArgument(f"carbons must be at least 6, got {carbons}")
    half = np.radians(112.0) / 2
    k = np.arange(carbons)
    side = np.where(k % 2, 1.0, -1.0)
    c = np.column_stack([1.53 * np.sin(half) * k, side * 1.53 * np.cos(half) / 2, 0 * side])
    spread = np.radians(107.0) / 2
    out = np.column_stack([0 * side, side * np.cos(spread), 0 * side])
    up = np.array([0.0, 0.0, np.sin(spread)])
    first, last = np.array([-1.0, 0.0, 0.0]), np.array([1.0, 0.0, 0.0])
    h = np.concatenate([c + 1.09 * (out + up), c + 1.09 * (out - up)])
    ends = np.array([_third(c[0], out[0], first), _third(c[-1], out[-1], last)])
    x = np.concatenate([c, h, ends])
    owner = np.concatenate([k, k, k, [0, carbons - 1]])
    grip = (owner >= carbons - 2).astype(np.int64) - (owner < 2)
    return body(Atoms("C" * carbons + "H" * (2 * carbons + 2), x), grip, section)


def _third(
    c: NDArray[np.float64], out: NDArray[np.float64], along: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The third hydrogen of an end, where the next carbon of the zigzag would be."""
    step = np.sin(np.radians(56.0)) * along - np.cos(np.radians(56.0)) * out / np.linalg.norm(out)
    return np.asarray(c + 1.09 * step)
