"""Chemical elements, and beads that stand for several atoms."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlcore.errors import InvalidArgument

__all__ = ["Species", "atomic_number", "make_species"]


@dataclass(frozen=True)
class Species:
    """A chemical element, or a bead that stands for several atoms.

    Attributes:
        name: as structures and files call it.
        mass: g/mol.
        bead: it is no element.
    """

    name: str
    mass: float
    bead: bool = False

    @property
    def label(self) -> str:
        """What `mlcore.forcefield.forms.model` is told: ``"Si"``, ``"bead:W"``."""
        return f"bead:{self.name}" if self.bead else self.name


def make_species(names: Sequence[str], masses: Mapping[str, float]) -> tuple[Species, ...]:
    """Species of ``names``, elements or ``"bead:..."``.

    Raises:
        InvalidArgument: an unknown element, a bead without a mass, a name given twice.
    """
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise InvalidArgument(f"species must be a list of names, got {names!r}")
    if not isinstance(masses, Mapping):
        raise InvalidArgument(f"masses must be a mapping of names to g/mol, got {masses!r}")
    found = tuple(_one(name, masses) for name in names)
    bare = [s.name for s in found]
    for name in bare:
        if bare.count(name) > 1:
            raise InvalidArgument(f"species: {name} is named twice")
    for name in masses:
        if name not in bare:
            raise InvalidArgument(f"masses: {name} is none of the species {', '.join(bare)}")
    return found


def _one(name: str, masses: Mapping[str, float]) -> Species:
    from ase.data import atomic_masses

    if not isinstance(name, str):
        raise InvalidArgument(f"species: {name!r} must be text")
    bead = name.startswith("bead:")
    bare = name.removeprefix("bead:")
    if not (bare.isascii() and bare.isalnum() and bare[0].isalpha()):
        raise InvalidArgument(f"species: {name!r} must be letters and digits after a letter")
    number = atomic_number(bare)
    if not bead and not number:
        raise InvalidArgument(f"species: {name!r} is no element; a bead is named 'bead:{bare}'")
    if bead and bare not in masses:
        raise InvalidArgument(f"masses: the bead {bare} needs one, in g/mol")
    mass = masses[bare] if bare in masses else float(atomic_masses[number])
    if isinstance(mass, bool) or not isinstance(mass, (int, float)):
        raise InvalidArgument(f"masses: that of {bare} must be a number, got {mass!r}")
    if not (math.isfinite(mass) and mass > 0):
        raise InvalidArgument(f"masses: that of {bare} must be positive, got {mass}")
    return Species(bare, float(mass), bead)


def atomic_number(name: str) -> int:
    """That of an element; 0 where ``name`` is none."""
    from ase.data import atomic_numbers

    return 0 if name == "X" else int(atomic_numbers.get(name, 0))
