"""Structures by name, by file, or by recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from mlcore.errors import InvalidArgument
from mlcore.forcefield.config.files import Location

if TYPE_CHECKING:
    from ase import Atoms

    from mlcore.forcefield.structures import Dataset

__all__ = ["Section", "Sources", "Structure", "with_species"]

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Section(BaseModel):
    """Part of a config: a field that is not known is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


@dataclass(frozen=True)
class Sources:
    """Where structures of a config come from besides themselves.

    Attributes:
        species: names of the model's species.
        data: the data set of the config.
        known: structures the config names under ``structures``.
    """

    species: tuple[str, ...]
    data: Dataset | None = None
    known: Mapping[str, Structure] = field(default_factory=dict)


class Structure(Section):
    """One structure or several: by recipe, out of a file, or out of the data of the fit."""

    crystal: (
        Literal["sc", "fcc", "bcc", "diamond", "hcp", "zincblende", "rocksalt", "cesiumchloride",
                "fluorite", "wurtzite"] | None
    ) = None  # fmt: skip
    """A crystal by the name of its structure."""
    of: str | None = None
    """Of what: an element, a bead, or a formula such as SiC; the model's species where it has one."""
    a: Positive | None = None
    """Lattice constant, A."""
    c: Positive | None = None
    """Second lattice constant of hexagonal crystals, A."""
    cubic: bool = False
    """The conventional cell instead of the primitive one."""
    file: Location | None = None
    """A file of structures: extxyz, VASP, LAMMPS data, CIF."""
    data: str | None = None
    """Name of a group of the data set."""
    index: int | None = None
    """Which of a file or group; all of them where left out."""
    use: str | None = None
    """Name of a structure under `structures` of the config."""
    scale: Positive = 1.0
    """All lengths times this."""
    repeat: tuple[int, int, int] = (1, 1, 1)
    """How often the cell is repeated."""
    remove: tuple[int, ...] = ()
    """Atoms to be taken away, after repeating; [0] makes a vacancy."""
    surface: tuple[int, int, int] | None = None
    """Miller indices of a slab cut out of the crystal, with `layers` and `vacuum`."""
    layers: Annotated[int, Field(ge=1)] = 8
    """Of a slab."""
    vacuum: Positive = 12.0
    """Beside a slab, A."""
    rattle: Annotated[float, Field(ge=0)] = 0.0
    """Standard deviation of random displacements, A."""
    seed: int = 0
    """Of random displacements."""
    name: str | None = None
    """What reports call it."""

    @model_validator(mode="after")
    def _one_origin(self) -> Structure:
        given = [k for k in ("crystal", "file", "data", "use") if getattr(self, k) is not None]
        if len(given) != 1:
            raise ValueError(
                f"say one of crystal, file, data and use, not {' and '.join(given) or 'none'}"
            )
        if self.crystal is not None and self.a is None:
            raise ValueError("a crystal needs its lattice constant a")
        if min(self.repeat) < 1:
            raise ValueError(f"repeat must be at least 1, got {self.repeat}")
        return self

    def build(self, sources: Sources) -> list[Atoms]:
        """The structures.

        Raises:
            InvalidArgument: naming what is wrong.
        """
        return [self._changed(atoms) for atoms in self._origin(sources)]

    def one(self, sources: Sources) -> Atoms:
        """The one structure.

        Raises:
            InvalidArgument: there are several.
        """
        found = self.build(sources)
        if len(found) != 1:
            raise InvalidArgument(
                f"structure: {self._words()} holds {len(found)} structures; say index, from 0"
            )
        return found[0]

    def _words(self) -> str:
        return str(self.file or self.data or self.use or self.crystal)

    def _origin(self, sources: Sources) -> list[Atoms]:
        if self.crystal is not None:
            return [self._made(sources)]
        if self.use is not None:
            if self.use not in sources.known:
                raise InvalidArgument(
                    f"structure: nothing is called {self.use!r} under structures; there are "
                    f"{', '.join(sources.known) or 'none'}"
                )
            found = sources.known[self.use].build(sources)
        elif self.data is not None:
            if sources.data is None:
                raise InvalidArgument(f"structure: data: {self.data}: the config has no data")
            found = [_copied(atoms) for atoms in sources.data[self.data]]
        else:
            from mlcore.forcefield.structures import read_group

            assert self.file is not None
            found = list(read_group(self.file).structures)
        if self.index is None:
            return found
        if not -len(found) <= self.index < len(found):
            raise InvalidArgument(
                f"structure: index {self.index}: {self._words()} holds {len(found)}"
            )
        return [found[self.index]]

    def _made(self, sources: Sources) -> Atoms:
        from ase.build import bulk
        from ase.data import atomic_numbers

        of = self.of or (sources.species[0] if len(sources.species) == 1 else None)
        if of is None:
            raise InvalidArgument(
                f"structure: crystal {self.crystal}: say of what; the model knows "
                f"{', '.join(sources.species)}"
            )
        bead = of in sources.species and of not in atomic_numbers
        sizes: dict[str, Any] = {"a": self.a, "c": self.c, "cubic": self.cubic}
        try:
            made: Atoms = bulk("X" if bead else of, self.crystal, **sizes)
        except (RuntimeError, ValueError, KeyError) as error:
            raise InvalidArgument(f"structure: crystal {self.crystal} of {of}: {error}") from None
        if bead:
            made.arrays["species"] = np.array([of] * len(made))
        made.info["name"] = f"{of} {self.crystal}"
        return made

    def _changed(self, atoms: Atoms) -> Atoms:
        changes: list[Callable[[Atoms], Atoms]] = []
        if self.scale != 1.0:
            changes.append(self._scaled)
        if self.surface is not None:
            changes.append(self._cut)
        if self.repeat != (1, 1, 1):
            changes.append(lambda a: a.repeat(self.repeat))
        if self.remove:
            changes.append(self._without)
        if self.rattle:
            changes.append(self._rattled)
        found = atoms
        for change in changes:
            info = dict(found.info)
            found = change(found.copy())
            found.info = info
        found = with_species(found)
        if self.name is not None:
            found.info["name"] = self.name
        return found

    def _scaled(self, atoms: Atoms) -> Atoms:
        atoms.set_cell(atoms.cell * self.scale, scale_atoms=True)
        return atoms

    def _cut(self, atoms: Atoms) -> Atoms:
        from ase.build import surface

        slab: Atoms = surface(atoms, self.surface, self.layers, vacuum=self.vacuum / 2)
        slab.pbc = True
        return slab

    def _without(self, atoms: Atoms) -> Atoms:
        for k in self.remove:
            if not 0 <= k < len(atoms):
                raise InvalidArgument(f"structure: remove {k}: there are {len(atoms)} atoms")
        del atoms[list(self.remove)]
        return atoms

    def _rattled(self, atoms: Atoms) -> Atoms:
        atoms.positions += np.random.default_rng(self.seed).normal(0, self.rattle, (len(atoms), 3))
        return atoms


def _copied(atoms: Atoms) -> Atoms:
    """A copy that keeps its labels."""
    from mlcore.forcefield.structures import labelled, labels

    known = labels(atoms)
    return labelled(atoms, known.energy, known.forces, known.stress)


def with_species(atoms: Atoms) -> Atoms:
    """The structure with its beads, where it has any, told as evaluations want them."""
    if "bead" in atoms.arrays and "species" not in atoms.arrays:
        atoms = _copied(atoms)
        atoms.arrays["species"] = np.array([str(name) for name in atoms.arrays["bead"]])
    return atoms
