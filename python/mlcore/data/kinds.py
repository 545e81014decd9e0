"""What atoms are: types from 0, of symbols or of LAMMPS' numbers, checked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import ArrayLike, NDArray

from mlcore.arrays import is_atoms
from mlcore.data.ase_units import checked_style
from mlcore.data.extxyz import TYPES
from mlcore.data.trajectory import Trajectory
from mlcore.errors import InvalidArgument

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["Kinds", "held"]

_MOST = 1000


class Kinds:
    """How atoms are read.

    Args:
        given: types of atoms: a number, or chemical symbols in the order of LAMMPS' types 1, 2, ..
        units: of velocities: "lj", "metal", "real", or None where none was told.

    Raises:
        InvalidArgument: no types, or more than 1000, a symbol twice, or other units.
    """

    def __init__(self, given: int | str | Sequence[str], units: str | None = None) -> None:
        self.given = given
        self.units = checked_style(units)
        self.symbols: tuple[str, ...] | None = None
        count: Any = given
        if isinstance(given, Iterable):
            self.symbols = (given,) if isinstance(given, str) else tuple(given)
            count = len(self.symbols) if all(isinstance(s, str) for s in self.symbols) else 0
        if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= _MOST:
            raise InvalidArgument(
                f"types must be a number from 1 to {_MOST} or chemical symbols, not {given!r:.60}"
            )
        self.count: int = count
        if self.symbols is not None and len(set(self.symbols)) != self.count:
            raise InvalidArgument(f"types must be different symbols, not {given!r}")

    def of_atoms(self, atoms: Atoms) -> NDArray[np.int64]:
        """(n,) from 0: of the symbols, or of an array `type` from 1."""
        if self.symbols is not None:
            return self.of_symbols(list(atoms.symbols))
        return self.of_numbers(None if self.count == 1 else held(atoms, TYPES), len(atoms))

    def of_trajectory(self, t: Trajectory) -> NDArray[np.int64]:
        """(n,) from 0: of the symbols where both sides have them, else of the types."""
        if self.symbols is None:
            if self.count > 1 and t.types is None and t.symbols is not None:
                told = ", ".join(sorted(set(t.symbols.tolist())))
                raise InvalidArgument(f"types must be symbols: the frames hold {told} and no types")
            return self.of_numbers(None if self.count == 1 else t.types, t.particles)
        if t.symbols is None:
            return self.of_numbers(t.types, t.particles)
        return self.of_symbols(t.symbols.tolist())

    def check_units(self, told: Any) -> None:
        """Raises InvalidArgument where a file told other units than those of the model."""
        if None not in (self.units, told) and self.units != told:
            raise InvalidArgument(f"frames are in units {told!r}, the model in {self.units!r}")

    def of_symbols(self, symbols: Sequence[str]) -> NDArray[np.int64]:
        """(n,) from 0."""
        place = {symbol: k for k, symbol in enumerate(self.symbols or ())}
        strange = sorted(set(symbols) - set(place))
        if strange:
            told = ", ".join(place)
            raise InvalidArgument(f"atoms hold {', '.join(strange)}, the types are {told}")
        return np.array([place[s] for s in symbols], dtype=np.int64)

    def check_alike(self, parts: Iterable[Any]) -> None:
        """Atoms or trajectories that tell apart what a model of one type takes as the same.

        Raises:
            InvalidArgument: several symbols or types, and the model has one type without a symbol.
        """
        if self.symbols is not None or self.count > 1:
            return
        symbols: set[str] = set()
        numbers: set[str] = set()
        for part in parts:
            told = None
            if isinstance(part, Trajectory):
                told = part.types
                symbols |= set() if part.symbols is None else set(part.symbols.tolist())
            if is_atoms(part):
                symbols |= {chemical_symbols[z] for z in np.unique(part.numbers)}
                told = held(part, TYPES)
            numbers |= set() if told is None else {str(n) for n in np.unique(told)}
        for found, way in ((symbols, "their symbols"), (numbers, "their number")):
            if len(found) > 1:
                all_of = ", ".join(sorted(found))
                raise InvalidArgument(
                    f"types is 1, but the atoms are of {all_of}: give types {way}"
                )

    def of_numbers(self, types: ArrayLike | None, n: int) -> NDArray[np.int64]:
        """(n,) from 0, of LAMMPS' types from 1; None is all 1 where there is one type."""
        if types is None:
            if self.count > 1:
                raise InvalidArgument(f"types of the atoms are needed: the model has {self.count}")
            return np.zeros(n, np.int64)
        found = np.asarray(types)
        if found.shape != (n,) or found.dtype.kind not in "iu":
            raise InvalidArgument(f"types must be ({n},) integers, not {found.dtype} {found.shape}")
        if n and not (found.min() >= 1 and found.max() <= self.count):
            span = f"{found.min()}..{found.max()}"
            raise InvalidArgument(f"types must lie in 1..{self.count}, found {span}")
        return found.astype(np.int64) - 1


def held(atoms: Atoms, names: Iterable[str]) -> Any:
    """The first of these arrays that the atoms have, or None."""
    return next((atoms.arrays[n] for n in names if n in atoms.arrays), None)
