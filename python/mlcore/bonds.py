"""Energies of bonds among the bonds around them: functions that a learned potential is linear in.

The formula stands in ``mlcore/bonds.hpp``. What is seen of a bond's surroundings are sums over the other
bonds of its ends of their weights and powers of cosines; the energy of a bond is a product of a function
of its length and of up to two of these sums, times a coefficient. No turn, mirror or shift changes it, so
forces add up to nothing and exert no torque whatever the coefficients are. Moments of neighbours as a
basis: A. V. Shapeev, Multiscale Model. Simul. 14, 1153 (2016); bonds that depend on the bonds beside
them: J. Tersoff, Phys. Rev. B 37, 6991 (1988).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mlcore import _core
from mlcore.arrays import Kind, integer, is_atoms, positive, thread_count
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


class BondBasis:
    """The functions.

    Args:
        reach: a length, beyond which there is no bond.
        species: S, kinds of atoms.
        radial: 1..64 functions of a bond's length.
        order: 1..6, highest power of cosines.
        shells: 1..4 weights, as functions of their lengths, that the bonds around have.

    Attributes:
        shape: of the coefficients: (radial S^2, 1 + s + s (s + 1) + S shells (2 order - 1)).
        seen: s = S shells (order + 2), numbers that are seen of a bond's surroundings.
        core: what the operators call.

    Raises:
        InvalidArgument: naming what is out of range.
    """

    __slots__ = ("core", "order", "radial", "reach", "seen", "shape", "shells", "species")

    def __init__(
        self, reach: float, species: int = 1, radial: int = 8, order: int = 3, shells: int = 2
    ) -> None:
        self.reach, self.species = positive("reach", reach), integer("species", species)
        self.radial, self.order = integer("radial", radial), integer("order", order)
        self.shells = integer("shells", shells)
        self.core: Any = _core.BondBasis(
            self.species, self.reach, self.radial, self.order, self.shells
        )
        self.shape: tuple[int, int] = (self.core.rows, self.core.columns)
        self.seen: int = self.core.seen

    def __reduce__(self) -> tuple[type[BondBasis], tuple[float, int, int, int, int]]:
        return BondBasis, (self.reach, self.species, self.radial, self.order, self.shells)

    def __repr__(self) -> str:
        return (
            f"BondBasis({self.reach!r}, species={self.species}, radial={self.radial}, "
            f"order={self.order}, shells={self.shells})"
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
