"""Structures under many candidates at once, by the core's own kernels."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import numpy.typing as npt
from ase import Atoms

from mlcore.errors import Error
from mlcore.forcefield.forms.record import Model
from mlcore.forcefield.targets.face import Change, Static
from mlcore.potentials import COLUMNS, Structures, evaluate

__all__ = ["NativeBoxes", "NativeEngine", "is_native"]

Array = npt.NDArray[np.float64]

_NO_LAMMPS = "a target of the tier static asks for structures at rest alone"

# lists of neighbors reach this many times farther than the last ones did
GROWTH = 1.2


def is_native(model: Model, values: Mapping[str, float] | None = None) -> bool:
    """Whether the core knows the form (and ``values``, where LAMMPS knows more than the core)."""
    columns = COLUMNS.get(model.form.name)
    known = {p.name for p in model.form.parameters}
    if columns is None or not set(columns) <= known or model.form.commands:
        return False
    # the core leaves out no small term
    rest = [name for name in model.names if name.partition("_")[0] in known - set(columns)]
    return values is None or all(values[name] == 0 for name in rest)


class NativeEngine:
    """Holds lists of neighbors; `use` puts everything asked under C candidates.

    Args:
        model: of a form the core knows.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.names = _parameter_names(model)
        self.candidates = 0
        self._parameters = np.empty((0, len(self.names)))
        self._reach = 0.0
        self._lists: dict[bytes, Structures] = {}
        self._rest: dict[bytes, Static] = {}
        self.good: npt.NDArray[np.bool_] = np.empty(0, dtype=bool)

    def use(self, values: Sequence[Mapping[str, float]], reach: float) -> None:
        """From now on everything asked is of the candidates ``values``, in their order.

        Args:
            values: name -> value of every parameter.
            reach: the largest of their cutoffs, A.
        """
        rows = [[candidate[name] for name in self.names] for candidate in values]
        self._parameters = np.array(rows, dtype=np.float64).reshape(len(rows), len(self.names))
        self.candidates = len(rows)
        self._reach = reach
        self._rest.clear()
        self.good = np.ones(len(rows), dtype=bool)

    def prepare(self, structures: Mapping[bytes, tuple[Atoms, bool]]) -> None:
        """Structures as they are, in one call; with forces and stress where the flag says so."""
        missing = {key: told for key, told in structures.items() if key not in self._rest}
        if not missing:
            return
        atoms = [one for one, _ in missing.values()]
        listed = self._listed(b"".join(missing), atoms, self._reach)
        wanted = np.array([flag for _, flag in missing.values()])
        found = evaluate(
            self.model.form.name, listed, self._parameters, wanted=wanted, num_threads=1
        )
        ends = listed.atoms
        for k, key in enumerate(missing):
            forces = found.forces[:, ends[k] : ends[k + 1]]
            self._rest[key] = self._static(
                found.energies[:, k], forces, found.stress[:, k], bool(wanted[k])
            )

    def at_rest(self, structure: Atoms, forces: bool, key: bytes) -> Static:
        """``structure`` as it is."""
        known = self._rest.get(key)
        if known is None or (forces and np.isnan(known.forces).all()):
            self._rest.pop(key, None)
            self.prepare({key: (structure, forces)})
        return self._rest[key]

    def deformed(self, structure: Atoms, changes: Sequence[Change], key: bytes) -> list[Static]:
        """``structure`` after several deformations of each candidate's own, in one call."""
        c, n, several = self.candidates, len(structure), len(changes)
        strains: Array | None = None
        displacements: Array | None = None
        reach = self._reach
        if any(u is not None for _, u in changes):
            moves = np.zeros((several, c, n, 3))
            for row, (_, u) in zip(moves, changes, strict=True):
                row[...] = 0.0 if u is None else u
            reach += 2 * float(np.sqrt((moves**2).sum(axis=-1)).max())
            displacements = moves.reshape(-1, n, 3)
        if any(f is not None for f, _ in changes):
            strains = np.stack([np.broadcast_to(np.eye(3) if f is None else f, (c, 3, 3))
                                for f, _ in changes]).reshape(-1, 3, 3)  # fmt: skip
            reach /= float(np.linalg.svd(strains, compute_uv=False).min())
        found = evaluate(
            self.model.form.name,
            self._listed(key, [structure], reach),
            np.tile(self._parameters, (several, 1)),
            deformation=strains,
            displacements=displacements,
            num_threads=1,
        )
        rows = [slice(k * c, (k + 1) * c) for k in range(several)]
        return [
            self._static(found.energies[at, 0], found.forces[at], found.stress[at, 0], True)
            for at in rows
        ]

    def _static(self, energy: Array, forces: Array, stress: Array, whole: bool) -> Static:
        """Takes note of candidates that gave what is no number."""
        good = np.isfinite(energy)
        if whole:
            good &= np.isfinite(forces).all(axis=(1, 2))
        self.good &= good
        return Static(energy, forces, stress)

    def _listed(self, key: bytes, structures: Sequence[Atoms], reach: float) -> Structures:
        """A list that holds all neighbors within ``reach``; which one it is changes no result."""
        listed = self._lists.get(key)
        if listed is None or listed.cutoff < reach:
            names = [species.name for species in self.model.species]
            listed = Structures([_told(atoms) for atoms in structures], names, reach * GROWTH)
            self._lists[key] = listed
        return listed


class NativeBoxes:
    """The structures of one target under the candidates of a `NativeEngine`."""

    def __init__(
        self, engine: NativeEngine, structures: Sequence[Atoms], keys: Sequence[bytes]
    ) -> None:
        self._engine = engine
        self.structures = structures
        self._keys = keys
        self.candidates = engine.candidates

    def static(
        self, k: int, strain: Array | None = None, displacements: Array | None = None
    ) -> Static:
        if strain is None and displacements is None:
            return self._engine.at_rest(self.structures[k], True, self._keys[k])
        return self.deformed(k, [(strain, displacements)])[0]

    def deformed(self, k: int, changes: Sequence[Change]) -> list[Static]:
        return self._engine.deformed(self.structures[k], changes, self._keys[k])

    def statics(self, forces: Sequence[bool] | None = None) -> list[Static]:
        flags = [True] * len(self.structures) if forces is None else forces
        rows = zip(self.structures, flags, self._keys, strict=True)
        return [self._engine.at_rest(*row) for row in rows]

    def relaxed(self, k: int, strain: Array | None = None) -> Static:
        raise Error(_NO_LAMMPS)

    def lammps(self, k: int) -> Any:
        raise Error(_NO_LAMMPS)

    def fresh(self, k: int) -> AbstractContextManager[Any]:
        raise Error(_NO_LAMMPS)

    def once(self, k: int, what: Hashable, make: Callable[[], Any]) -> Any:
        raise Error(_NO_LAMMPS)


def _parameter_names(model: Model) -> list[str]:
    """Of a candidate's row, in the order the core reads them."""
    columns = COLUMNS[model.form.name]
    slot = next(p.slot for p in model.form.parameters if p.name == columns[0])
    entries = model.form.entries(model.species, slot)
    return [model.name(column, entry) for entry in entries for column in columns]


def _told(atoms: Atoms) -> Any:
    given = atoms.arrays.get("species")
    if given is None:
        return atoms
    return (atoms.positions, np.asarray(atoms.cell), atoms.pbc, [str(name) for name in given])
