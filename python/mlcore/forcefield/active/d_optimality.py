"""Structures that teach most: determinants of the Fisher information, and the grade of novelty.

A structure's features are the derivatives of its energy and forces by the parameters. Rows that
span the largest volume teach most (MaxVol), and a row that needs large coefficients of these is an
extrapolation (E. V. Podryabinkin, A. V. Shapeev, Comput. Mater. Sci. 140, 171, 2017).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from ase import Atoms

from mlcore.errors import InvalidArgument
from mlcore.forcefield.active.committee import Predictor
from mlcore.forcefield.forms import Model
from mlcore.forcefield.parameters import Space
from mlcore.forcefield.uncertainty.misfit import jacobian

__all__ = ["choose", "features", "gains", "grade", "maxvol"]

Array = npt.NDArray[np.float64]


def features(
    model: Model,
    structures: Sequence[Atoms],
    space: Space,
    point: npt.ArrayLike,
    *,
    sigma_energy: float = 0.02,
    sigma_force: float = 0.2,
    step: float = 1e-4,
) -> list[Array]:
    """Derivatives of what is told of each structure, in tolerances, by the point in the cube.

    Args:
        model: the form.
        structures: labels are not needed.
        space: the free parameters.
        point: (n,) where.
        sigma_energy: tolerance, eV per atom.
        sigma_force: tolerance of the root mean square force error, eV/A.
        step: of the central differences, in edges of the cube.

    Returns:
        For each structure (1 + 3 atoms, n): its energy, then its forces.

    Raises:
        Error: a candidate beside the point fails.
    """
    predictor = Predictor(model, structures)

    def values(points: Array) -> Array:
        return np.concatenate(predictor.rows([space.values(p) for p in points]), axis=1)

    try:
        slope = jacobian(values, point, step)
    finally:
        predictor.close()
    count = len(structures)
    ends = count + 3 * np.cumsum([len(atoms) for atoms in structures])[:-1]
    forces = np.split(slope, [count, *ends])[1:]
    return [
        np.concatenate([slope[k : k + 1] / sigma_energy, f / (sigma_force * np.sqrt(len(f)))])
        for k, f in enumerate(forces)
    ]


def choose(found: Sequence[Array], count: int, known: npt.ArrayLike) -> list[int]:
    """Structures that raise the determinant of the information most, one after the other.

    Args:
        found: features of each structure, (rows, n).
        count: how many are wanted.
        known: (n, n) information of what is known already, positive definite: that of the
            training data, and of the ranges of the parameters (`ranges`).

    Returns:
        Indices, the most valuable first.

    Raises:
        InvalidArgument: ``count`` is not from 1 to the number of structures.
    """
    if not 1 <= count <= len(found):
        raise InvalidArgument(f"count must be from 1 to {len(found)}, got {count}")
    information = np.array(known, dtype=np.float64)
    chosen: list[int] = []
    for _ in range(count):
        gain = gains(found, information)
        gain[chosen] = -np.inf
        best = int(np.argmax(gain))
        chosen.append(best)
        information += found[best].T @ found[best]
    return chosen


def gains(found: Sequence[Array], known: npt.ArrayLike) -> Array:
    """(S,) growth of the logarithm of the determinant by each structure alone."""
    root = np.linalg.inv(np.linalg.cholesky(np.asarray(known, dtype=np.float64)))
    size = len(root)
    return np.array([np.linalg.slogdet(np.eye(size) + root @ f.T @ f @ root.T)[1] for f in found])


def ranges(size: int) -> Array:
    """(n, n) information of knowing nothing but that a point lies in the unit cube."""
    return 12.0 * np.eye(size)


def maxvol(
    rows: npt.ArrayLike, tolerance: float = 1.01, steps: int = 1000
) -> npt.NDArray[np.int64]:
    """(n,) indices of rows whose square matrix has a determinant that no single swap raises much.

    Args:
        rows: (N, n) of rank n.
        tolerance: a swap must raise the determinant by this factor.
        steps: largest number of swaps.

    Raises:
        InvalidArgument: fewer rows than columns, or of lower rank.

    Source: S. A. Goreinov et al., How to find a good submatrix, in Matrix Methods, 247 (2010).
    """
    from scipy.linalg import qr

    table = np.asarray(rows, dtype=np.float64)
    if table.ndim != 2 or len(table) < table.shape[1]:
        raise InvalidArgument(f"rows must be at least as many as columns, got {table.shape}")
    _, upper, order = qr(table.T, mode="economic", pivoting=True)
    size = np.abs(np.diag(upper))
    if size[-1] <= 1e-12 * size[0]:
        raise InvalidArgument("rows: their rank is below the number of columns")
    found = np.array(order[: table.shape[1]], dtype=np.int64)
    for _ in range(steps):
        weights = np.linalg.solve(table[found].T, table.T).T
        row, column = np.unravel_index(np.argmax(np.abs(weights)), weights.shape)
        if abs(weights[row, column]) < tolerance:
            break
        found[column] = row
    return found


def grade(rows: npt.ArrayLike, active: npt.ArrayLike) -> Array:
    """(N,) largest coefficient of each row as a sum of the (n, n) ``active`` rows; above 1 is new."""
    table = np.atleast_2d(np.asarray(rows, dtype=np.float64))
    weights = np.linalg.solve(np.asarray(active, dtype=np.float64).T, table.T)
    found: Array = np.abs(weights).max(axis=0)
    return found
