"""Tabulated pair potentials: energies, forces and virial of particles at one pass over their pairs.

Between uniform knots an energy is the cubic with the table's values and slopes (Hermite), below the
first knot the line with the first ones, zero at and beyond the cutoff. Particles in one place push
each other nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mlcore import _core
from mlcore.arrays import Kind, host, integer, is_atoms, positive, thread_count
from mlcore.errors import InvalidArgument
from mlcore.neighbors import neighbor_csr

if TYPE_CHECKING:
    from mlcore.arrays import Pbc, Positions

    Radial = Callable[[npt.NDArray[np.float64]], npt.ArrayLike]
    Functions = Radial | Sequence[Radial] | Mapping[tuple[int, int], Radial]

__all__ = ["PairPotential", "PairResults"]

Array = npt.NDArray[np.float64]
_FEWEST, _MOST = 16, 1 << 20  # knots that are tried where a tolerance is given


class PairResults(NamedTuple):
    """What a pair potential does to particles.

    Attributes:
        energy: the sum of ``energies``.
        energies: (n,) half of every pair's energy to each of its two particles.
        forces: (n, 3).
        virial: (6,) xx yy zz xy xz yz of sum over pairs of r_ij (x) F_ij; the pressure tensor times
            the volume, without the kinetic part.
    """

    energy: float
    energies: Any
    forces: Any
    virial: Any


class PairPotential:
    """A pair potential in a table, packed once.

    Args:
        energy: (P, K), or (K,) for one type: energies u of every pair of types at K >= 2 uniform
            distances from ``first`` to ``cutoff``. Pairs a <= b of T types in the order (0, 0),
            (0, 1), .., (0, T-1), (1, 1), ..: P = T (T + 1) / 2.
        slope: du/dr there, of the same shape.
        cutoff: > first, a length.
        first: >= 0, distance of the first knot.

    Attributes:
        energy, slope, cutoff, first: as given, the arrays (P, K).
        types, knots: T, K.

    Raises:
        InvalidArgument: a shape does not fit, a value is not finite.
    """

    __slots__ = ("core", "cutoff", "energy", "first", "knots", "slope", "types")

    def __init__(
        self, energy: npt.ArrayLike, slope: npt.ArrayLike, cutoff: float, first: float = 0.0
    ) -> None:
        self.energy, self.slope = _table("energy", energy), _table("slope", slope)
        pairs, self.knots = self.energy.shape
        self.types = round((np.sqrt(8 * pairs + 1) - 1) / 2)
        if self.types * (self.types + 1) // 2 != pairs or pairs == 0:
            raise InvalidArgument(
                f"energy must have T (T + 1) / 2 rows for T types: 1, 3, 6, ..., got {pairs}"
            )
        self.cutoff, self.first = positive("cutoff", cutoff), float(first)
        self.core: Any = _core.PairPotential(
            self.types, self.first, self.cutoff, self.energy, self.slope
        )

    @classmethod
    def from_functions(
        cls,
        energy: Functions,
        cutoff: float,
        *,
        types: int = 1,
        first: float = 0.0,
        slope: Functions | None = None,
        knots: int | None = None,
        tolerance: float | None = None,
    ) -> PairPotential:
        """The table of functions of the distance.

        Args:
            energy: takes distances (K,), returns energies (K,); for several types a sequence of P
                such functions, or a dict ``{(a, b): function}``.
            cutoff: a length.
            types: T.
            first: distance of the first knot; where functions diverge at 0, choose it below the
                closest distance that particles reach.
            slope: du/dr alike; None: from a spline of the seventh degree through four times as many
                points, within [first, cutoff].
            knots: K >= 2. None: 1000, or what ``tolerance`` needs.
            tolerance: largest error between knots, in units of energy.

        Raises:
            InvalidArgument: a function gives the wrong number of values, or some that are not
                finite; the tolerance is out of reach.
        """
        if knots is not None and tolerance is not None:
            raise InvalidArgument("give knots or tolerance, not both")
        if not 0 <= first < positive("cutoff", cutoff):
            raise InvalidArgument(f"first must lie in 0..cutoff = {cutoff}, got {first}")
        energies = _functions("energy", energy, types)
        slopes = None if slope is None else _functions("slope", slope, types)
        if tolerance is None:
            count = 1000 if knots is None else integer("knots", knots)
            if count < 2:
                raise InvalidArgument(f"knots must be at least 2, got {count}")
            return cls(*_sampled(energies, slopes, first, cutoff, count), cutoff, first)
        allowed, count = positive("tolerance", tolerance), _FEWEST
        while count <= _MOST:
            table = cls(*_sampled(energies, slopes, first, cutoff, count), cutoff, first)
            if table._error(energies) <= allowed:
                return table
            count *= 2
        raise InvalidArgument(
            f"tolerance {tolerance} is out of reach with {_MOST} knots; raise it, or first"
        )

    def __repr__(self) -> str:
        return (
            f"PairPotential(types={self.types}, knots={self.knots}, first={self.first!r}, "
            f"cutoff={self.cutoff!r})"
        )

    def pair(self, r: npt.ArrayLike, a: int = 0, b: int = 0) -> tuple[Array, Array]:
        """(u, du/dr) of types a and b at distances r of any shape."""
        distance: Array = host("r", r, "curves are drawn")
        if not (distance >= 0).all():
            raise InvalidArgument("r must not be negative or NaN")
        low, high = sorted((integer("a", a), integer("b", b)))
        if not 0 <= low <= high < self.types:
            raise InvalidArgument(f"types must lie in 0..{self.types - 1}, got {a} and {b}")
        row = low * self.types - low * (low - 1) // 2 + high - low
        flat = distance.reshape(-1)
        apart = np.zeros((flat.size, 3))
        apart[:, 0] = flat
        single = _core.PairPotential(
            1, self.first, self.cutoff, self.energy[row : row + 1], self.slope[row : row + 1]
        )
        rows = _core.PairRows(np.arange(flat.size + 1), np.zeros(flat.size, np.int32), apart)
        energies, forces = np.zeros(flat.size), np.zeros((flat.size, 3))
        single.evaluate(rows, forces, energies, share=1.0)
        return energies.reshape(distance.shape), forces[:, 0].reshape(distance.shape)

    def evaluate(
        self,
        positions: Positions,
        cell: Any = None,
        pbc: Pbc = None,
        *,
        types: npt.ArrayLike | None = None,
        num_threads: int | None = None,
    ) -> PairResults:
        """Energies, forces and virial.

        Args:
            positions: (n, 3), a NumPy array, torch tensor or CuPy array, or ``ase.Atoms``; gradients
                flow through `mlcore.ops.pair_potential` instead.
            cell: (3, 3) row vectors or (3,) edge lengths; None: open space, or that of ``Atoms``.
            pbc: which axes repeat, one flag or three; None: none, or those of ``Atoms``.
            types: (n,) integers 0..T-1; may be left out for one type.
            num_threads: CPU threads; None takes the library-wide setting.

        Raises:
            InvalidArgument: as `mlcore.neighbor_list`; types are missing or out of range.
        """
        rows, kind, n = self._search(positions, cell, pbc, types, num_threads)
        (forces, of_forces), (energies, of_energies), (virial, of_virial) = (
            kind.output(None, shape) for shape in ((n, 3), (n,), (6,))
        )
        forces[...] = 0
        threads, stream = thread_count(num_threads), kind.stream()
        self.core.evaluate(rows, forces, energies, virial, num_threads=threads, stream=stream)
        return PairResults(float(energies.sum()), of_energies, of_forces, of_virial)

    def energy_forces(
        self,
        positions: Positions,
        cell: Any = None,
        pbc: Pbc = None,
        *,
        types: npt.ArrayLike | None = None,
        num_threads: int | None = None,
    ) -> tuple[float, Any]:
        """(energy, forces (n, 3)); arguments as in `evaluate`."""
        results = self.evaluate(positions, cell, pbc, types=types, num_threads=num_threads)
        return results.energy, results.forces

    def sums(
        self,
        positions: Positions,
        cell: Any = None,
        pbc: Pbc = None,
        *,
        types: npt.ArrayLike | None = None,
        num_threads: int | None = None,
    ) -> Any:
        """(n,) sum of u(r_ij) over the neighbors j of every particle i; arguments as `evaluate`."""
        rows, kind, n = self._search(positions, cell, pbc, types, num_threads)
        sums, result = kind.output(None, (n,))
        threads, stream = thread_count(num_threads), kind.stream()
        self.core.evaluate(rows, None, sums, share=1.0, num_threads=threads, stream=stream)
        return result

    def _search(
        self, positions: Any, cell: Any, pbc: Any, types: Any, num_threads: int | None
    ) -> tuple[Any, Kind, int]:
        """Pairs within the cutoff as the core reads them, the kind of the positions, and n."""
        kind = Kind.of(positions.positions if is_atoms(positions) else positions)
        offsets, j, D = neighbor_csr(
            positions,
            self.cutoff,
            cell,
            pbc,
            sorted=False,
            quantities="jD",
            num_threads=num_threads,
        )
        n = len(offsets) - 1
        return (
            _core.PairRows(
                kind.take("offsets", offsets, np.int64),
                kind.take("j", j, np.int32),
                kind.take("D", D),
                types=self.types_of(types, kind, n),
            ),
            kind,
            n,
        )

    def types_of(self, types: Any, kind: Kind, n: int) -> Any:
        """(n,) int32 as the core reads it, or None; InvalidArgument where it does not fit."""
        if types is None:
            if self.types > 1:
                raise InvalidArgument(f"types are needed for a table of {self.types} types")
            return None
        given = Kind.of(types)
        if not given.on_cpu:
            given.require_device_of(kind, "types", "positions")
        array = given.take("types", types, np.int64)
        if tuple(array.shape) != (n,):
            raise InvalidArgument(f"types must have the shape ({n},), got {tuple(array.shape)}")
        if n and (int(array.min()) < 0 or int(array.max()) >= self.types):
            raise InvalidArgument(
                f"types must lie in 0..{self.types - 1}, got {int(array.min())}..{int(array.max())}"
            )
        if not given.on_cpu:
            return given.take("types", types, np.int32)
        short = array.astype(np.int32)
        return short if kind.on_cpu else kind.array(short)

    def _error(self, energies: Sequence[Radial]) -> float:
        """Largest error of the energies between knots, at three places in each gap."""
        knots = np.linspace(self.first, self.cutoff, self.knots)
        step = knots[1] - knots[0]
        r = (knots[:-1, None] + step * np.array([0.2, 0.5, 0.8])).reshape(-1)
        worst, row = 0.0, 0
        for a in range(self.types):
            for b in range(a, self.types):
                exact = _values("energy", energies[row], r)
                worst = max(worst, float(np.abs(self.pair(r, a, b)[0] - exact).max()))
                row += 1
        return worst


def _table(name: str, values: npt.ArrayLike) -> Array:
    array = np.array(host(name, values, "tables are read", detach=True))
    if array.ndim == 1:
        array = array[None]
    if array.ndim != 2 or array.shape[1] < 2:
        raise InvalidArgument(
            f"{name} must have the shape (P, K) or (K,) with K >= 2, got {np.shape(values)}"
        )
    array.setflags(write=False)
    return array


def _functions(name: str, given: Functions, types: int) -> list[Radial]:
    """One function per pair of types, in order."""
    if integer("types", types) < 1:
        raise InvalidArgument(f"types must be at least 1, got {types}")
    pairs = [(a, b) for a in range(types) for b in range(a, types)]
    if callable(given):
        functions: list[Any] = [given]
    elif isinstance(given, Mapping):
        named = {(min(pair), max(pair)): function for pair, function in given.items()}
        unknown = sorted(set(named) ^ set(pairs))
        if unknown or len(named) != len(given):
            raise InvalidArgument(f"{name} must hold each pair of {types} types once: {pairs}")
        functions = [named[pair] for pair in pairs]
    else:
        functions = list(given)
    if len(functions) != len(pairs) or not all(map(callable, functions)):
        raise InvalidArgument(
            f"{name} must be {len(pairs)} functions of the distance for {types} types"
        )
    return functions


def _sampled(
    energies: Sequence[Radial],
    slopes: Sequence[Radial] | None,
    first: float,
    cutoff: float,
    knots: int,
) -> tuple[Array, Array]:
    r = np.linspace(first, cutoff, knots)
    u = np.stack([_values("energy", function, r) for function in energies])
    if slopes is not None:
        return u, np.stack([_values("slope", function, r) for function in slopes])
    return u, np.stack([_splined(function, first, cutoff, knots) for function in energies])


def _splined(function: Radial, first: float, cutoff: float, knots: int) -> Array:
    from scipy.interpolate import make_interp_spline

    fine = np.linspace(first, cutoff, 4 * (knots - 1) + 1)
    degree = 7 if len(fine) > 7 else 3
    spline = make_interp_spline(fine, _values("energy", function, fine), k=degree)
    slopes: Array = spline.derivative()(fine[::4])
    return slopes


def _values(name: str, function: Radial, r: Array) -> Array:
    values: Array = host(name, function(r), "functions are sampled", detach=True)
    if values.shape != r.shape:
        raise InvalidArgument(
            f"{name} must return {r.size} values for {r.size} distances, got {values.shape}"
        )
    if not np.isfinite(values).all():
        where = r[~np.isfinite(values)][0]
        raise InvalidArgument(f"{name} must be finite from first to cutoff, but is not at {where}")
    return values
