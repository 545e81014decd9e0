"""Where a crystal is at rest, and how it answers strain: what targets of crystals share.

All of it is finite differences of stress and forces of C candidates at once; strains and shifts of
1e-3 leave errors of 1e-6 relative where nothing passes a cutoff, and central differences no
first-order ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from ase.units import GPa

from mlcore.forcefield.targets.face import Boxes, Change, Static
from mlcore.forcefield.targets.rest import LARGEST, STRAIN, rest_scale

__all__ = [
    "STRAIN",
    "elastic_constants",
    "rest_scale",
    "rest_strain",
    "softening",
    "stress_slopes",
]

Array = npt.NDArray[np.float64]

# of whole matrices: atoms that pass the cutoff within the strain would tell in them
SMALL = 1e-4
SHIFT = 1e-3
VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


def rest_strain(
    boxes: Boxes, k: int = 0, relax: bool = False, steps: int = 40, tolerance: float = 1e-7
) -> tuple[Array, Static]:
    """Where all six components of the stress of structure ``k`` vanish.

    Newton's steps with the elastic constants of the start, made anew where they serve badly.

    Args:
        boxes: with the structure.
        k: which structure.
        relax: move the atoms to rest at every cell.
        steps: at most so many.
        tolerance: largest stress left, eV/A^3.

    Returns:
        (C, 3, 3) deformation gradient, symmetric, NaN where there is none within a third; what
        the structure is like there.
    """
    f = np.broadcast_to(np.eye(3), (boxes.candidates, 3, 3)).copy()
    found = _asked(boxes, k, f, relax)
    stiffness = _stiffness(boxes, k, f, relax)
    size = np.abs(found.stress).max(axis=1)
    for step in range(steps):
        going = (size > tolerance) & _within(f)
        if not going.any():
            break
        f = np.where(going[:, None, None], _stepped(f, found, stiffness), f)
        found = _asked(boxes, k, f, relax)
        before, size = size, np.abs(found.stress).max(axis=1)
        if step > 2 and np.any((size > tolerance) & (size > before / 4)):
            stiffness = _stiffness(boxes, k, f, relax)
    good = (size <= tolerance) & _within(f)
    if good.any():
        good &= _held(boxes, k, np.where(good[:, None, None], f, np.eye(3)), relax)
    return np.where(good[:, None, None], f, np.nan), found


def stress_slopes(
    boxes: Boxes,
    rest: Array,
    voigt: Sequence[int],
    k: int = 0,
    relax: bool = False,
    moved: Array | None = None,
    size: float = STRAIN,
) -> list[Array]:
    """(C, 6) d stress / d strain, eV/A^3, about the cell ``rest``, for each component asked.

    Args:
        boxes: with the structure.
        rest: (C, 3, 3) deformation gradient.
        voigt: components of the strain, 0 to 5 for xx yy zz yz xz xy; of a shear, by gamma = 2 eps.
        k: which structure.
        relax: move the atoms to rest in the strained cells.
        moved: (C, n, 3) A, from where ``rest`` puts the atoms to where they are at rest; they
            follow the strain. Not with ``relax``.
        size: of the strains.
    """
    changes: list[Change] = []
    for v in voigt:
        i, j = VOIGT[v]
        strain = np.zeros((3, 3))
        strain[i, j] = strain[j, i] = size if i == j else size / 2
        for change in (np.eye(3) + strain, np.eye(3) - strain):
            changes.append((change @ rest, None if moved is None else moved @ change))
    found = [boxes.relaxed(k, f) for f, _ in changes] if relax else boxes.deformed(k, changes)
    pairs = zip(found[::2], found[1::2], strict=True)
    # a candidate that fails may have infinite stress
    with np.errstate(invalid="ignore"):
        return [(up.stress - down.stress) / (2 * size) for up, down in pairs]


def softening(boxes: Boxes, rest: Array, k: int = 0, moved: Array | None = None) -> Array:
    """(C, 6, 6) what the motion of atoms takes off elastic constants, eV/A^3: L K^-1 L^T / V.

    K are the force constants, L the couplings of stress and displacements (M. Born, K. Huang,
    Dynamical Theory of Crystal Lattices, 1954, section 11): the limit of small strains of relaxing
    the atoms in every strained cell.

    Args:
        boxes: with the structure.
        rest: (C, 3, 3) deformation gradient where its atoms are at rest.
        k: which structure.
        moved: (C, n, 3) A, from where ``rest`` puts the atoms to where they are at rest.
    """
    n, c = len(boxes.structures[k]), boxes.candidates
    if n == 1:
        return np.zeros((c, 6, 6))
    volume = boxes.structures[k].get_volume() * np.abs(np.linalg.det(rest))[:, None]
    stiffness = np.empty((c, 3 * (n - 1), 3 * n))
    coupling = np.empty((c, 3 * (n - 1), 6))
    moves = np.zeros((3 * (n - 1), n, 3))
    moves[np.arange(len(moves)), 1 + np.arange(len(moves)) // 3, np.arange(len(moves)) % 3] = SHIFT
    at = np.zeros((c, n, 3)) if moved is None else moved
    changes: list[Change] = [(rest, at + sign * move) for move in moves for sign in (1, -1)]
    found = boxes.deformed(k, changes)
    for row, (up, down) in enumerate(zip(found[::2], found[1::2], strict=True)):
        stiffness[:, row] = (down.forces - up.forces).reshape(c, -1)
        coupling[:, row] = up.stress - down.stress
    stiffness /= 2 * SHIFT
    coupling *= volume[:, :, None] / (2 * SHIFT)
    answers = [_answer(a, b) for a, b in zip(stiffness[:, :, 3:], coupling, strict=True)]
    softened: Array = np.stack(answers) / volume[:, :, None]
    return softened


def elastic_constants(
    boxes: Boxes, rest: Array, k: int = 0, relax: bool = True, moved: Array | None = None
) -> Array:
    """(C, 6, 6) elastic constants about the cell ``rest``, GPa.

    Args:
        boxes: with the structure.
        rest: (C, 3, 3) deformation gradient where its atoms are at rest and the stress vanishes.
        k: which structure.
        relax: let the atoms move in the strained cells, by linear response.
        moved: (C, n, 3) A, from where ``rest`` puts the atoms to where they are at rest.
    """
    born = np.stack(stress_slopes(boxes, rest, range(6), k, moved=moved, size=SMALL), axis=2)
    found = born - softening(boxes, rest, k, moved) if relax else born
    even: Array = (found + np.swapaxes(found, 1, 2)) / (2 * GPa)
    return even


def _within(f: Array) -> npt.NDArray[np.bool_]:
    """(C,) whether a cell is less than a third away from the one given."""
    away: npt.NDArray[np.bool_] = np.abs(f - np.eye(3)).max(axis=(1, 2)) < LARGEST
    return away


def _held(boxes: Boxes, k: int, f: Array, relax: bool) -> npt.NDArray[np.bool_]:
    """(C,) whether the pressure pushes back: beyond the cutoff stress vanishes and holds nothing."""
    up, down = (
        _asked(boxes, k, f * (1 + x), relax).stress[:, :3].mean(axis=1) for x in (STRAIN, -STRAIN)
    )
    held: npt.NDArray[np.bool_] = (up > 0) & (down < 0)
    return held


def _asked(boxes: Boxes, k: int, f: Array, relax: bool) -> Static:
    return boxes.relaxed(k, f) if relax else boxes.static(k, f)


def _stiffness(boxes: Boxes, k: int, f: Array, relax: bool) -> Array:
    return np.stack(stress_slopes(boxes, f, range(6), k, relax), axis=2)


def _stepped(f: Array, found: Static, stiffness: Array) -> Array:
    """``f`` after the strain that would take the stress away, each part at most 0.03."""
    after = np.empty_like(f)
    for c in range(len(f)):
        matrix, stress = stiffness[c], found.stress[c]
        if not (np.all(np.isfinite(matrix)) and np.all(np.isfinite(stress))):
            after[c] = f[c]
            continue
        strain = np.clip(-np.linalg.lstsq(matrix, stress, rcond=1e-8)[0], -0.03, 0.03)
        change = np.zeros((3, 3))
        for v, (i, j) in enumerate(VOIGT):
            change[i, j] = change[j, i] = strain[v] if i == j else strain[v] / 2
        moved = f[c] + change @ f[c]
        after[c] = (moved + moved.T) / 2
    return after


def _answer(stiffness: Array, coupling: Array) -> Array:
    """(6, 6) L K^-1 L^T of one candidate, NaN where there is no answer."""
    if not (np.all(np.isfinite(stiffness)) and np.all(np.isfinite(coupling))):
        return np.full((6, 6), np.nan)
    even = (stiffness + stiffness.T) / 2
    moved = np.linalg.lstsq(even, coupling, rcond=1e-10)[0]
    answer: Array = coupling.T @ moved
    return answer
