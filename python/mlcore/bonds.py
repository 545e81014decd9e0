"""Energies of bonds among the bonds around them: functions that a learned potential is linear in.

The formula stands in ``mlcore/bonds.hpp``. What is seen of a bond's surroundings are sums over the other
bonds of its ends: how many there are, powers of the cosines to it, and by how much those of one end are
turned around it against those of the other. The energy of a bond is a product of a function of its length
and of up to three of these sums, times a coefficient. No turn, mirror or shift changes it, so forces add
up to nothing and exert no torque whatever the coefficients are. The form is that of bond orders: D. W.
Brenner et al., J. Phys.: Condens. Matter 14, 783 (2002); J. Tersoff, Phys. Rev. B 37, 6991 (1988).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mlcore import _core
from mlcore.arrays import Kind, integer, is_atoms, number, positive, thread_count
from mlcore.errors import InvalidArgument
from mlcore.neighbors import neighbor_csr

if TYPE_CHECKING:
    from mlcore.arrays import Pbc, Positions

__all__ = ["BondBasis", "BondResults"]


class BondResults(NamedTuple):
    """What bonds do to atoms.

    Attributes:
        energy: the sum of ``energies``.
        energies: (n,) of the bonds that begin at each atom.
        forces: (n, 3).
    """

    energy: float
    energies: Any
    forces: Any


def core_of(lengths: list[float], counts: list[int]) -> Any:
    """What the operators call, of `BondBasis.numbers`."""
    reach, inner, decay, knot = lengths
    species, radial, order, turns, degree = counts
    return _core.BondBasis(species, reach, inner, radial, order, turns, degree, decay, knot)


class BondBasis:
    """The functions.

    Args:
        reach: a length, beyond which there is no bond.
        species: S, kinds of atoms.
        inner: a length, up to which a bond counts as a whole one; None: 0.85 of the reach.
        radial: 1..16 functions of a bond's length.
        order: 1..6, highest power of cosines.
        turns: 1..8, highest power of the cosine by which bonds of both ends are turned.
        degree: 1..3, most factors of a product of what one end sees.
        decay: by how much functions of lengths fall over the reach, in their logarithms; up to 16.
        knot: the cosine where its spline bends, -1..1; -0.5 is that of bonds in a honeycomb.

    Attributes:
        shape: of the coefficients: radial S^2 rows, as many columns as there are products.
        seen: S (order + 3), numbers that are seen of a bond's surroundings.
        core: what the operators call.

    Raises:
        InvalidArgument: naming what is out of range.
    """

    __slots__ = (
        "core", "decay", "degree", "inner", "knot", "order", "radial", "reach", "seen", "shape",
        "species", "turns",
    )  # fmt: skip

    def __init__(
        self,
        reach: float,
        species: int = 1,
        inner: float | None = None,
        radial: int = 5,
        order: int = 3,
        turns: int = 5,
        degree: int = 3,
        decay: float = 3.0,
        knot: float = -0.5,
    ) -> None:
        self.reach, self.species = positive("reach", reach), integer("species", species)
        self.inner = 0.85 * self.reach if inner is None else number("inner", inner)
        self.radial, self.order = integer("radial", radial), integer("order", order)
        self.turns, self.degree = integer("turns", turns), integer("degree", degree)
        self.decay, self.knot = positive("decay", decay), number("knot", knot)
        lengths, counts = self.numbers
        self.core: Any = core_of(lengths, counts)
        self.shape: tuple[int, int] = (self.core.rows, self.core.columns)
        self.seen: int = self.core.seen

    @property
    def numbers(self) -> tuple[list[float], list[int]]:
        """Reach, inner, decay, knot; species, radial, order, turns, degree."""
        return (
            [self.reach, self.inner, self.decay, self.knot],
            [self.species, self.radial, self.order, self.turns, self.degree],
        )

    def __reduce__(self) -> tuple[type[BondBasis], tuple[float | int, ...]]:
        return BondBasis, (
            self.reach, self.species, self.inner, self.radial, self.order, self.turns, self.degree,
            self.decay, self.knot,
        )  # fmt: skip

    def __repr__(self) -> str:
        return (
            f"BondBasis({self.reach!r}, species={self.species}, inner={self.inner!r}, "
            f"radial={self.radial}, order={self.order}, turns={self.turns}, degree={self.degree}, "
            f"decay={self.decay!r}, knot={self.knot!r})"
        )

    def evaluate(
        self,
        positions: Positions,
        coefficients: npt.ArrayLike,
        middle: npt.ArrayLike | None = None,
        cell: Any = None,
        pbc: Pbc = None,
        *,
        species: npt.ArrayLike | None = None,
        num_threads: int | None = None,
    ) -> BondResults:
        """Energies and forces; gradients flow through `mlcore.ops.bond_forces` instead.

        Args:
            positions: (n, 3), a NumPy array, torch tensor or CuPy array, or ``ase.Atoms``.
            coefficients: of ``shape``.
            middle: (seen,) that is taken off what is seen; None: nothing.
            cell: (3, 3) row vectors or (3,) edge lengths; None: open space, or that of ``Atoms``.
            pbc: which axes repeat, one flag or three; None: none, or those of ``Atoms``.
            species: (n,) integers 0..S-1; may be left out for one kind.
            num_threads: CPU threads; None takes the library-wide setting.

        Raises:
            InvalidArgument: as `mlcore.neighbor_list`; a shape is wrong, a value is not finite, species
                are missing or out of range.
        """
        given: Any = positions
        kind = Kind.of(given.positions if is_atoms(given) else given)
        offsets, j, vectors = neighbor_csr(
            positions, self.reach, cell, pbc, quantities="jD", num_threads=num_threads
        )
        n = len(offsets) - 1
        rows = _core.BondRows(
            kind.take("offsets", offsets, np.int64),
            kind.take("j", j, np.int32),
            kind.take("D", vectors),
            None if species is None else self._species(species, kind, n),
        )
        (energies, of_energies), (slopes, of_slopes) = (
            kind.output(None, shape) for shape in ((n,), (n, 3))
        )
        zero = kind.array(np.zeros(self.seen))
        self.core.evaluate(
            kind.take("coefficients", _there(kind, coefficients)),
            kind.take("middle", zero if middle is None else _there(kind, middle)),
            rows,
            energies=energies,
            by_displacements=slopes,
            num_threads=thread_count(num_threads),
            stream=kind.stream(),
        )
        return BondResults(float(of_energies.sum()), of_energies, -of_slopes)

    def _species(self, species: Any, kind: Kind, n: int) -> Any:
        array = kind.take("species", _there(kind, species), np.int32)
        if tuple(array.shape) != (n,):
            raise InvalidArgument(f"species must have the shape ({n},), got {tuple(array.shape)}")
        if n and (int(array.min()) < 0 or int(array.max()) >= self.species):
            raise InvalidArgument(f"species must lie in 0..{self.species - 1}")
        return array


def _there(kind: Kind, values: Any) -> Any:
    """Lists and NumPy arrays as ``kind``; others are taken as they are."""
    if isinstance(values, np.ndarray | list | tuple):
        return kind.array(np.asarray(values))
    return values
