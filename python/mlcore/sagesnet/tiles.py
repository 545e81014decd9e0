"""Grids cut into tiles that are linked by virtual cells: the same numbers for any cut.

The cells at the rim of a tile send to cells beyond it. In a box whose cells are all computed, a tile
scatters into virtual cells around it, and what is in them is added to the cells of its neighbours; of
occupied cells, a tile is told what those around it send. Either way there is one exchange for each
layer of a predictor. Tiles may be smaller than the reach of a kernel, and as small as one cell; a tile
may be its own neighbour around a periodic box.

    lattice = TiledLattice(DenseLattice((70, 95, 10)), tiles((70, 95, 10), (2, 1, 3)))
    h = lattice.cut(h)                      # the cells, tile after tile
    h = lattice.whole(predictor(h, lattice))

`SagesNet.tile` runs a net so, with a worker for each tile; see `mlcore.sagesnet.tiled`.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mlcore import ops
from mlcore.errors import InvalidArgument
from mlcore.sagesnet.lattice import ActiveLattice, DenseLattice, Lattice, Triple, dense_scatter
from mlcore.stencil_active import ActiveSet

__all__ = ["Box", "Exchange", "Tile", "TileLattice", "TiledLattice", "tiles"]

Integers = npt.NDArray[np.int64]
Exchange = Callable[[Mapping[int, Tensor]], Mapping[int, Tensor]]
"""Gives other tiles what is theirs, by their numbers, and returns what they have for this one."""


@dataclass(frozen=True)
class Box:
    """Cells of a grid: ``size`` of them along the axes, from ``start`` on."""

    start: Triple
    size: Triple

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """Of fields (X, Y, Z)."""
        x, y, z = (slice(a, a + n) for a, n in zip(self.start, self.size, strict=True))
        return x, y, z


def tiles(extents: Triple, wanted: int | Sequence[int | Sequence[int]]) -> list[Box]:
    """Boxes that a grid is cut into.

    Args:
        extents: of the grid.
        wanted: how many tiles in all (their surfaces are kept small); or for each axis how many, or
            their sizes.

    Raises:
        InvalidArgument: the grid cannot be cut so.
    """
    if isinstance(wanted, int):
        wanted = _counts(extents, wanted)
    if len(wanted) != 3:
        raise InvalidArgument(f"tiles must be a number, or one entry for each axis: {wanted!r}")
    rows = [_sizes(n, one) for n, one in zip(extents, wanted, strict=True)]
    starts = [[0, *itertools.accumulate(sizes)][:-1] for sizes in rows]
    return [
        Box((a, b, c), (i, j, k))
        for (a, i), (b, j), (c, k) in itertools.product(
            *(list(zip(s, n, strict=True)) for s, n in zip(starts, rows, strict=True))
        )
    ]


def _counts(extents: Triple, wanted: int) -> Triple:
    """Tiles along each axis, so many in all, with the least surface between them."""
    fits = [
        (i, j, wanted // (i * j))
        for i in range(1, wanted + 1)
        if wanted % i == 0
        for j in range(1, wanted // i + 1)
        if wanted // i % j == 0
    ]
    fits = [c for c in fits if all(n <= most for n, most in zip(c, extents, strict=True))]
    if wanted < 1 or not fits:
        raise InvalidArgument(f"tiles: {extents} cells cannot be cut into {wanted} boxes")
    x, y, z = extents
    return min(fits, key=lambda c: (c[0] * y * z + c[1] * x * z + c[2] * x * y, c))


def _sizes(cells: int, wanted: int | Sequence[int]) -> list[int]:
    if isinstance(wanted, int):
        if not 1 <= wanted <= cells:
            raise InvalidArgument(f"tiles: {cells} cells cannot be cut into {wanted}")
        return [len(part) for part in np.array_split(np.arange(cells), wanted)]
    sizes = list(wanted)
    if any(not isinstance(n, int) or n < 1 for n in sizes) or sum(sizes) != cells:
        raise InvalidArgument(f"tiles: sizes {sizes} must be from 1 on and make {cells} cells")
    return sizes


@dataclass(frozen=True)
class TiledLattice(Lattice):
    """A lattice in tiles; features are those of all tiles, one tile after the other.

    (B, N, C) over the N cells of a `DenseLattice`, (M, C) over those of an `ActiveLattice`.

    Args:
        base: the lattice as a whole.
        boxes: every cell is in one of them.

    Raises:
        InvalidArgument: boxes overlap, leave cells out or lie outside.
    """

    base: DenseLattice | ActiveLattice
    boxes: Sequence[Box]
    _plans: dict[int, list[Tile]] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        count = np.zeros(self.extents, dtype=np.int64)
        for box in self.boxes:
            inside = all(
                a >= 0 and n >= 1 and a + n <= most
                for a, n, most in zip(box.start, box.size, self.extents, strict=True)
            )
            if not inside:
                raise InvalidArgument(f"boxes: {box} is not within {self.extents}")
            count[box.slices] += 1
        if not (count == 1).all():
            where = tuple(int(i) for i in np.argwhere(count != 1)[0])
            raise InvalidArgument(f"boxes: cell {where} is in {count[where]} of them, not in one")

    def __reduce__(self) -> tuple[object, ...]:
        """Copies find out anew who tells whom what."""
        return TiledLattice, (self.base, self.boxes)

    @property
    def periodic(self) -> bool:
        """Whether what leaves the box comes in on the other side."""
        base = self.base
        return (base if isinstance(base, DenseLattice) else base.active).boundary == "periodic"

    @property
    def extents(self) -> Triple:
        """Of the grid as a whole."""
        if isinstance(self.base, DenseLattice):
            return self.base.extents
        x, y, z = self.base.active.grid_shape
        return x, y, z

    def scatter(self, values: Tensor, weight: Tensor) -> Tensor:
        plans = self.plans(weight.shape[-1])
        parts = torch.split(values, self.counts, dim=self.axis)
        begun = [tile.begin(part, weight) for tile, part in zip(plans, parts, strict=True)]
        done = []
        for number, tile in enumerate(plans):
            arrived = {s: out[number] for s, (_, out) in enumerate(begun) if number in out}
            done.append(tile.end(begun[number][0], arrived, weight))
        return torch.cat(done, dim=self.axis)

    def cut(self, features: Tensor) -> Tensor:
        """Features of the base lattice as those of the tiles."""
        flat = features.flatten(1, 3) if self.axis else features
        return flat.index_select(self.axis, self._order.to(features.device))

    def whole(self, features: Tensor) -> Tensor:
        """The inverse of `cut`."""
        flat = features.index_select(self.axis, self._place.to(features.device))
        return flat.reshape(len(flat), *self.extents, *flat.shape[2:]) if self.axis else flat

    def part(self, features: Tensor, number: int) -> Tensor:
        """Those of one tile, from the base lattice's."""
        order = torch.split(self._order, self.counts)[number]
        flat = features.flatten(1, 3) if self.axis else features
        return flat.index_select(self.axis, order.to(features.device))

    def coarse(self, space: Triple) -> TiledLattice:
        """In tiles that lie about where those of this one lie."""
        base = self.base.coarse(space)
        extents = tuple(n // k for n, k in zip(self.extents, space, strict=True))
        return TiledLattice(base, _coarser(self.boxes, space, extents))

    def blocks(self, features: Tensor, space: Triple) -> Tensor:
        return self._coarse(space).cut(self.base.blocks(self.whole(features), space))

    def unblocked(self, blocks: Tensor, space: Triple) -> Tensor:
        return self.cut(self.base.unblocked(self._coarse(space).whole(blocks), space))

    def spread(self, values: Tensor) -> Tensor:
        return self.cut(self.base.spread(values))

    @property
    def cells(self) -> int:
        return self.base.cells

    @cached_property
    def counts(self) -> list[int]:
        """Cells computed in each tile."""
        return np.bincount(self._owner, minlength=len(self.boxes)).tolist()  # type: ignore[no-any-return]

    def plans(self, kernel: int) -> list[Tile]:
        """The tiles and who tells whom what, for kernels of this size."""
        if kernel not in self._plans:
            make = _dense if isinstance(self.base, DenseLattice) else _active
            self._plans[kernel] = make(self, kernel)
        return self._plans[kernel]

    def _coarse(self, space: Triple) -> TiledLattice:
        made: dict[Triple, TiledLattice] = self._made
        if space not in made:
            made[space] = self.coarse(space)
        return made[space]

    @cached_property
    def _made(self) -> dict[Triple, TiledLattice]:
        return {}

    @property
    def axis(self) -> int:
        """Of the cells, in features."""
        return 1 if isinstance(self.base, DenseLattice) else 0

    @cached_property
    def _tile(self) -> Integers:
        """(X, Y, Z) which tile a place is in."""
        owner = np.empty(self.extents, dtype=np.int64)
        for number, box in enumerate(self.boxes):
            owner[box.slices] = number
        return owner

    @cached_property
    def _where(self) -> Integers:
        """(N, 4) system, x, y, z of the base lattice's cells."""
        if isinstance(self.base, DenseLattice):
            xyz = np.indices(self.extents).reshape(3, -1).T
        else:
            xyz = np.asarray(torch.as_tensor(self.base.active.coordinates).cpu())
        if xyz.shape[1] == 4:
            return xyz
        return np.concatenate([np.zeros((len(xyz), 1), dtype=np.int64), xyz], axis=1)

    @cached_property
    def _owner(self) -> Integers:
        """(N,) which tile a cell of the base lattice is in."""
        _, x, y, z = self._where.T
        owner: Integers = self._tile[x, y, z]
        return owner

    @cached_property
    def _order(self) -> Tensor:
        return torch.as_tensor(np.argsort(self._owner, kind="stable"))

    @cached_property
    def _place(self) -> Tensor:
        return torch.argsort(self._order)


def _coarser(boxes: Sequence[Box], space: Triple, extents: tuple[int, ...]) -> list[Box]:
    """Boxes of the coarse grid: each of its cells belongs where its first cell does."""
    found = []
    for box in boxes:
        first = [-(-a // k) for a, k in zip(box.start, space, strict=True)]
        last = [-(-(a + n) // k) for a, n, k in zip(box.start, box.size, space, strict=True)]
        size = [min(b, most) - a for a, b, most in zip(first, last, extents, strict=True)]
        if min(size) > 0:
            (a, b, c), (i, j, k) = first, size
            found.append(Box((a, b, c), (i, j, k)))
    return found


# ------------------------------------------------------------------------------------------ tiles
class Tile(ABC):
    """One tile: what it has for others, and what it does with what others have for it.

    Attributes:
        number: of the tile.
        neighbors: with whom something is exchanged, in either direction; never itself.
    """

    number: int
    neighbors: list[int]

    @abstractmethod
    def begin(self, values: Tensor, weight: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
        """What the tile keeps, and what it has for others and itself, by their numbers."""

    @abstractmethod
    def end(self, kept: Tensor, arrived: Mapping[int, Tensor], weight: Tensor) -> Tensor:
        """What every cell of the tile gets."""


@dataclass(frozen=True)
class _DenseTile(Tile):
    """Scatters into virtual cells; what is in them goes to where they lie in truth."""

    number: int
    neighbors: list[int]
    size: Triple
    reach: int
    out: dict[int, Tensor]  # rows of the full scatter for others, in the order of `into` of theirs
    into: dict[int, Tensor]  # cells of this tile that others have something for

    def begin(self, values: Tensor, weight: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
        box = values.reshape(len(values), *self.size, values.shape[-1])
        full = dense_scatter(box, weight, "halo")
        inner = tuple(slice(self.reach, self.reach + n) for n in self.size)
        rows = full.flatten(1, 3)
        given = {to: rows.index_select(1, at.to(rows.device)) for to, at in self.out.items()}
        return full[(slice(None), *inner)].flatten(1, 3), given

    def end(self, kept: Tensor, arrived: Mapping[int, Tensor], weight: Tensor) -> Tensor:
        if not arrived:
            return kept
        # always in the order of the tiles: sums do not depend on who was first
        order = sorted(arrived)
        at = torch.cat([self.into[source] for source in order])
        return kept.index_add(1, at.to(kept.device), torch.cat([arrived[s] for s in order], 1))


def _dense(lattice: TiledLattice, kernel: int) -> list[Tile]:
    out: list[dict[int, Tensor]] = [{} for _ in lattice.boxes]
    into: list[dict[int, Tensor]] = [{} for _ in lattice.boxes]
    for source, box in enumerate(lattice.boxes):
        at, xyz = _around(lattice, box, kernel // 2)
        rows = np.ravel_multi_index(tuple(at.T), [n + kernel // 2 * 2 for n in box.size])
        for to, chosen in _by_tile(lattice, xyz):
            there = lattice.boxes[to]
            local = tuple((xyz[chosen] - there.start).T)
            out[source][to] = torch.as_tensor(rows[chosen])
            into[to][source] = torch.as_tensor(np.ravel_multi_index(local, there.size))
    return [
        _DenseTile(
            t, sorted(({*out[t]} | {*into[t]}) - {t}), box.size, kernel // 2, out[t], into[t]
        )
        for t, box in enumerate(lattice.boxes)
    ]


@dataclass(frozen=True)
class _ActiveTile(Tile):
    """Is told what cells around it send, and scatters with them."""

    number: int
    neighbors: list[int]
    count: int
    out: dict[int, Tensor]  # cells of this tile that others want to hear from
    known: ActiveSet  # the tile's cells, then those of others in the order of these

    def begin(self, values: Tensor, weight: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
        given = {to: values.index_select(0, at.to(values.device)) for to, at in self.out.items()}
        return values, given

    def end(self, kept: Tensor, arrived: Mapping[int, Tensor], weight: Tensor) -> Tensor:
        told = torch.cat([kept, *(arrived[source] for source in sorted(arrived))])
        return ops.scatter3d_active(self.known, told, weight)[: self.count]


def _active(lattice: TiledLattice, kernel: int) -> list[Tile]:
    assert isinstance(lattice.base, ActiveLattice)
    reach, batches = kernel // 2, lattice.base.active.batches
    place, first = lattice._place.numpy(), np.cumsum([0, *lattice.counts])
    shape = (batches, *lattice.extents)
    keys = np.ravel_multi_index(tuple(lattice._where.T), shape)
    sorter = np.argsort(keys)
    device = torch.as_tensor(lattice.base.active.coordinates).device
    out: list[dict[int, Tensor]] = [{} for _ in lattice.boxes]
    known = []
    for target, box in enumerate(lattice.boxes):
        own = lattice._where[lattice._order[first[target] : first[target + 1]].numpy()]
        cells = [own - [0, *box.start] + [0, reach, reach, reach]]
        at, xyz = _around(lattice, box, reach)
        for source, chosen in _by_tile(lattice, xyz):
            system = np.repeat(np.arange(batches), len(chosen))
            spots, places = (np.tile(one[chosen], (batches, 1)) for one in (at, xyz))
            wanted = np.ravel_multi_index((system, *places.T), shape)
            found = np.minimum(np.searchsorted(keys, wanted, sorter=sorter), len(keys) - 1)
            there = keys[sorter[found]] == wanted
            if there.any():
                local = place[sorter[found[there]]] - first[source]
                out[source][target] = torch.as_tensor(local)
                cells.append(np.concatenate([system[:, None], spots], axis=1)[there])
        size = tuple(n + 2 * reach for n in box.size)
        rows = torch.as_tensor(np.concatenate(cells), device=device)
        known.append(ActiveSet(size, rows, "zero", batches=batches))
    ears = [{s for s, one in enumerate(out) if t in one} for t in range(len(out))]
    return [
        _ActiveTile(t, sorted(({*out[t]} | ears[t]) - {t}), lattice.counts[t], out[t], known[t])
        for t in range(len(out))
    ]


def _around(lattice: TiledLattice, box: Box, reach: int) -> tuple[Integers, Integers]:
    """The virtual cells around a box: where they lie in the box with its rim, and which cells of
    the grid they stand for; those that stand for none are left out."""
    size = [n + 2 * reach for n in box.size]
    at = np.indices(size).reshape(3, -1).T
    at = at[((at < reach) | (at >= np.array(box.size) + reach)).any(axis=1)]
    xyz = at - reach + box.start
    if lattice.periodic:
        return at, xyz % lattice.extents
    inside = ((xyz >= 0) & (xyz < lattice.extents)).all(axis=1)
    return at[inside], xyz[inside]


def _by_tile(lattice: TiledLattice, xyz: Integers) -> list[tuple[int, Integers]]:
    """Which of the cells are in which tile."""
    owner = lattice._tile[tuple(xyz.T)]
    return [(int(t), np.flatnonzero(owner == t)) for t in np.unique(owner)]


# --------------------------------------------------------------------------------------- one tile
@dataclass(frozen=True)
class TileLattice(Lattice):
    """One tile as its worker knows it: its cells, and how to reach the other tiles.

    Features are (B, n, C) or (m, C) over its own cells.

    Args:
        tiled: all tiles.
        number: of this one.
        exchange: with the workers of the others.
    """

    tiled: TiledLattice
    number: int
    exchange: Exchange

    def scatter(self, values: Tensor, weight: Tensor) -> Tensor:
        tile = self.tiled.plans(weight.shape[-1])[self.number]
        kept, out = tile.begin(values, weight)
        mine = {self.number: out.pop(self.number)} if self.number in out else {}
        nothing = values.new_empty((*values.shape[:-2], 0, values.shape[-1]))
        arrived = self.exchange({to: out.get(to, nothing) for to in tile.neighbors})
        real = {source: rows for source, rows in arrived.items() if rows.shape[-2]}
        return tile.end(kept, real | mine, weight)

    def coarse(self, space: Triple) -> Lattice:
        raise InvalidArgument("one tile alone has no blocks: ask the TiledLattice")

    def blocks(self, features: Tensor, space: Triple) -> Tensor:
        raise InvalidArgument("one tile alone has no blocks: ask the TiledLattice")

    def unblocked(self, blocks: Tensor, space: Triple) -> Tensor:
        raise InvalidArgument("one tile alone has no blocks: ask the TiledLattice")

    def spread(self, values: Tensor) -> Tensor:
        return self.tiled.part(self.tiled.base.spread(values), self.number)

    @property
    def cells(self) -> int:
        return self.tiled.counts[self.number]
