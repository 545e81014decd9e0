"""Which particles are near which: exact neighbor lists by cell lists.

A pair is ``(i, j, S)`` with ``D = positions[j] - positions[i] + S @ cell`` and ``d = |D|`` strictly
below the cutoff. The set of pairs is that of a brute-force search in double precision, whatever the
thread count or the instruction set. Letters and conventions are those of :mod:`ase.neighborlist`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlcore import _core
from mlcore.arrays import Box, Kind, box, host, is_atoms
from mlcore.errors import InvalidArgument

if TYPE_CHECKING:
    import torch

    from mlcore.arrays import Pbc, Positions

    Cutoff = float | npt.ArrayLike | Mapping[tuple[int | str, int | str], float]

__all__ = ["NeighborList", "neighbor_csr", "neighbor_list"]

_LETTERS = "ijSDd"


def neighbor_list(
    quantities: str,
    positions: Positions,
    cutoff: Cutoff,
    cell: Any = None,
    pbc: Pbc = None,
    half: bool = False,
    sorted: bool = True,
    self_pairs: bool = False,
    *,
    types: npt.ArrayLike | None = None,
    index_dtype: npt.DTypeLike = np.int32,
    num_threads: int = 0,
) -> Any:
    """All pairs of particles closer than a cutoff.

    Args:
        quantities: letters of what to return, in this order: ``i`` and ``j`` the particles of each
            pair (p,), ``S`` cell boundaries crossed (p, 3) int32, ``D`` the vector from i to the
            image of j (p, 3) float64, ``d`` its length (p,) float64.
        positions: (n, 3) in any unit of length, in or outside the cell; a NumPy array (or what
            becomes one), a torch CPU tensor, or ``ase.Atoms``. From a tensor come tensors, and
            gradients flow through ``D`` and ``d``.
        cutoff: a number, in the unit of the positions; or (n,) radii of the particles, which are
            neighbors when their spheres overlap; or a dict ``{(type, type): distance}``, elements
            by symbol or number, pairs not named are no neighbors; or the same as a symmetric
            (t, t) array.
        cell: (3, 3) row vectors or (3,) edge lengths; rows of open axes may be zero. None: open
            space, or the cell of ``Atoms``.
        pbc: which axes repeat, one flag or three. None: none, or those of ``Atoms``.
        half: each pair once (i < j, or i = j and the first nonzero number of S positive).
        sorted: order the pairs of one i by j, then S. Pairs are ordered by i in any case, and
            equal calls give equal orders.
        self_pairs: also report each particle with itself (S = 0, d = 0). Its images in other
            cells are always in.
        types: (n,) integers that a dict or (t, t) cutoff refers to. None: the atomic numbers of
            ``Atoms``.
        index_dtype: int32 or int64, of ``i`` and ``j``.
        num_threads: CPU threads; 0 takes the library-wide setting.

    Returns:
        The array of a single letter, else a tuple.

    Raises:
        InvalidArgument: a value is not finite or has the wrong shape, a periodic axis has no cell
            vector, the cutoff is negative or spans hundreds of cells.
        BackendUnavailable: positions lie on a GPU.
    """
    system = _System.of(positions, cell, pbc, types)
    arrays, _ = _core.neighbor_list(
        _letters(quantities, system),
        system.positions,
        cell=system.box[0],
        pbc=system.box[1],
        cutoff=_cutoff(cutoff, system),
        options=_core.NeighborOptions(half, sorted, self_pairs),
        wide=_is_wide(index_dtype),
        with_offsets=False,
        num_threads=num_threads,
    )
    return system.give(quantities, arrays)


def neighbor_csr(
    positions: Positions,
    cutoff: Cutoff,
    cell: Any = None,
    pbc: Pbc = None,
    half: bool = False,
    sorted: bool = True,
    self_pairs: bool = False,
    *,
    types: npt.ArrayLike | None = None,
    index_dtype: npt.DTypeLike = np.int32,
    num_threads: int = 0,
) -> Any:
    """The neighbors of all particles in compressed rows; arguments as in :func:`neighbor_list`.

    Returns:
        ``(offsets, j, S)``: those of particle i are ``j[offsets[i]:offsets[i + 1]]``; offsets are
        (n + 1,) int64.
    """
    system = _System.of(positions, cell, pbc, types)
    arrays, offsets = _core.neighbor_list(
        "jS",
        system.positions,
        cell=system.box[0],
        pbc=system.box[1],
        cutoff=_cutoff(cutoff, system),
        options=_core.NeighborOptions(half, sorted, self_pairs),
        wide=_is_wide(index_dtype),
        with_offsets=True,
        num_threads=num_threads,
    )
    return tuple(system.kind.like(array) for array in (offsets, *arrays))


class NeighborList:
    """Neighbors of moving particles, searched anew only when they have moved far enough.

    It searches up to cutoff + skin and does so again only after a particle has moved by more than
    skin / 2, or when the cell or the number of particles changed (Verlet, Phys. Rev. 159, 98
    (1967)). What it reports is always exact for the positions of the last :meth:`update`.

    Args:
        cutoff: as in :func:`neighbor_list`. Types of a dict or (t, t) cutoff, and radii, are those
            of the first update.
        skin: >= 0, in the unit of the positions.
        half, sorted, self_pairs, index_dtype, num_threads: as in :func:`neighbor_list`.

    Attributes:
        searches: how often :meth:`update` had to search.
    """

    def __init__(
        self,
        cutoff: Cutoff,
        skin: float = 0.0,
        *,
        half: bool = False,
        sorted: bool = True,
        self_pairs: bool = False,
        types: npt.ArrayLike | None = None,
        index_dtype: npt.DTypeLike = np.int32,
        num_threads: int = 0,
    ) -> None:
        if not (math.isfinite(skin) and skin >= 0):
            raise InvalidArgument(f"skin must be finite and not negative, got {skin}")
        self.cutoff = cutoff
        self.skin = float(skin)
        self.searches = 0
        self._types = types
        self._options = _core.NeighborOptions(half, sorted, self_pairs)
        self._wide = _is_wide(index_dtype)
        self._num_threads = num_threads
        self._list: Any = None
        self._system: _System | None = None

    def update(self, positions: Positions, cell: Any = None, pbc: Pbc = None) -> bool:
        """Takes new positions (copied) and says whether a new search was needed.

        Args:
            positions, cell, pbc: as in :func:`neighbor_list`.

        Raises:
            InvalidArgument: as :func:`neighbor_list`; the list is empty then.
        """
        system = _System.of(positions, cell, pbc, self._types)
        if self._list is None:
            cutoff = _cutoff(self.cutoff, system)
            self._list = _core.NeighborList(cutoff, self.skin, self._options)
        threads = self._num_threads
        searched = bool(self._list.update(system.positions, *system.box, num_threads=threads))
        self._system = system
        self.searches += searched
        return searched

    def get(self, quantities: str) -> Any:
        """What :func:`neighbor_list` returns, for the positions of the last update."""
        system = self._updated()
        letters = _letters(quantities, system)
        return system.give(quantities, self._list.get(letters, self._wide, self._num_threads))

    def csr(self) -> Any:
        """What :func:`neighbor_csr` returns, for the positions of the last update."""
        system = self._updated()
        arrays = (self._list.offsets(), *self._list.get("jS", self._wide, self._num_threads))
        return tuple(system.kind.like(array) for array in arrays)

    def __len__(self) -> int:
        """Number of pairs."""
        return 0 if self._list is None else len(self._list)

    def _updated(self) -> _System:
        if self._system is None:
            raise InvalidArgument("this neighbor list has no positions yet: call update() first")
        return self._system


@dataclass
class _System:
    """Positions as the core takes them, and how to give results back in the caller's kind."""

    positions: npt.NDArray[np.float64]
    box: Box
    types: npt.NDArray[np.int64] | None
    kind: Kind
    source: Any

    @classmethod
    def of(cls, positions: Any, cell: Any, pbc: Pbc, types: npt.ArrayLike | None) -> _System:
        if is_atoms(positions):
            cell = positions.cell if cell is None else cell
            pbc = positions.pbc if pbc is None else pbc
            types = positions.numbers if types is None else types
            positions = positions.positions
        array = _floats("positions", positions)
        if array.size == 0 and array.ndim == 1:
            array = array.reshape(0, 3)
        where = box(cell, pbc, periodic=False, detach=True)
        kinds = _types(types, len(array))
        return cls(array, where, kinds, Kind.of(positions), positions)

    def differentiates(self, quantities: str) -> bool:
        """Whether torch works out some of the quantities, for their gradients."""
        tracked = self.kind.name == "torch" and self.source.requires_grad
        return tracked and bool(set(quantities) & set("Dd"))

    def give(self, quantities: str, arrays: tuple[npt.NDArray[Any], ...]) -> Any:
        if self.differentiates(quantities):
            results = self._differentiable(quantities, arrays)
        else:
            results = tuple(self.kind.like(array) for array in arrays)
        return results[0] if len(quantities) == 1 else results

    def _differentiable(self, quantities: str, arrays: tuple[npt.NDArray[Any], ...]) -> Any:
        """`arrays` are those of "ijS"; vectors and distances are worked out by torch."""
        torch = sys.modules["torch"]
        found = dict(zip("ijS", map(torch.from_numpy, arrays), strict=True))
        x = self.source.to(torch.float64)
        shift = found["S"].to(torch.float64) @ torch.from_numpy(self.box[0])
        found["D"] = x[found["j"].long()] - x[found["i"].long()] + shift
        found["d"] = _safe_norm(found["D"])
        return tuple(found[letter] for letter in quantities)


def _safe_norm(vectors: torch.Tensor) -> torch.Tensor:
    """Lengths whose gradient at zero is zero, not nan."""
    square = (vectors * vectors).sum(-1)
    zero = square == 0
    return square.masked_fill(zero, 1.0).sqrt().masked_fill(zero, 0.0)


def _letters(quantities: str, system: _System) -> str:
    if not quantities or set(quantities) - set(_LETTERS):
        raise InvalidArgument(
            f"quantities must be letters out of 'i', 'j', 'S', 'D', 'd', got {quantities!r}"
        )
    return "ijS" if system.differentiates(quantities) else quantities


def _floats(name: str, values: Any) -> npt.NDArray[np.float64]:
    return host(name, values, "neighbor lists are built", detach=True)


def _types(types: npt.ArrayLike | None, n: int) -> npt.NDArray[np.int64] | None:
    if types is None:
        return None
    array = np.asarray(types)
    if array.shape != (n,) or (n and array.dtype.kind not in "iu"):
        raise InvalidArgument(
            f"types must be ({n},) integers, got {array.dtype} of the shape {array.shape}"
        )
    return array.astype(np.int64)


def _is_wide(index_dtype: npt.DTypeLike) -> bool:
    dtype = np.dtype(index_dtype)
    if dtype not in (np.dtype(np.int32), np.dtype(np.int64)):
        raise InvalidArgument(f"index_dtype must be int32 or int64, got {dtype}")
    return dtype == np.dtype(np.int64)


def _cutoff(cutoff: Any, system: _System) -> Any:
    if isinstance(cutoff, Mapping):
        dense, table = _table(cutoff, _needed_types(system))
        return _core.NeighborCutoff(math.inf, types=dense, table=table)
    array = _floats("cutoff", cutoff)
    if array.ndim == 0:
        return _core.NeighborCutoff(float(array))
    if array.ndim == 1:
        return _core.NeighborCutoff(math.inf, radii=array)
    if array.ndim != 2:
        raise InvalidArgument(
            f"cutoff must be a number, (n,) radii, (t, t) distances or a dict, got {array.shape}"
        )
    types = _needed_types(system)
    if types.size and (types.min() < 0 or types.max() >= len(array)):
        raise InvalidArgument(f"types must lie in 0..{len(array) - 1} for a cutoff {array.shape}")
    return _core.NeighborCutoff(math.inf, types=types.astype(np.int32), table=array)


def _needed_types(system: _System) -> npt.NDArray[np.int64]:
    if system.types is None:
        raise InvalidArgument("a cutoff per pair of types needs types, or positions as ase.Atoms")
    return system.types


def _table(
    cutoff: Mapping[Any, Any], types: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]:
    """Dense types 0..t-1 and their symmetric table; pairs not named get 0: no neighbors."""
    kinds, dense = np.unique(types, return_inverse=True)
    where = {int(kind): index for index, kind in enumerate(kinds)}
    given: dict[tuple[int, int], float] = {}
    for key, value in cutoff.items():
        pair = _type_pair(key)
        distance = float(_floats(f"cutoff[{key!r}]", value))
        if given.setdefault(pair, distance) != distance:
            raise InvalidArgument(f"cutoff holds two different distances for the pair {key!r}")
        if not (math.isfinite(distance) and distance >= 0):
            raise InvalidArgument(f"cutoff[{key!r}] must be finite and not negative: {distance}")
    table = np.zeros((max(len(kinds), 1),) * 2)
    for (a, b), distance in given.items():
        if a in where and b in where:
            table[where[a], where[b]] = table[where[b], where[a]] = distance
    return dense.astype(np.int32), table


def _type_pair(key: Any) -> tuple[int, int]:
    if not isinstance(key, tuple) or len(key) != 2:
        raise InvalidArgument(f"a dict of cutoffs has keys (type, type), got {key!r}")
    a, b = sorted(map(_type_number, key))
    return a, b


def _type_number(kind: Any) -> int:
    if isinstance(kind, str):
        from ase.data import atomic_numbers

        if kind not in atomic_numbers:
            raise InvalidArgument(f"cutoff names {kind!r}, which is not a chemical symbol")
        return int(atomic_numbers[kind])
    if isinstance(kind, int | np.integer):
        return int(kind)
    raise InvalidArgument(f"types in a cutoff must be integers or chemical symbols, got {kind!r}")
