"""Distributions of distances and angles between neighbors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from ase import Atoms

from mlcore.errors import InvalidArgument
from mlcore.forcefield.targets.face import Array
from mlcore.forcefield.targets.md.averages import BLOCKS, block_error, pooled
from mlcore.forcefield.targets.md.sampled import Runs, Sampled
from mlcore.forcefield.targets.md.simulation import Simulation, Trajectory
from mlcore.neighbors import neighbor_list

__all__ = [
    "AngleDistribution",
    "RadialDistribution",
    "angle_histogram",
    "chosen",
    "radial_histogram",
]


class RadialDistribution(Sampled):
    """Radial distribution function g(r) at a temperature; one term, its RMS error.

    Args:
        structure: a crystal or a liquid, periodic.
        temperature: K.
        r: (R,) middles of bins of equal width, A.
        g: (R,) reference.
        sigma: tolerance of the root mean square error over bins.
        pair: two species, of which the second are counted around the first; all where left out.
        simulation: how it is run.
        supercell: how often the structure is repeated.
        **options: name, group, level, weight; see `Target`.

    Raises:
        InvalidArgument: bins of different width or below 0, a species that is not there.
    """

    def __init__(
        self,
        structure: Atoms,
        temperature: float,
        r: npt.ArrayLike,
        g: npt.ArrayLike,
        *,
        sigma: float = 0.1,
        pair: tuple[str, str] | None = None,
        simulation: Simulation | None = None,
        supercell: tuple[int, int, int] = (1, 1, 1),
        **options: Any,
    ) -> None:
        name = options.pop("name", f"g(r) of {structure.info.get('name', 'structure')}")
        self.edges = _edges(name, r, 0.0, np.inf)
        wanted = _same(name, g, len(self.edges) - 1)
        super().__init__(
            name, structure, [temperature], simulation, wanted, sigma * np.sqrt(len(wanted)),
            [name], np.zeros(len(wanted), dtype=np.int64), unit="", supercell=supercell, **options,
        )  # fmt: skip
        atoms = self.structures[0]
        self._around, self._of = (
            chosen(name, atoms, None if pair is None else one) for one in (pair or (None, None))
        )

    def found(self, runs: Sequence[Runs]) -> tuple[Array, Array]:
        return pooled([_blocks(run, self._one) for run in runs[0]])

    def _one(self, positions: Array, cell: Array) -> Array:
        return radial_histogram(positions, cell, self.edges, self._around, self._of)


class AngleDistribution(Sampled):
    """Distribution of the angles between two neighbors of an atom; one term, its RMS error.

    Args:
        structure: a crystal or a liquid, periodic.
        temperature: K.
        angles: (R,) middles of bins of equal width, degrees.
        p: (R,) reference, per degree; over 0 to 180 it has the integral 1.
        cutoff: neighbors are closer, A.
        sigma: tolerance of the root mean square error over bins, per degree.
        centre: species of the atom in the middle; all where left out.
        simulation: how it is run.
        supercell: how often the structure is repeated.
        **options: name, group, level, weight; see `Target`.

    Raises:
        InvalidArgument: bins of different width or outside 0 to 180, a species that is not there.
    """

    def __init__(
        self,
        structure: Atoms,
        temperature: float,
        angles: npt.ArrayLike,
        p: npt.ArrayLike,
        *,
        cutoff: float,
        sigma: float = 1e-3,
        centre: str | None = None,
        simulation: Simulation | None = None,
        supercell: tuple[int, int, int] = (1, 1, 1),
        **options: Any,
    ) -> None:
        name = options.pop("name", f"angles of {structure.info.get('name', 'structure')}")
        self.edges = _edges(name, angles, 0.0, 180.0)
        wanted = _same(name, p, len(self.edges) - 1)
        if not (np.isfinite(cutoff) and cutoff > 0):
            raise InvalidArgument(f"{name}: cutoff must be positive, got {cutoff}")
        self.cutoff = float(cutoff)
        super().__init__(
            name, structure, [temperature], simulation, wanted, sigma * np.sqrt(len(wanted)),
            [name], np.zeros(len(wanted), dtype=np.int64), unit="1/degree", supercell=supercell, **options,
        )  # fmt: skip
        self._centre = chosen(name, self.structures[0], centre)

    def found(self, runs: Sequence[Runs]) -> tuple[Array, Array]:
        return pooled([_blocks(run, self._one) for run in runs[0]])

    def _one(self, positions: Array, cell: Array) -> Array:
        return angle_histogram(positions, cell, self.edges, self.cutoff, self._centre)


def radial_histogram(
    positions: Array,
    cell: Array,
    edges: Array,
    around: npt.NDArray[np.bool_],
    of: npt.NDArray[np.bool_],
) -> Array:
    """g(r) of one frame: (R,) density of atoms ``of`` in shells around those ``around``.

    Args:
        positions: (n, 3) A.
        cell: (3, 3), rows are vectors, A.
        edges: (R + 1,) of the shells, A.
        around, of: (n,) which atoms.
    """
    i, j, d = neighbor_list("ijd", positions, float(edges[-1]), cell, True, sorted=False)
    counts = np.histogram(d[around[i] & of[j]], edges)[0]
    shells = 4 / 3 * np.pi * np.diff(edges**3)
    # an atom is not its own neighbor
    partners = of.sum() - (around & of).sum() / max(around.sum(), 1)
    density = partners / abs(np.linalg.det(cell))
    found: Array = counts / (around.sum() * density * shells)
    return found


def angle_histogram(
    positions: Array,
    cell: Array,
    edges: Array,
    cutoff: float,
    centre: npt.NDArray[np.bool_],
) -> Array:
    """(R,) distribution, per degree, of the angles between two neighbors of one atom.

    Args:
        positions: (n, 3) A.
        cell: (3, 3), rows are vectors, A.
        edges: (R + 1,) of the bins, degrees.
        cutoff: neighbors are closer, A.
        centre: (n,) which atoms may be in the middle.
    """
    i, vectors, d = neighbor_list("iDd", positions, cutoff, cell, True)
    here = centre[i]
    i, units = i[here], vectors[here] / d[here, None]
    counts = np.bincount(i, minlength=len(positions))
    place = np.arange(len(i)) - np.repeat(np.cumsum(counts) - counts, counts)
    most = int(counts.max(initial=0))
    table = np.zeros((len(positions), most, 3))
    table[i, place] = units
    filled = np.arange(most) < counts[:, None]
    cosines = np.clip(table @ table.transpose(0, 2, 1), -1, 1)
    one, other = np.triu_indices(most, 1)
    both = filled[:, one] & filled[:, other]
    angles = np.degrees(np.arccos(cosines[:, one, other][both]))
    found: Array = np.histogram(angles, edges)[0] / (max(len(angles), 1) * np.diff(edges))
    return found


def _blocks(run: Trajectory, of: Callable[[Array, Array], Array]) -> tuple[Array, Array]:
    """Mean over frames, and its error by stretches of time."""
    rows = [of(x, cell) for x, cell in zip(run.positions, run.cells, strict=True)]
    parts = np.array_split(np.array(rows), min(BLOCKS, len(rows)))
    return np.mean(rows, axis=0), block_error([part.mean(axis=0) for part in parts])


def _edges(name: str, middles: npt.ArrayLike, least: float, most: float) -> Array:
    x = np.asarray(middles, dtype=np.float64)
    if x.ndim != 1 or len(x) < 2 or not np.allclose(np.diff(x), x[1] - x[0], rtol=1e-6):
        raise InvalidArgument(f"{name}: bins must have their middles at equal distances")
    width = float(x[-1] - x[0]) / (len(x) - 1)
    edges: Array = x[0] + width * (np.arange(len(x) + 1) - 0.5)
    if width <= 0 or edges[0] < least - 1e-9 or edges[-1] > most + 1e-9:
        raise InvalidArgument(f"{name}: bins must grow from {least:g} to at most {most:g}")
    return edges


def _same(name: str, reference: npt.ArrayLike, bins: int) -> Array:
    wanted = np.asarray(reference, dtype=np.float64)
    if wanted.shape != (bins,):
        raise InvalidArgument(f"{name}: {bins} bins, but a reference of shape {wanted.shape}")
    return wanted


def chosen(name: str, structure: Atoms, species: str | None) -> npt.NDArray[np.bool_]:
    """(n,) which atoms are ``species``."""
    if species is None:
        return np.ones(len(structure), dtype=bool)
    given = structure.arrays.get("species")
    names = np.asarray(structure.get_chemical_symbols() if given is None else given, dtype=str)
    found: npt.NDArray[np.bool_] = names == species
    if not found.any():
        raise InvalidArgument(f"{name}: no {species} in {structure.get_chemical_formula()}")
    return found
