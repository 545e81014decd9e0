"""Which particles are near which: exact neighbor lists by cell lists.

A pair is ``(i, j, S)`` with ``D = positions[j] - positions[i] + S @ cell`` and ``d = |D|`` strictly
below the cutoff. The set of pairs is that of a brute-force search in double precision, whatever the
device, the thread count or the instruction set. Letters and conventions are those of
:mod:`ase.neighborlist`.

Besides its results a search takes about 80 bytes per particle. Half lists, and lists of 28 bytes per
pair and more, take 5 per pair, too; pairs of others are searched twice, once to count them. This
memory comes from a pool that keeps it for the next call.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mlcore import _core
from mlcore.arrays import Kind, apart, box, flag, host, integer, is_atoms, thread_count
from mlcore.errors import InvalidArgument

if TYPE_CHECKING:
    import torch

    from mlcore.arrays import Pbc, Positions

    Cutoff = float | npt.ArrayLike | Mapping[tuple[int | str, int | str], float]

__all__ = [
    "NeighborBatch",
    "NeighborList",
    "neighbor_batch",
    "neighbor_csr",
    "neighbor_list",
    "neighbor_matrix",
]

_LETTERS = "ijSDd"
_WIDTHS = {"S": 3, "D": 3}
_STORED = 28  # bytes of results from which the 5 that storing a pair takes are less than a fifth


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
    dtype: npt.DTypeLike = np.float64,
    out: Any = None,
    num_threads: int | None = None,
) -> Any:
    """All pairs of particles closer than a cutoff.

    Args:
        quantities: letters of what to return, in this order: ``i`` and ``j`` the particles of each
            pair (p,), ``S`` cell boundaries crossed (p, 3) int32, ``D`` the vector from i to the
            image of j (p, 3), ``d`` its length (p,).
        positions: (n, 3) in any unit of length, in or outside the cell; a NumPy array (or what
            becomes one), a torch tensor, a CuPy array, or ``ase.Atoms``. The result is of the same
            kind, on the same device. Gradients flow through ``D`` and ``d`` to a tensor and to a
            cell that is one.
        cutoff: a number, in the unit of the positions; or (n,) radii of the particles, which are
            neighbors when their spheres overlap; or a dict ``{(type, type): distance}``, elements
            by symbol or number, pairs not named are no neighbors; or the same as a symmetric
            (t, t) array.
        cell: (3, 3) row vectors or (3,) edge lengths; rows of open axes may be zero. None: open
            space, or the cell of ``Atoms``.
        pbc: which axes repeat, one flag or three. None: none, or those of ``Atoms``.
        half: each pair once (i < j, or i = j and the first nonzero number of S positive).
        sorted: order the pairs of one i by j, then S. Pairs are ordered by i in any case, and
            equal calls give equal orders. False is faster for full lists.
        self_pairs: also report each particle with itself (S = 0, d = 0). Its images in other
            cells are always in.
        types: (n,) integers that a dict or (t, t) cutoff refers to. None: the atomic numbers of
            ``Atoms``.
        index_dtype: int32 or int64, of ``i`` and ``j``.
        dtype: float64 or float32, of ``D`` and ``d``; which pairs there are is decided in float64.
        out: arrays of the caller's to fill, one per letter (one array for one letter), of at least
            p entries; what is returned are their first p entries.
        num_threads: CPU threads; None takes the library-wide setting.

    Returns:
        The array of a single letter, else a tuple.

    Raises:
        InvalidArgument: a value is not finite or has the wrong shape, a periodic axis has no cell
            vector, the cutoff is negative or spans hundreds of cells, an array of ``out`` is too
            short (the message tells the length needed) or of another kind.
    """
    system = _System.of(positions, cell, pbc, types)
    output = _Output(quantities, index_dtype, dtype, out, num_threads)
    options = _options(half, sorted, self_pairs, output)
    return output.of(system.search(cutoff, options, num_threads), system)


def neighbor_csr(
    positions: Positions,
    cutoff: Cutoff,
    cell: Any = None,
    pbc: Pbc = None,
    half: bool = False,
    sorted: bool = True,
    self_pairs: bool = False,
    *,
    quantities: str = "jS",
    types: npt.ArrayLike | None = None,
    index_dtype: npt.DTypeLike = np.int32,
    dtype: npt.DTypeLike = np.float64,
    out: Any = None,
    num_threads: int | None = None,
) -> Any:
    """The neighbors of all particles in compressed rows; arguments as in :func:`neighbor_list`.

    Args:
        out: the arrays (offsets, j, S) of the caller's to fill, or offsets and what ``quantities``
            names: offsets of exactly n + 1 entries, the others of at least p.

    Returns:
        ``(offsets, j, S)``, or offsets and what ``quantities`` names: the neighbors of particle i
        are ``j[offsets[i]:offsets[i + 1]]``; offsets are (n + 1,) int64.
    """
    system = _System.of(positions, cell, pbc, types)
    first, output = _row_output(quantities, index_dtype, dtype, out, num_threads)
    options = _options(half, sorted, self_pairs, output)
    return _rows(system.search(cutoff, options, num_threads), system, first, output)


def neighbor_matrix(
    positions: Positions,
    cutoff: Cutoff,
    max_neighbors: int | None = None,
    cell: Any = None,
    pbc: Pbc = None,
    half: bool = False,
    sorted: bool = True,
    self_pairs: bool = False,
    *,
    fill: int | None = None,
    types: npt.ArrayLike | None = None,
    out: Any = None,
    num_threads: int | None = None,
) -> Any:
    """The neighbors of all particles in rows of one length, as compiled graphs take them.

    Other arguments are those of :func:`neighbor_list`.

    Args:
        max_neighbors: m, the length of a row. None: what the fullest row needs.
        fill: what stands in ``j`` after the neighbors. None: n.
        out: arrays (j, counts, S) of the caller's to fill, of exactly these shapes.

    Returns:
        ``(j, counts, S)``: (n, m) int32, (n,) int64, and (n, m, 3) int32, zero after the neighbors.

    Raises:
        InvalidArgument: as :func:`neighbor_list`, or a particle has more than ``max_neighbors``
            neighbors; the message tells how many are needed.
    """
    system = _System.of(positions, cell, pbc, types)
    search = system.search(cutoff, _options(half, sorted, self_pairs), num_threads)
    return _matrix(search, system, max_neighbors, fill, out, num_threads)


class NeighborBatch(NamedTuple):
    """Neighbor lists of many systems.

    Attributes:
        arrays: what the letters name, of all systems one after the other; ``i`` and ``j`` number
            the particles of all systems through.
        particles: (b + 1,) int64; system s holds the particles particles[s]..particles[s + 1] - 1.
        pairs: (b + 1,) int64; its pairs are pairs[s]..pairs[s + 1] - 1.
    """

    arrays: tuple[Any, ...]
    particles: Any
    pairs: Any


def neighbor_batch(
    quantities: str,
    positions: Any,
    cutoff: Cutoff,
    cell: Any = None,
    pbc: Any = None,
    half: bool = False,
    sorted: bool = True,
    self_pairs: bool = False,
    *,
    batch_offsets: npt.ArrayLike | None = None,
    types: npt.ArrayLike | None = None,
    index_dtype: npt.DTypeLike = np.int32,
    dtype: npt.DTypeLike = np.float64,
    out: Any = None,
    num_threads: int | None = None,
) -> NeighborBatch:
    """Neighbor lists of many systems in one call, which threads share.

    Other arguments are those of :func:`neighbor_list`.

    Args:
        positions: (n, 3) of all systems, one after the other, with ``batch_offsets``; or a sequence
            of ``ase.Atoms`` or of (n_s, 3) arrays.
        cell: (b, 3, 3), or one (3, 3) or (3,) for all. None: as in :func:`neighbor_list`.
        pbc: (b, 3), or one flag or three for all.
        batch_offsets: (b + 1,) integers: system s holds the particles batch_offsets[s] ..
            batch_offsets[s + 1] - 1.
        types: (n,) of all systems.

    Returns:
        A :class:`NeighborBatch`.
    """
    system = _System.of_batch(positions, batch_offsets, cell, pbc, types)
    output = _Output(quantities, index_dtype, dtype, out, num_threads)
    options = _options(half, sorted, self_pairs, output)
    search = system.search(cutoff, options, num_threads)
    arrays = output.all(search, system)
    first = system.offsets
    pairs = system.offsets_of(search)[first if system.kind.name == "numpy" else first.tolist()]
    return NeighborBatch(arrays, system.kind.array(first), pairs)


class NeighborList:
    """Neighbors of moving particles, sorted into cells anew only when they have moved far enough.

    The cells are as wide as cutoff + skin and serve until a particle has moved by more than skin /
    2, or the cell, the number of particles or their device changed (Verlet, Phys. Rev. 159, 98
    (1967)). What it reports is always exact for the positions of the last :meth:`update`, and of
    their kind, on their device; on a GPU the pairs within cutoff + skin are kept there, 8 bytes
    each. Copies and pickles hold the positions of the last update, without their gradients, and
    search anew at their first use.

    Args:
        cutoff: as in :func:`neighbor_list`. Types of a dict or (t, t) cutoff, and radii, are those
            of the first update.
        skin: >= 0, in the unit of the positions.
        half, sorted, self_pairs, index_dtype, dtype, num_threads: as in :func:`neighbor_list`.

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
        dtype: npt.DTypeLike = np.float64,
        num_threads: int | None = None,
    ) -> None:
        if not (isinstance(skin, int | float | np.number) and 0 <= skin < math.inf):
            raise InvalidArgument(f"skin must be finite and not negative, got {skin!r}")
        if not isinstance(cutoff, Mapping):
            _checked_cutoff(cutoff)
        self.cutoff = cutoff
        self.skin = float(skin)
        self.searches = 0
        self._types = None if types is None else _integers(types)
        self._flags = _flags(half, sorted, self_pairs)
        self._index_dtype = _dtype_of("index_dtype", index_dtype, "int32", "int64")
        self._dtype = _dtype_of("dtype", dtype, "float64", "float32")
        self._num_threads = thread_count(num_threads)
        self._list: Any = None
        self._system: _System | None = None

    def update(self, positions: Positions, cell: Any = None, pbc: Pbc = None) -> bool:
        """Takes new positions (copied) and says whether a new search was needed.

        Args:
            positions, cell, pbc: as in :func:`neighbor_list`.

        Raises:
            InvalidArgument: as :func:`neighbor_list`; there is no list then, until an update works.
            BackendUnavailable: positions are on a GPU and mlcore was built without CUDA.
        """
        return self._take(_System.of(positions, cell, pbc, self._types))

    def get(self, quantities: str, out: Any = None) -> Any:
        """What :func:`neighbor_list` returns, for the positions of the last update."""
        output = _Output(quantities, self._index_dtype, self._dtype, out, self._num_threads)
        system = self._updated()
        return output.of(self._list, system)

    def csr(self, quantities: str = "jS", out: Any = None) -> Any:
        """What :func:`neighbor_csr` returns, for the positions of the last update."""
        first, output = _row_output(
            quantities, self._index_dtype, self._dtype, out, self._num_threads
        )
        system = self._updated()
        return _rows(self._list, system, first, output)

    def matrix(
        self, max_neighbors: int | None = None, *, fill: int | None = None, out: Any = None
    ) -> Any:
        """What :func:`neighbor_matrix` returns, for the positions of the last update."""
        system = self._updated()
        return _matrix(self._list, system, max_neighbors, fill, out, self._num_threads)

    def __len__(self) -> int:
        """Number of pairs."""
        return 0 if self._system is None else len(self._core_list(self._system))

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__ | {"_list": None}
        if self._system is not None and self._list is not None:
            kind = self._system.kind
            x, _ = kind.output(None, (len(self._system.positions), 3))
            self._list.copy_positions(x, stream=kind.stream())
            state["_system"] = replace(self._system, positions=x, source=None, cell_source=None)
        return state

    def _take(self, system: _System) -> bool:
        if self._list is None:
            cutoff = _cutoff(self.cutoff, system)
            self._list = _core.NeighborList(cutoff, self.skin, _core.NeighborOptions(*self._flags))
        where = system.positions, system.cells[0], system.pbc[0]
        call = {"num_threads": self._num_threads, "stream": system.kind.stream()}
        self._system = None
        searched = bool(self._list.update(*where, **call))
        self._system = system
        self.searches += searched
        return searched

    def _core_list(self, system: _System) -> Any:
        if self._list is None:
            self._take(system)
        return self._list

    def _updated(self) -> _System:
        if self._system is None:
            raise InvalidArgument("this neighbor list has no positions yet: call update() first")
        self._core_list(self._system)
        return self._system


@dataclass
class _System:
    """One system or more as the core takes them, and how to give results back in their kind.

    `positions` (n, 3) on the caller's device, `offsets` (b + 1,), `cells` (b, 3, 3), `pbc` b times.
    """

    positions: Any
    offsets: npt.NDArray[np.int64]
    cells: npt.NDArray[np.float64]
    pbc: list[tuple[bool, bool, bool]]
    types: npt.NDArray[np.int64] | None
    kind: Kind
    source: Any
    cell_source: Any

    @classmethod
    def of(cls, positions: Any, cell: Any, pbc: Any, types: npt.ArrayLike | None) -> _System:
        if is_atoms(positions):
            cell = positions.cell if cell is None else cell
            pbc = positions.pbc if pbc is None else pbc
            types = positions.numbers if types is None else types
            positions = positions.positions
        kind, array = _positions(positions)
        rows, flags = box(cell, pbc, periodic=False, detach=True)
        kinds = _types(types, len(array))
        first = np.array([0, len(array)])
        return cls(array, first, rows[None], [flags], kinds, kind, positions, cell)

    @classmethod
    def of_batch(
        cls, positions: Any, offsets: Any, cell: Any, pbc: Any, types: npt.ArrayLike | None
    ) -> _System:
        if offsets is None:
            positions, offsets, cell, pbc, types = _joined(positions, cell, pbc, types)
        try:
            first = np.asarray(offsets)
        except (TypeError, ValueError):
            first = np.zeros(())
        if first.ndim != 1 or not len(first) or first.dtype.kind not in "iu":
            raise InvalidArgument("batch_offsets must be (b + 1,) integers, b systems")
        kind, array = _positions(positions)
        cells, flags = _boxes(cell, pbc, len(first) - 1)
        kinds = _types(types, len(array))
        return cls(array, first.astype(np.int64), cells, flags, kinds, kind, positions, cell)

    def search(self, cutoff: Any, options: Any, num_threads: int | None) -> Any:
        return _core.NeighborSearch(
            self.positions,
            self.offsets,
            self.cells,
            self.pbc,
            _cutoff(cutoff, self),
            options,
            num_threads=thread_count(num_threads),
            stream=self.kind.stream(),
        )

    def offsets_of(self, search: Any, out: Any = None) -> Any:
        """(n + 1,) first pair of each particle."""
        shape = (len(self.positions) + 1,)
        array, result = self.kind.output(out, shape, np.int64, "positions", "out of the offsets")
        apart(array, positions=self.positions)
        search.copy_offsets(array, stream=self.kind.stream())
        return result

    def differentiates(self, quantities: str) -> bool:
        """Whether torch works out some of the quantities, for their gradients."""
        tracked = any(
            getattr(values, "requires_grad", False) for values in (self.source, self.cell_source)
        )
        return self.kind.name.startswith("torch") and tracked and bool(set(quantities) & set("Dd"))

    def vectors(self, i: Any, j: Any, S: Any, dtype: Any) -> Any:
        """D as a tensor that follows positions and cell."""
        torch = sys.modules["torch"]
        x = self.source.to(torch.float64)
        cells: Any = torch.as_tensor(self.cells, device=x.device)
        if getattr(self.cell_source, "requires_grad", False):
            given = self.cell_source.to(x)
            given = torch.diag_embed(given) if given.shape[-1:] == given.shape else given
            cells = given.expand(cells.shape)
        if len(cells) == 1:
            shift = S.to(x) @ cells[0]
        else:
            first = torch.as_tensor(self.offsets, device=x.device)
            system = torch.bucketize(i.long(), first, right=True) - 1
            shift = (S.to(x)[:, None, :] @ cells[system])[:, 0]
        return (x[j.long()] - x[i.long()] + shift).to(dtype)


class _Output:
    """What is wanted of a search, and where it goes."""

    def __init__(
        self,
        quantities: str,
        index_dtype: npt.DTypeLike,
        dtype: npt.DTypeLike,
        out: Any,
        num_threads: int | None,
    ) -> None:
        if not isinstance(quantities, str) or not quantities or set(quantities) - set(_LETTERS):
            raise InvalidArgument(
                f"quantities must be letters out of 'i', 'j', 'S', 'D', 'd', got {quantities!r}"
            )
        self.quantities = quantities
        self.index = _dtype_of("index_dtype", index_dtype, "int32", "int64")
        self.real = _dtype_of("dtype", dtype, "float64", "float32")
        self.threads = thread_count(num_threads)
        self.given = () if out is None else _sequence(out) if len(quantities) > 1 else (out,)
        if out is not None and len(self.given) != len(quantities):
            raise InvalidArgument(
                f"out must hold an array for each of {quantities!r}, got {len(self.given)}"
            )
        if out is not None and len(set(quantities)) != len(quantities):
            raise InvalidArgument(f"with out a letter must not come twice, got {quantities!r}")

    @property
    def vectors(self) -> bool:
        """Whether more than particle numbers is wanted."""
        return not set(self.quantities) <= set("ij")

    @property
    def bytes_per_pair(self) -> int:
        """Of all letters."""
        return sum(
            self._dtype(letter).itemsize * _WIDTHS.get(letter, 1) for letter in set(self.quantities)
        )

    def _dtype(self, letter: str) -> np.dtype[Any]:
        dtypes = {"i": self.index, "j": self.index, "S": np.dtype(np.int32)}
        return dtypes.get(letter, self.real)

    def of(self, search: Any, system: _System) -> Any:
        arrays = self.all(search, system)
        return arrays[0] if len(self.quantities) == 1 else arrays

    def all(self, search: Any, system: _System) -> tuple[Any, ...]:
        if system.differentiates(self.quantities):
            return self._differentiable(search, system)
        if self.given or not system.kind.on_cpu:
            return self._filled(search, system)
        wide, single = self._flags()
        arrays = search.get(self.quantities, wide, single, self.threads)
        return tuple(system.kind.like(array) for array in arrays)

    def _flags(self) -> tuple[bool, bool]:
        return self.index == np.int64, self.real == np.float32

    def _filled(self, search: Any, system: _System) -> tuple[Any, ...]:
        """Into the caller's arrays, or into new ones on the device."""
        taken: dict[str, Any] = {}
        results: dict[str, Any] = {}
        for k, letter in enumerate(self.quantities):
            if letter in taken:
                continue
            shape = (len(search), *((3,) if letter in _WIDTHS else ()))
            part = _beginning(letter, self.given[k], len(search)) if self.given else None
            array, results[letter] = system.kind.output(
                part, shape, self._dtype(letter), like="positions"
            )
            if self.given:
                others = {f"that of {other!r}": taken[other] for other in taken}
                apart(array, positions=system.positions, **others)
            taken[letter] = array
        search.fill(taken, *self._flags(), self.threads, system.kind.stream())
        return tuple(results[letter] for letter in self.quantities)

    def _differentiable(self, search: Any, system: _System) -> tuple[Any, ...]:
        if self.given:
            raise InvalidArgument("out does not go with gradients; detach the positions")
        torch = sys.modules["torch"]
        plain = _Output("ijS", self.index, self.real, None, self.threads)
        found: dict[str, Any] = {}
        arrays = plain._filled if not system.kind.on_cpu else plain._of_cpu
        found.update(zip("ijS", arrays(search, system), strict=True))
        real = getattr(torch, self.real.name)
        vectors = system.vectors(found["i"], found["j"], found["S"], torch.float64)
        found["D"], found["d"] = vectors.to(real), safe_norm(vectors).to(real)
        return tuple(found[letter] for letter in self.quantities)

    def _of_cpu(self, search: Any, system: _System) -> tuple[Any, ...]:
        arrays = search.get(self.quantities, *self._flags(), self.threads)
        return tuple(system.kind.like(array) for array in arrays)


def _options(half: bool, sorted: bool, self_pairs: bool, output: _Output | None = None) -> Any:
    """Of a search for the output, or for a matrix."""
    flags = _flags(half, sorted, self_pairs)
    if output is None:
        return _core.NeighborOptions(*flags)
    stored = flags[0] or output.bytes_per_pair >= _STORED
    return _core.NeighborOptions(*flags, output.vectors, stored)


def _flags(half: bool, sorted: bool, self_pairs: bool) -> tuple[bool, bool, bool]:
    return flag("half", half), flag("sorted", sorted), flag("self_pairs", self_pairs)


def _sequence(out: Any) -> tuple[Any, ...]:
    try:
        return tuple(out)
    except TypeError:
        raise InvalidArgument(
            f"out must be a sequence of arrays, got {type(out).__name__}"
        ) from None


def _row_output(
    quantities: str,
    index_dtype: npt.DTypeLike,
    dtype: npt.DTypeLike,
    out: Any,
    num_threads: int | None,
) -> tuple[Any, _Output]:
    """The caller's offsets, and the output of what goes with them."""
    plain = _Output(quantities, index_dtype, dtype, None, num_threads)
    if out is None:
        return None, plain
    first, *rest = _sequence(out) or (None,)
    if len(rest) != len(quantities):
        raise InvalidArgument(
            f"out must hold the offsets and an array for each of {quantities!r}, got "
            f"{len(rest) + (first is not None)}"
        )
    given = rest if len(quantities) > 1 else rest[0]
    return first, _Output(quantities, index_dtype, dtype, given, num_threads)


def _rows(search: Any, system: _System, first: Any, output: _Output) -> tuple[Any, ...]:
    """Offsets and the arrays that go with them."""
    offsets = system.offsets_of(search, first)
    if first is not None:
        for letter, array in zip(output.quantities, output.given, strict=True):
            if hasattr(array, "shape"):
                apart(offsets, **{f"that of {letter!r}": array})
    return (offsets, *output.all(search, system))


def _beginning(letter: str, array: Any, length: int) -> Any:
    shape = tuple(getattr(array, "shape", ()))
    if not shape or shape[0] < length:
        raise InvalidArgument(
            f"out for {letter!r} must have at least {length} entries, got the shape {shape}"
        )
    return array[:length]


def _matrix(
    search: Any,
    system: _System,
    width: int | None,
    fill: int | None,
    out: Any,
    num_threads: int | None,
) -> Any:
    n = len(system.positions)
    given = (None, None, None) if out is None else _sequence(out)
    if len(given) != 3:
        raise InvalidArgument(f"out must be the arrays (j, counts, S), got {len(given)}")
    if width is None:
        first: Sequence[int] = getattr(given[0], "shape", ())
        width = int(first[1]) if len(first) == 2 else search.largest_row()
    fill = n if fill is None else integer("fill", fill)
    if not -(2**31) <= fill < 2**31:
        raise InvalidArgument(f"fill must fit into int32, got {fill}")
    if integer("max_neighbors", width) < 0 or n * width > np.iinfo(np.int64).max // 12:
        raise InvalidArgument(f"max_neighbors must be a number of neighbors, got {width}")
    needed = search.largest_row()
    if width < needed:
        raise InvalidArgument(
            f"max_neighbors must be at least {needed}, the largest number of neighbors of a "
            f"particle here; got {width}"
        )
    kind = system.kind
    shapes = (n, width), (n,), (n, width, 3)
    dtypes = np.int32, np.int64, np.int32
    pairs = [
        kind.output(array, shape, dtype, like="positions")
        for array, shape, dtype in zip(given, shapes, dtypes, strict=True)
    ]
    (j, counts, S), results = zip(*pairs, strict=True)
    apart(j, positions=system.positions, counts=counts, S=S)
    apart(S, positions=system.positions, counts=counts)
    apart(counts, positions=system.positions)
    threads = thread_count(num_threads)
    search.fill_matrix(j, S, counts, fill, num_threads=threads, stream=kind.stream())
    return results


def safe_norm(vectors: torch.Tensor) -> torch.Tensor:
    """Lengths whose gradient at zero is zero, not nan."""
    square = (vectors * vectors).sum(-1)
    zero = square == 0
    return square.masked_fill(zero, 1.0).sqrt().masked_fill(zero, 0.0)


def _positions(positions: Any) -> tuple[Kind, Any]:
    kind = Kind.of(positions)
    array = kind.take("positions", positions, detach=True)
    if kind.on_cpu and array.size == 0 and array.ndim == 1:
        array = array.reshape(0, 3)
    if len(array.shape) != 2 or array.shape[1] != 3:
        raise InvalidArgument(f"positions must have the shape (n, 3), got {tuple(array.shape)}")
    return kind, array


def _joined(
    systems: Any, cell: Any, pbc: Any, types: Any
) -> tuple[Any, npt.NDArray[np.int64], Any, Any, Any]:
    """A sequence of systems as (positions, offsets, cell, pbc, types)."""
    if not isinstance(systems, Sequence) or isinstance(systems, str):
        raise InvalidArgument(
            "positions of a batch must be a sequence of systems, or go with batch_offsets"
        )
    if systems and all(map(is_atoms, systems)):
        cell = np.array([atoms.cell[:] for atoms in systems]) if cell is None else cell
        pbc = np.array([atoms.pbc for atoms in systems]) if pbc is None else pbc
        types = np.concatenate([atoms.numbers for atoms in systems]) if types is None else types
        systems = [atoms.positions for atoms in systems]
    for s, x in enumerate(systems):
        _check_system(s, x)
    offsets = np.concatenate([[0], np.cumsum([len(x) for x in systems], dtype=np.int64)])
    if not systems:
        return np.zeros((0, 3)), offsets.astype(np.int64), cell, pbc, types
    kind = Kind.of(systems[0])
    if kind.name.startswith("torch"):
        return sys.modules["torch"].cat(list(systems)), offsets, cell, pbc, types
    library: Any = sys.modules["cupy"] if kind.name == "cupy" else np
    return library.concatenate(list(systems)), offsets, cell, pbc, types


def _check_system(s: int, x: Any) -> None:
    try:
        shape = tuple(np.shape(x))
    except ValueError:
        shape = ()
    if shape != (0,) and (len(shape) != 2 or shape[1] != 3):
        raise InvalidArgument(
            f"positions of system {s} must be an array of the shape (n, 3), got "
            f"{shape or type(x).__name__}"
        )


def _boxes(
    cell: Any, pbc: Any, count: int
) -> tuple[npt.NDArray[np.float64], list[tuple[bool, bool, bool]]]:
    """(b, 3, 3) cells and their flags; one cell or one set of flags stands for all."""
    flags = np.asarray(False if pbc is None else pbc)
    if flags.ndim < 2 and (cell is None or np.ndim(getattr(cell, "array", cell)) < 3):
        rows, one = box(cell, pbc, periodic=False, detach=True)
        return np.broadcast_to(rows, (count, 3, 3)).copy(), [one] * count
    if flags.shape not in ((), (3,), (count, 3)) or flags.dtype.kind not in "biuf":
        raise InvalidArgument(
            f"pbc must be ({count}, 3) flags, one or three, got the shape {flags.shape}"
        )
    if cell is None:
        if flags.any():
            raise InvalidArgument("pbc is set, but there is no cell; give the cell or pbc=False")
        cell = np.zeros((3, 3))
    rows = host("cell", getattr(cell, "array", cell), "cells are read", detach=True)
    rows = np.diag(rows) if rows.shape == (3,) else rows
    if rows.shape not in ((3, 3), (count, 3, 3)):
        raise InvalidArgument(f"cell must have the shape ({count}, 3, 3), got {rows.shape}")
    if not np.isfinite(rows).all():
        raise InvalidArgument("cell must be finite")
    three = np.broadcast_to(flags.astype(bool), (count, 3)).tolist()
    return np.broadcast_to(rows, (count, 3, 3)).copy(), [(a, b, c) for a, b, c in three]


def _dtype_of(name: str, value: npt.DTypeLike, *allowed: str) -> np.dtype[Any]:
    try:
        dtype = np.dtype(str(value).removeprefix("torch.") if "torch" in str(value) else value)
    except (TypeError, ValueError):
        raise InvalidArgument(f"{name} must be {' or '.join(allowed)}, got {value!r}") from None
    if value is None or dtype.name not in allowed:
        raise InvalidArgument(f"{name} must be {' or '.join(allowed)}, got {dtype}")
    return dtype


def _floats(name: str, values: Any) -> npt.NDArray[np.float64]:
    return host(name, values, "cutoffs are read", detach=True)


def _types(types: npt.ArrayLike | None, n: int) -> npt.NDArray[np.int64] | None:
    if types is None:
        return None
    array = _integers(types)
    if array.shape != (n,):
        raise InvalidArgument(f"types must be ({n},) integers, got the shape {array.shape}")
    return array


def _integers(types: Any) -> npt.NDArray[np.int64]:
    try:
        array = np.asarray(types)
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"types must be (n,) integers: {error}") from None
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise InvalidArgument(
            f"types must be (n,) integers, got {array.dtype} of the shape {array.shape}"
        )
    return array.astype(np.int64)


def _cutoff(cutoff: Any, system: _System) -> Any:
    if isinstance(cutoff, Mapping):
        dense, table = _table(cutoff, _needed_types(system))
        return _core.NeighborCutoff(math.inf, types=dense, table=table)
    array = _checked_cutoff(cutoff)
    if array.ndim == 0:
        return _core.NeighborCutoff(float(array))
    if array.ndim == 1:
        return _core.NeighborCutoff(math.inf, radii=array)
    types = _needed_types(system)
    if types.size and (types.min() < 0 or types.max() >= len(array)):
        raise InvalidArgument(f"types must lie in 0..{len(array) - 1} for a cutoff {array.shape}")
    return _core.NeighborCutoff(math.inf, types=types.astype(np.int32), table=array)


def _checked_cutoff(cutoff: Any) -> npt.NDArray[np.float64]:
    array = _floats("cutoff", cutoff)
    if array.ndim > 2:
        raise InvalidArgument(
            f"cutoff must be a number, (n,) radii, (t, t) distances or a dict, got {array.shape}"
        )
    return array


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
