"""What a cubic crystal's symmetry says of one small change of it, where it knows another."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from ase import Atoms

from mlcore.forcefield.targets.face import Boxes, Change, Static

__all__ = ["Symmetry"]

Array = npt.NDArray[np.float64]

# A; atoms that are farther off are not where the symmetry wants them
EXACT = 1e-8
# of strains and, in A, of shifts
ALIKE = 1e-9
MOST = 16
_VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


@dataclass(frozen=True)
class _Operation:
    """x -> turn x + some shift; atom ``a`` comes to where ``order[a]`` was."""

    turn: Array
    order: npt.NDArray[np.int64]

    def of_stress(self) -> Array:
        """(6, 6) what becomes of a stress."""
        found = np.empty((6, 6))
        for v, (i, j) in enumerate(_VOIGT):
            stress = np.zeros((3, 3))
            stress[i, j] = stress[j, i] = 1.0
            turned = self.turn @ stress @ self.turn.T
            found[:, v] = [turned[at] for at in _VOIGT]
        return found

    def of_atoms(self) -> Array:
        """(3n, 3n) what becomes of vectors of all atoms."""
        n = len(self.order)
        found = np.zeros((n, 3, n, 3))
        found[self.order, :, np.arange(n), :] = self.turn
        return found.reshape(3 * n, 3 * n)


@dataclass(frozen=True)
class _Orbits:
    """Of which changes others follow.

    Attributes:
        strains: (m, 3, 3) of all changes, the first number 1.
        moves: (m, n, 3), A.
        asked: those that must be asked for.
        source: (m,) which of ``asked`` a change follows from.
        of_stress: (m, 6, 6) by what, transposed.
        of_atoms: (m, 3n, 3n)
    """

    strains: Array
    moves: Array
    asked: tuple[int, ...]
    source: npt.NDArray[np.int64]
    of_stress: Array
    of_atoms: Array


class Symmetry:
    """Operations of a cube that leave a crystal as it is.

    Energies are the same after any of them, so forces and stress of one strained or shifted crystal
    are those of its images, turned: of the fourteen changes elastic constants of diamond need, four
    have to be asked for.

    Args:
        structure: the crystal, whose cubic axes are x, y and z; of one of many atoms no use is made.
    """

    def __init__(self, structure: Atoms) -> None:
        self._operations = _operations(structure)
        self._known: list[_Orbits] = []

    def of(self, boxes: Boxes) -> Boxes:
        """``boxes`` that ask for no change of structure 0 that follows from another."""
        return cast(Boxes, _Reduced(boxes, self)) if len(self._operations) > 1 else boxes

    def orbits(self, strains: Array, moves: Array) -> _Orbits | None:
        """Of the changes (C, m, 3, 3), (C, m, n, 3); None where candidates differ in them."""
        for known in self._known:
            if _alike(known.strains, strains) and _alike(known.moves, moves):
                return known
        differ = not (_alike(strains[0], strains) and _alike(moves[0], moves))
        if differ or len(self._known) == MOST:
            return None
        self._known.append(self._found(strains[0], moves[0]))
        return self._known[-1]

    def _found(self, strains: Array, moves: Array) -> _Orbits:
        asked: list[int] = []
        source: list[int] = []
        by: list[_Operation] = []
        for strain, move in zip(strains, moves, strict=True):
            image = self._image(strain, move, [(strains[k], moves[k]) for k in asked])
            if image is None:
                image = (len(asked), self._operations[0])
                asked.append(len(source))
            source.append(image[0])
            by.append(image[1])
        stress, atoms = (np.stack(maps) for maps in zip(*map(_maps, by), strict=True))
        turns = (np.swapaxes(maps, 1, 2).copy() for maps in (stress, atoms))
        return _Orbits(strains, moves, tuple(asked), np.array(source), *turns)

    def _image(
        self, strain: Array, move: Array, of: Sequence[tuple[Array, Array]]
    ) -> tuple[int, _Operation] | None:
        for k, (other, shift) in enumerate(of):
            for operation in self._operations:
                turn = operation.turn
                moved = np.empty_like(shift)
                moved[operation.order] = shift @ turn.T
                if _alike(turn @ other @ turn.T, strain) and _alike(moved, move):
                    return k, operation
        return None


class _Reduced:
    """Boxes that ask of a crystal only what does not follow from its symmetry."""

    def __init__(self, boxes: Boxes, symmetry: Symmetry) -> None:
        self._boxes = boxes
        self._symmetry = symmetry

    def __getattr__(self, name: str) -> Any:
        return getattr(self._boxes, name)

    def deformed(self, k: int, changes: Sequence[Change]) -> list[Static]:
        boxes = self._boxes
        c, n = boxes.candidates, len(boxes.structures[k])
        if k or any(strain is None for strain, _ in changes):
            return boxes.deformed(k, changes)
        strains = np.empty((c, len(changes), 3, 3))
        moves = np.zeros((c, len(changes), n, 3))
        for row, (strain, move) in enumerate(changes):
            strains[:, row] = strain
            if move is not None:
                moves[:, row] = move
        # whatever they are all stretched by
        orbits = self._symmetry.orbits(strains / strains[:, :1, :1, :1], moves)
        if orbits is None:
            return boxes.deformed(k, changes)
        found = boxes.deformed(k, [changes[row] for row in orbits.asked])
        return _unfolded(found, orbits)


def _unfolded(found: Sequence[Static], orbits: _Orbits) -> list[Static]:
    # a candidate that fails may have infinite ones
    with np.errstate(invalid="ignore"):
        stress = np.array([static.stress for static in found])[orbits.source] @ orbits.of_stress
        forces = np.array([static.forces for static in found])[orbits.source]
        shape = forces.shape
        forces = (forces.reshape(*shape[:2], -1) @ orbits.of_atoms).reshape(shape)
    rows = zip(orbits.source.tolist(), forces, stress, strict=True)
    return [Static(found[k].energy, force, one) for k, force, one in rows]


def _operations(structure: Atoms) -> list[_Operation]:
    """The identity first."""
    n = len(structure)
    found = [_Operation(np.eye(3), np.arange(n))]
    if not 0 < n <= MOST:
        return found
    for turn in _turns():
        order = _order(structure, turn)
        if order is not None:
            found.append(_Operation(turn, order))
    return found


def _order(structure: Atoms, turn: Array) -> npt.NDArray[np.int64] | None:
    """(n,) where each atom goes if the crystal is turned, and shifted; None where it differs."""
    cell = np.asarray(structure.cell[:])
    if not _whole(cell @ turn.T @ np.linalg.inv(cell), cell):
        return None
    kinds, places = _kinds(structure), structure.get_positions()
    turned = places @ turn.T
    for first in range(len(places)):
        apart = places[None, :] - (turned + places[first] - turned[0])[:, None]
        parts = apart @ np.linalg.inv(cell)
        off = np.linalg.norm((parts - np.rint(parts)) @ cell, axis=-1)
        order: npt.NDArray[np.int64] = off.argmin(axis=1)
        exact = bool((off[np.arange(len(order)), order] < EXACT).all())
        if exact and len(set(order.tolist())) == len(order) and kinds == [kinds[k] for k in order]:
            # where atom ``a`` comes to
            return order
    return None


def _kinds(structure: Atoms) -> list[tuple[Any, ...]]:
    named = structure.arrays.get("species", structure.numbers)
    return list(zip(map(str, named), structure.get_initial_charges().tolist(), strict=True))


def _whole(matrix: Array, cell: Array) -> bool:
    return bool(np.abs((matrix - np.rint(matrix)) @ cell).max() < EXACT)


def _turns() -> list[Array]:
    """The 47 turns and reflections of a cube."""
    found = []
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            turn = np.zeros((3, 3))
            turn[range(3), order] = signs
            found.append(turn)
    return [turn for turn in found if not np.array_equal(turn, np.eye(3))]


def _maps(operation: _Operation) -> tuple[Array, Array]:
    return operation.of_stress(), operation.of_atoms()


def _alike(one: Array, many: Array) -> bool:
    same = many.shape[many.ndim - one.ndim :] == one.shape
    return same and bool((np.abs(many - one) < ALIKE).all())
