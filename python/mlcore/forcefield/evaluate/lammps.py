"""Structures under one candidate at a time, in LAMMPS objects of this process."""

from __future__ import annotations

import contextlib
import os
import weakref
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms

from mlcore.errors import Error, InvalidArgument
from mlcore.forcefield.evaluate.box import Box, CandidateFailed, Words, new_lammps
from mlcore.forcefield.evaluate.folder import MemoryFolder
from mlcore.forcefield.forms.record import Interaction, Model
from mlcore.forcefield.targets.face import Array, Change, Static

__all__ = ["LammpsBoxes", "LammpsEngine"]

# A; no two atoms are that near, and LAMMPS would fill the memory with bins of this size
SHORTEST = 0.5
_NOTHING = np.empty((1, 0))


class LammpsEngine:
    """Holds a `Box` of every structure; `use` puts all of them under a candidate.

    Args:
        model: the form.
        cap: largest cutoff a candidate may have, A.
    """

    def __init__(self, model: Model, cap: float) -> None:
        self.model = model
        self.cap = cap
        files = MemoryFolder()
        self.folder = files.path
        self._boxes: dict[bytes, Box] = {}
        self._ready: dict[bytes, Box] = {}
        self._rest: dict[bytes, Static] = {}
        self._known: dict[Hashable, Any] = {}
        self._interaction: Interaction | None = None
        self._words: Words | None = None
        self._end = weakref.finalize(self, _end, self._boxes, files, os.getpid())

    def close(self) -> None:
        """Ends all LAMMPS objects and removes the files."""
        self._end()

    def use(self, values: Mapping[str, float]) -> None:
        """From now on everything asked is of ``values``.

        Raises:
            CandidateFailed: no LAMMPS could take them: not finite, or a cutoff beyond the cap.
        """
        self._interaction = None
        self._ready.clear()
        self._rest.clear()
        self._known.clear()
        try:
            interaction = self.model.render(values)
        except InvalidArgument as error:
            raise CandidateFailed(str(error)) from error
        check_reach(interaction.cutoff, self.cap)
        for name, text in interaction.files.items():
            (self.folder / name).write_text(text)
        self._words = Words(interaction, self.folder)
        self._interaction = interaction

    def box(self, structure: Atoms, key: bytes | None = None) -> Box:
        """The box of ``structure`` under the candidate in use."""
        if self._interaction is None or self._words is None:
            raise Error("no candidate is in use")
        key = key or structure_key(structure)
        box = self._ready.get(key)
        if box is None:
            box = self._boxes.get(key)
            if box is None:
                box = Box(structure, self.model, self._interaction.atom_style)
                self._boxes[key] = box
            box.take(self._words)
            self._ready[key] = box
        return box

    def at_rest(self, structure: Atoms, forces: bool = True, key: bytes | None = None) -> Static:
        """``structure`` as it is; asked of LAMMPS once for each candidate."""
        key = key or structure_key(structure)
        known = self._rest.get(key)
        if known is None or (forces and not known.forces.size):
            self._rest[key] = _static(*self.box(structure, key).static())
        return self._rest[key]

    def prepare(self, structures: Mapping[bytes, tuple[Atoms, bool]]) -> None:
        """Structures that will be asked for as they are; with forces where the flag says so."""
        for key, (structure, forces) in structures.items():
            if not forces and key not in self._rest:
                energy = np.array([self.box(structure, key).energy()])
                self._rest[key] = Static(energy, _NOTHING, _NOTHING)

    def once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What ``make`` returned under the candidate in use, where ``key`` was asked before."""
        if key not in self._known:
            self._known[key] = make()
        return self._known[key]

    def another(self, structure: Atoms) -> Box:
        """A new box of ``structure``, the caller's to close."""
        if self._interaction is None:
            raise Error("no candidate is in use")
        made = Box(structure, self.model, self._interaction.atom_style)
        made.use(self._interaction, self.folder)
        return made


class LammpsBoxes:
    """The structures of one target under the one candidate of a `LammpsEngine`."""

    candidates = 1

    def __init__(
        self, engine: LammpsEngine, structures: Sequence[Atoms], keys: Sequence[bytes]
    ) -> None:
        self._engine = engine
        self.structures = structures
        self._keys = keys

    def static(
        self, k: int, strain: Array | None = None, displacements: Array | None = None
    ) -> Static:
        if strain is None and displacements is None:
            return self._engine.at_rest(self.structures[k], True, self._keys[k])
        box = self._box(k)
        return _static(*box.static(_first(strain), _first(displacements)))

    def deformed(self, k: int, changes: Sequence[Change]) -> list[Static]:
        return [self.static(k, strain, displacements) for strain, displacements in changes]

    def stretched(self, k: int, scales: Array) -> tuple[Array, Array]:
        box = self._box(k)
        found = np.array([box.stretched(scale) for (scale,) in scales.tolist()])
        return found[:, :1], found[:, 1:]

    def statics(self, forces: Sequence[bool] | None = None) -> list[Static]:
        flags = [True] * len(self.structures) if forces is None else forces
        rows = zip(self.structures, flags, self._keys, strict=True)
        return [self._engine.at_rest(*row) for row in rows]

    def relaxed(self, k: int, strain: Array | None = None) -> Static:
        return _static(*self._box(k).relaxed(_first(strain)))

    def lammps(self, k: int) -> Any:
        box = self._box(k)
        box.reset()
        return box.lmp

    @contextlib.contextmanager
    def fresh(self, k: int) -> Iterator[Any]:
        box = self._engine.another(self.structures[k])
        try:
            yield box.lmp
        finally:
            box.close()

    def once(self, k: int, what: Hashable, make: Callable[[], Any]) -> Any:
        return self._engine.once((self._keys[k], what), make)

    def _box(self, k: int) -> Box:
        return self._engine.box(self.structures[k], self._keys[k])


def check_reach(cutoff: float, cap: float) -> None:
    """Refuses a cutoff that would take for ever.

    Raises:
        CandidateFailed: ``cutoff`` is below `SHORTEST`, or beyond ``cap``.
    """
    if not SHORTEST <= cutoff <= cap:
        raise CandidateFailed(f"cutoff {cutoff:g} A: must be from {SHORTEST:g} to {cap:g} A")


def structure_key(structure: Atoms) -> bytes:
    """What structures of the same atoms in the same places have in common."""
    parts = (
        structure.numbers,
        structure.positions,
        np.asarray(structure.cell),
        structure.pbc,
        structure.get_initial_charges(),
    )
    species = structure.arrays.get("species")
    named = b"" if species is None else "\0".join(map(str, species)).encode()
    return b"".join(part.tobytes() for part in parts) + named


def _static(energy: float, forces: Array, stress: Array, moved: Array | None = None) -> Static:
    displacements = None if moved is None else moved[None]
    return Static(np.array([energy]), forces[None], stress[None], displacements)


def _first(rows: Array | None) -> Array | None:
    return None if rows is None else rows[0]


def _end(boxes: dict[bytes, Box], files: MemoryFolder, process: int) -> None:
    # a forked process has no part in what its parent still works with
    if os.getpid() != process:
        return
    for box in boxes.values():
        box.close()
    boxes.clear()
    files.remove()


__all__ += ["check_reach", "new_lammps", "structure_key"]
