"""From the self mobility in periodic boxes to the one in an infinite system.

A sphere in a periodic box is slowed down by its images:

    mu(box) = mu_inf + c(box)/eta,    c = -(2.837297/L - 4 pi a^2/(3 L^3))/(6 pi) for a cube.

Source: H. Hasimoto, J. Fluid Mech. 5 (1959) 317; the same terms are the self part of the periodic
Rotne-Prager-Yamakawa tensor, which gives c for other cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlcore.data.trajectory import Trajectory
from mlcore.errors import InvalidArgument
from mlcore.mobility.estimators import ChiSquare, MobilityEstimate

__all__ = ["InfiniteBox", "group_by_box", "image_correction", "infinite_box_mobility"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class InfiniteBox:
    """Self mobility without periodic images.

    Attributes:
        mobility, error: mu_inf and its standard error.
        viscosity, viscosity_error: given (error 0) or fitted.
        chi2: of the fit; `count` is the number of boxes less the fitted parameters.
    """

    mobility: float
    error: float
    viscosity: float
    viscosity_error: float
    chi2: ChiSquare


def image_correction(cell: ArrayLike, radius: float) -> float:
    """c of mu(box) = mu_inf + c/eta, in 1/length; negative.

    Args:
        cell: (3, 3), one lattice vector per row, any shape.
        radius: hydrodynamic radius of the sphere.
    """
    matrix = np.asarray(cell, dtype=float)
    if matrix.shape != (3, 3):
        raise InvalidArgument(f"cell should have shape (3, 3), got {matrix.shape}")
    length = matrix[0, 0]
    if np.allclose(matrix, length * np.eye(3), rtol=0, atol=1e-9 * abs(length)):
        return float(-(2.837297 / length - 4 * np.pi * radius**2 / (3 * length**3)) / (6 * np.pi))
    from mlcore.mobility.tensors import RPY

    own = np.asarray(RPY(radius, 1.0).matrix(np.zeros((1, 3)), matrix))
    return float(np.trace(own)) / 3 - 1 / (6 * np.pi * radius)


def group_by_box(trajectories: Sequence[Trajectory]) -> list[list[Trajectory]]:
    """Trajectories with the same cell together, ordered by volume."""
    groups: dict[tuple[float, ...], list[Trajectory]] = {}
    for run in trajectories:
        if run.cell is None:
            raise InvalidArgument(f"{run.source or 'trajectory'} has no periodic box")
        groups.setdefault(tuple(np.round(run.cell, 9).reshape(-1).tolist()), []).append(run)
    return sorted(groups.values(), key=_volume)


def _volume(runs: list[Trajectory]) -> float:
    assert runs[0].cell is not None
    return abs(float(np.linalg.det(runs[0].cell)))


def infinite_box_mobility(
    estimates: Sequence[MobilityEstimate], radius: float, viscosity: float | None = None
) -> InfiniteBox:
    """Take the periodic part off self mobilities measured in one or more boxes.

    Args:
        estimates: with cells and standard errors, independent of each other.
        radius: hydrodynamic radius (enters the small a^2/L^3 term).
        viscosity: of the solvent; None fits it too, from at least two different boxes.

    Raises:
        InvalidArgument: no estimates, one without a cell or a positive error, or too few boxes.
    """
    if not estimates:
        raise InvalidArgument("estimates is empty")
    corrections, values, errors = [], [], []
    for k, estimate in enumerate(estimates):
        if estimate.cell is None:
            raise InvalidArgument(f"estimates[{k}] has no periodic cell")
        if not estimate.self_error > 0:
            raise InvalidArgument(f"estimates[{k}] has no positive error of the self mobility")
        corrections.append(image_correction(estimate.cell, radius))
        values.append(estimate.self_mobility)
        errors.append(estimate.self_error)
    c, mu, sigma = np.array(corrections), np.array(values), np.array(errors)
    if viscosity is not None:
        return _fixed(c, mu, sigma, viscosity)
    if np.ptp(c) <= 1e-6 * abs(c).max():
        raise InvalidArgument(
            "estimates of at least two different boxes are needed to fit viscosity"
        )
    design = np.stack([np.ones_like(c), c], axis=1) / sigma[:, None]
    covariance = np.linalg.inv(design.T @ design)
    best = covariance @ design.T @ (mu / sigma)
    rest = mu / sigma - design @ best
    eta = 1 / best[1]
    return InfiniteBox(
        mobility=float(best[0]),
        error=float(np.sqrt(covariance[0, 0])),
        viscosity=float(eta),
        viscosity_error=float(np.sqrt(covariance[1, 1]) * eta**2),
        chi2=ChiSquare(float(rest @ rest), len(mu) - 2),
    )


def _fixed(c: FloatArray, mu: FloatArray, sigma: FloatArray, viscosity: float) -> InfiniteBox:
    if not viscosity > 0:
        raise InvalidArgument(f"viscosity should be positive, got {viscosity}")
    each = mu - c / viscosity
    weight = 1 / sigma**2
    mean = float(weight @ each / weight.sum())
    chi2 = float(weight @ (each - mean) ** 2)
    error = float(1 / np.sqrt(weight.sum()))
    return InfiniteBox(mean, error, float(viscosity), 0.0, ChiSquare(chi2, len(mu) - 1))
