"""Recurring patterns in vectors of cells, on every level: features, principal parts, clusters.

window = [net.encode([state]) for state in states]       # or codes of a higher level
seen = features(window)                                   # of every cell with its surroundings
found = cluster(seen.reshape(-1, seen.shape[-1]), 4)      # found.labels, found.centres
principal = components(window[0].h)                       # principal.explained
atoms = with_columns(state.atoms()[0], pattern=at_atoms(labels, grid, state))
write_dump("patterns.dump", atoms, ["pattern"])
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from ase import Atoms
from torch import Tensor

from mlcore.errors import InvalidArgument
from mlcore.io.atomic import write_text
from mlcore.sagesnet.atoms.state import AtomState
from mlcore.sagesnet.feedback import carried
from mlcore.sagesnet.grid import Grid
from mlcore.sagesnet.lattice import ActiveLattice, DenseLattice, Lattice

__all__ = [
    "Clusters",
    "Components",
    "adjusted_rand",
    "at_atoms",
    "cluster",
    "components",
    "features",
    "surroundings",
    "with_columns",
    "write_dump",
    "write_extxyz",
]

Numbers = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
_EMPTY = 1e-6
"""Part of the largest contents below which a neighbourhood counts as uniform."""


# -- features ------------------------------------------------------------------------------------


def surroundings(values: Tensor, lattice: Lattice, reach: int) -> Tensor:
    """Mean of values (..., N) over the cells around each, nearer ones counting more.

    Args:
        values: of the lattice's cells.
        lattice: where they lie; cells that are not there count for nothing.
        reach: how many cells away is still felt; 0 changes nothing.
    """
    ones = torch.ones_like(values[..., :1])
    both = torch.cat([values, ones], dim=-1)
    weight = torch.zeros(2 * (both.shape[-1],) + (3, 3, 3)).to(values)
    weight[range(both.shape[-1]), range(both.shape[-1])] = 1 / 27
    for _ in range(reach):
        both = lattice.scatter(both, weight)
    return both[..., :-1] / both[..., -1:]


def features(
    window: Sequence[Grid], *, reach: int = 2, lags: int = 2, sharpness: float = 20.0
) -> Tensor:
    """What goes on around every cell in a window of time, whatever its vectors mean.

    Of a neighbourhood are told: whether there is something in it at all (its vectors differ among
    themselves), and for each lag whether what is there has changed after so many steps, relative to
    how much is there. Things at rest change at no lag, things that repeat themselves do not change at
    their period, and things that move change at all.

    Args:
        window: more than ``lags`` consecutive grids of one level; where only occupied cells are
            computed, those of the first are told of.
        reach: of a neighbourhood, in cells of the level.
        lags: steps of the level up to which changes are told.
        sharpness: changes of 1 / sharpness of the contents count half.

    Returns:
        (..., 1 + lags) of the cells, all within 0 and 1.

    Raises:
        InvalidArgument: the window is too short, or of several boxes.
    """
    if not isinstance(lags, int) or lags < 1 or not isinstance(reach, int) or reach < 0:
        raise InvalidArgument(
            f"lags must be from 1 on and reach from 0 on, got {lags!r}, {reach!r}"
        )
    if len(window) <= lags:
        raise InvalidArgument(f"window must hold more than lags = {lags} grids, got {len(window)}")
    lattice = window[0].lattice
    if len({(*_extents(grid.lattice), grid.h.shape[-1]) for grid in window}) != 1:
        raise InvalidArgument("window: grids must all be of one box and level")
    with torch.no_grad():
        frames = [carried(grid.h.detach(), grid.lattice, lattice) for grid in window]
        h = torch.stack(frames).double()
        mean, square = h.mean(dim=0), h.square().sum(dim=-1).mean(dim=0)[..., None]
        changes = [
            (h[lag:] - h[:-lag]).square().sum(dim=-1).mean(dim=0) for lag in range(1, lags + 1)
        ]
        parts = torch.cat([mean, square, torch.stack(changes, dim=-1)], dim=-1)
        seen = surroundings(parts, lattice, reach)
        channels = h.shape[-1]
        contents = seen[..., channels] - seen[..., :channels].square().sum(dim=-1)
        floor = _EMPTY * contents.max().clamp(min=1e-30)
        something = contents > floor
        relative = seen[..., channels + 1 :] / contents.clamp(min=floor)[..., None]
        changed = torch.where(something[..., None], relative, torch.zeros_like(relative))
        changed = sharpness * changed / (1 + sharpness * changed)
        return torch.cat([something.double()[..., None], changed], dim=-1)


# -- principal components and clusters -----------------------------------------------------------


@dataclass(frozen=True)
class Components:
    """Directions in which vectors differ most.

    Attributes:
        mean: (C,).
        axes: (parts, C) orthonormal, by falling variance.
        explained: (parts,) of the whole variance.
    """

    mean: Numbers
    axes: Numbers
    explained: Numbers

    def project(self, rows: Tensor | Numbers) -> Numbers:
        """(..., C) -> (..., parts)."""
        projected: Numbers = (_rows(rows) - self.mean) @ self.axes.T
        return projected.reshape(*np.shape(rows)[:-1], len(self.axes))


@dataclass(frozen=True)
class Clusters:
    """Groups of alike vectors, the largest first.

    Attributes:
        centres: (count, C).
        labels: (n,) int64, which group each is in.
        spread: mean squared distance from the centres.
    """

    centres: Numbers
    labels: Integers
    spread: float

    def assign(self, rows: Tensor | Numbers) -> Integers:
        """(..., C) of others -> (...) the nearest centre."""
        from scipy.cluster.vq import vq

        labels: Integers = vq(_rows(rows), self.centres)[0].astype(np.int64)
        return labels.reshape(np.shape(rows)[:-1])


def components(rows: Tensor | Numbers, parts: int | None = None) -> Components:
    """Principal component analysis of (..., C).

    Args:
        rows: vectors.
        parts: how many; None: all.

    Raises:
        InvalidArgument: fewer than two vectors, one not finite, or ``parts`` out of range.
    """
    table = _rows(rows)
    most = min(table.shape)
    if len(table) < 2:
        raise InvalidArgument(f"rows must be at least two vectors, got {len(table)}")
    count = most if parts is None else parts
    if not isinstance(count, int) or not 1 <= count <= most:
        raise InvalidArgument(f"parts must be from 1 to {most}, got {parts!r}")
    mean = table.mean(axis=0)
    _, values, axes = np.linalg.svd(table - mean, full_matrices=False)
    whole = float((values**2).sum())
    explained = values**2 / whole if whole > 0 else np.zeros_like(values)
    return Components(mean, axes[:count], explained[:count])


def cluster(rows: Tensor | Numbers, count: int, *, seed: int = 0, restarts: int = 10) -> Clusters:
    """k-means (k-means++ starts, the best of some).

    Args:
        rows: (..., C).
        count: of groups.
        seed: of the starts.
        restarts: how many of them.

    Raises:
        InvalidArgument: naming what is out of range, or fewer different vectors than groups.
    """
    from scipy.cluster.vq import kmeans2

    table = _rows(rows)
    if not isinstance(count, int) or count < 1 or not isinstance(restarts, int) or restarts < 1:
        raise InvalidArgument(f"count and restarts must be from 1 on, got {count!r}, {restarts!r}")
    # equal vectors are counted, not carried
    unique, back, weights = np.unique(table, axis=0, return_inverse=True, return_counts=True)
    if len(unique) < count:
        raise InvalidArgument(f"count must be at most {len(unique)}, as many vectors differ")
    best: tuple[float, Numbers, Integers] | None = None
    for start in range(restarts):
        generator = np.random.default_rng([seed, start])
        _, labels = kmeans2(unique, count, minit="++", rng=generator, missing="warn", iter=1)
        spread, centres, labels = _lloyd(unique, weights.astype(float), labels, count)
        if best is None or spread < best[0]:
            best = spread, centres, labels
    assert best is not None
    spread, centres, labels = best
    every = labels[back.reshape(-1)]
    order = np.argsort(-np.bincount(every, minlength=count), kind="stable")
    place = np.empty(count, dtype=np.int64)
    place[order] = np.arange(count)
    return Clusters(centres[order], place[every], spread / len(table))


def _lloyd(
    rows: Numbers, weights: Numbers, labels: Integers, count: int, most: int = 300
) -> tuple[float, Numbers, Integers]:
    """Weighted k-means from some labels; an empty group takes the vector that is worst off."""
    centres = np.zeros((count, rows.shape[1]))
    for _ in range(most):
        for k in range(count):
            mine = labels == k
            if mine.any():
                centres[k] = np.average(rows[mine], axis=0, weights=weights[mine])
            else:
                worst = np.argmax(_distances(rows, centres, labels))
                centres[k], labels[worst] = rows[worst], k
        distances = ((rows[:, None] - centres) ** 2).sum(axis=2)
        new = distances.argmin(axis=1)
        if (new == labels).all():
            break
        labels = new
    spread = float((weights * _distances(rows, centres, labels)).sum())
    return spread, centres, labels


def _distances(rows: Numbers, centres: Numbers, labels: Integers) -> Numbers:
    distances: Numbers = ((rows - centres[labels]) ** 2).sum(axis=1)
    return distances


def adjusted_rand(labels: npt.ArrayLike, others: npt.ArrayLike) -> float:
    """How alike two groupings are: 1 the same but for names, 0 as by chance.

    L. Hubert, P. Arabie, J. Classif. 2, 193 (1985).

    Raises:
        InvalidArgument: they are not of the same length.
    """
    a, b = (np.unique(np.asarray(x).ravel(), return_inverse=True)[1] for x in (labels, others))
    if len(a) != len(b) or not len(a):
        raise InvalidArgument(f"labels and others must be of one length: {len(a)}, {len(b)}")
    table = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(table, (a, b), 1)

    def pairs(counts: Numbers) -> float:
        return float((counts * (counts - 1) / 2).sum())

    both, first, second = pairs(table), pairs(table.sum(axis=1)), pairs(table.sum(axis=0))
    every = len(a) * (len(a) - 1) / 2
    expected = first * second / every if every else 0.0
    most = (first + second) / 2
    return 1.0 if most == expected else (both - expected) / (most - expected)


def _rows(rows: Tensor | Numbers) -> Numbers:
    """(n, C) float64."""
    held = rows.detach().cpu().numpy() if isinstance(rows, Tensor) else rows
    table = np.asarray(held, dtype=np.float64)
    if table.ndim < 2 or not np.isfinite(table).all():
        raise InvalidArgument("rows must be finite vectors (..., C)")
    return table.reshape(-1, table.shape[-1])


# -- atoms ---------------------------------------------------------------------------------------


def at_atoms(
    values: Tensor | npt.ArrayLike, grid: Grid, state: AtomState
) -> npt.NDArray[np.generic]:
    """Values of the cells of any level, as columns of the atoms in them.

    Args:
        values: (...) or (..., N) as the grid's cells lie.
        grid: of the cells.
        state: on whose grid that of level 0 is built.

    Returns:
        (n,) or (n, N), in the state's order.

    Raises:
        InvalidArgument: an atom is in a cell that the grid does not have.
    """
    held = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    lattice = grid.lattice
    extents = _extents(lattice)
    space = [n // k for n, k in zip(_extents(grid.lattices[0]), extents, strict=True)]
    cell = state.cell.cpu().numpy() // np.array(space)
    where = np.concatenate([state.system.cpu().numpy()[:, None], cell], axis=1)
    rows = _places(lattice, where, state.batch)
    leading = 4 if isinstance(lattice, DenseLattice) else 1
    flat = held.reshape(-1, *held.shape[leading:])
    found: npt.NDArray[np.generic] = flat[rows]
    return found


def with_columns(atoms: Atoms, **columns: npt.ArrayLike) -> Atoms:
    """A copy with values of each atom, which `ase.io.write` puts into extxyz files.

    Raises:
        InvalidArgument: a column is not as long as there are atoms.
    """
    copy: Atoms = atoms.copy()
    for name, column in columns.items():
        values = np.asarray(column)
        if len(values) != len(atoms):
            raise InvalidArgument(f"{name} must hold {len(atoms)} values, got {len(values)}")
        copy.set_array(name, values)
    return copy


def write_extxyz(path: str | os.PathLike[str], frames: Atoms | Sequence[Atoms]) -> None:
    """Atoms with all of their columns, whole or not at all."""
    import io

    from ase.io import write

    text = io.StringIO()
    write(text, frames, format="extxyz")
    write_text(path, text.getvalue())


def write_dump(
    path: str | os.PathLike[str], frames: Atoms | Sequence[Atoms], columns: Sequence[str] = ()
) -> None:
    """A LAMMPS text dump with columns of one's own, which OVITO reads and colours by.

    Args:
        path: file.
        frames: with equal elements; the number of a frame is its time step.
        columns: names of arrays with one number for each atom.

    Raises:
        InvalidArgument: a column is missing or no column of numbers, or a box is not one that LAMMPS
            knows (a along x, b in the xy plane).
    """
    many = [frames] if isinstance(frames, Atoms) else list(frames)
    symbols = sorted({symbol for atoms in many for symbol in atoms.get_chemical_symbols()})
    write_text(path, "".join(_frame(k, a, columns, symbols) for k, a in enumerate(many)))


def _frame(step: int, atoms: Atoms, columns: Sequence[str], symbols: Sequence[str]) -> str:
    box = np.asarray(atoms.cell[:], dtype=float)
    if abs(box[np.triu_indices(3, 1)]).max() > 1e-9 or not (np.diag(box) > 0).all():
        raise InvalidArgument("frames: a box must have a along x and b in the xy plane")
    xy, xz, yz = box[1, 0], box[2, 0], box[2, 1]
    wide = [(min(0, xy, xz, xy + xz), max(0, xy, xz, xy + xz)), (min(0, yz), max(0, yz)), (0, 0)]
    flags = " ".join("pp" if p else "ff" for p in atoms.pbc)
    lines = [f"ITEM: TIMESTEP\n{step}\nITEM: NUMBER OF ATOMS\n{len(atoms)}"]
    lines.append(f"ITEM: BOX BOUNDS xy xz yz {flags}")
    for (low, high), length, tilt in zip(wide, np.diag(box), (xy, xz, yz), strict=True):
        lines.append(f"{float(low)!r} {float(length + high)!r} {float(tilt)!r}")
    told = [_column(atoms, name) for name in columns]
    lines.append("ITEM: ATOMS " + " ".join(["id type element xu yu zu", *columns]))
    ids = atoms.arrays.get("id", np.arange(len(atoms)))
    for i, (symbol, place) in enumerate(
        zip(atoms.get_chemical_symbols(), atoms.positions.tolist(), strict=True)
    ):
        own = [ids[i] + 1, symbols.index(symbol) + 1, symbol, *map(repr, place)]
        lines.append(" ".join(map(str, [*own, *(repr(c[i].item()) for c in told)])))
    return "\n".join(lines) + "\n"


def _column(atoms: Atoms, name: str) -> npt.NDArray[np.generic]:
    column: npt.NDArray[np.generic] | None = atoms.arrays.get(name)
    if column is None or column.ndim != 1 or column.dtype.kind not in "iuf":
        raise InvalidArgument(f"frames: {name!r} is no column of numbers of the atoms")
    return column


def _extents(lattice: Lattice) -> tuple[int, int, int]:
    if isinstance(lattice, DenseLattice):
        return lattice.extents
    if isinstance(lattice, ActiveLattice):
        x, y, z = lattice.active.grid_shape
        return x, y, z
    raise InvalidArgument(f"grid: a {type(lattice).__name__} does not tell where its cells are")


def _places(lattice: Lattice, where: Integers, batch: int) -> Integers:
    """Rows of cells (n, 4) in a lattice's features."""
    shape = (batch, *_extents(lattice))
    keys = np.ravel_multi_index(tuple(where.T), shape)
    if isinstance(lattice, DenseLattice):
        return np.asarray(keys, dtype=np.int64)
    assert isinstance(lattice, ActiveLattice)
    held = torch.as_tensor(lattice.active.coordinates).cpu().numpy()
    if held.shape[1] == 3:
        held = np.concatenate([np.zeros((len(held), 1), held.dtype), held], axis=1)
    own = np.ravel_multi_index(tuple(held.T), shape)
    order = np.argsort(own)
    found = order[np.minimum(np.searchsorted(own[order], keys), len(own) - 1)]
    if (own[found] != keys).any():
        raise InvalidArgument("grid: an atom is in a cell that it does not have")
    rows: Integers = found.astype(np.int64)
    return rows
