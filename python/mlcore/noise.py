"""Random displacements with the covariance of a mobility.

g = L z with M = L L^T (Cholesky) has the covariance M when z is standard normal: Ermak and McCammon,
J. Chem. Phys. 69, 1352 (1978). The factorisation runs on the library's threads and gives the same
bits for any number of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlcore import _core
from mlcore.arrays import Particles
from mlcore.errors import InvalidArgument

if TYPE_CHECKING:
    import torch

    from mlcore.arrays import Pbc, Positions
    from mlcore.mobility.tensors import Mobility

__all__ = ["NoiseReport", "cholesky", "sqrt_apply"]

Array = npt.NDArray[np.float64]
_SYMMETRY = 1e-10  # largest asymmetry accepted, relative to the largest entry


@dataclass(frozen=True)
class NoiseReport:
    """How a square root was found.

    Attributes:
        method: "cholesky".
        shift: added to the diagonal of M, 0 unless it had to be repaired: the noise then has the
            covariance M + shift I, whose smallest eigenvalue is 1e-10 of the largest one of M
            (times a power of ten where rounding asks for it).
        smallest_eigenvalue: of M; known (not nan) only where it had to be repaired.
    """

    method: str
    shift: float
    smallest_eigenvalue: float


def cholesky(matrix: npt.ArrayLike, *, num_threads: int | None = None) -> Array:
    """Lower triangular L with L L^T = matrix.

    Args:
        matrix: (m, m) symmetric.
        num_threads: CPU threads; None takes the library-wide setting.

    Returns:
        (m, m) float64, zeros above the diagonal.

    Raises:
        NotPositiveDefinite: naming the smallest eigenvalue.
        InvalidArgument: the matrix is not square, not symmetric to 1e-10 of its largest entry, or
            not finite.
    """
    factor = np.array(matrix, dtype=np.float64, order="C")
    if factor.ndim != 2 or factor.shape[0] != factor.shape[1]:
        raise InvalidArgument(f"matrix must have the shape (m, m), got {factor.shape}")
    if not np.isfinite(factor).all():
        raise InvalidArgument("matrix must be finite")
    asymmetry = np.abs(factor - factor.T).max(initial=0.0)
    if asymmetry > _SYMMETRY * np.abs(factor).max(initial=0.0):
        raise InvalidArgument(f"matrix must be symmetric, but M - M^T has an entry of {asymmetry}")
    _core.cholesky(factor, num_threads=num_threads or 0)
    return factor


def sqrt_apply(
    mobility: Mobility,
    x: Positions,
    z: npt.ArrayLike | torch.Tensor,
    cell: Any = None,
    pbc: Pbc = None,
    method: str = "cholesky",
    psd: str = "error",
    *,
    num_threads: int | None = None,
) -> tuple[Any, NoiseReport]:
    """Vectors g = L z with L L^T = M(x).

    Args:
        mobility: RPY, Oseen, PairMobility, or any other `Mobility` (by way of its matrix).
        x: (n, 3) positions: array, CPU tensor or ``ase.Atoms``.
        z: (n, 3) numbers, standard normal for noise of the covariance M, or (k, n, 3): one
            factorisation serves all k.
        cell: as for `Mobility`.
        pbc: as for `Mobility`.
        method: "cholesky".
        psd: what to do when M is not positive definite: "error", or "repair" to shift the spectrum
            (see `NoiseReport`).
        num_threads: CPU threads; None takes the library-wide setting.

    Returns:
        g of the shape of z and the kind of x (NumPy for Atoms), and a `NoiseReport`.

    Raises:
        NotPositiveDefinite: naming the smallest eigenvalue and the closest pair.
        InvalidArgument: a shape, value or option is wrong.
        BackendUnavailable: x is on a GPU.
    """
    if method != "cholesky":
        raise InvalidArgument(f'method must be "cholesky", got {method!r}')
    if psd not in ("error", "repair"):
        raise InvalidArgument(f'psd must be "error" or "repair", got {psd!r}')
    particles = Particles.of(x, cell, pbc, cpu="sqrt_apply runs")
    positions, normal = particles.single(), particles.real("z", z)
    n = len(positions)
    if normal.ndim not in (2, 3) or normal.shape[-2:] != (n, 3):
        raise InvalidArgument(f"z must have the shape ({n}, 3) or (k, {n}, 3), got {normal.shape}")
    stack = normal if normal.ndim == 3 else normal[None]
    out = np.empty(stack.shape)
    options: dict[str, Any] = {"psd": psd, "num_threads": num_threads or 0}
    model = getattr(mobility, "core_model", None)
    if model is not None:
        report = _core.sqrt_apply(model, *particles.box, positions, stack, out, **options)
    else:
        matrix = np.array(mobility.matrix(positions, *particles.box), dtype=np.float64, order="C")
        report = _core.sqrt_apply_matrix(matrix, *particles.box, positions, stack, out, **options)
    return particles.kind.like(out.reshape(normal.shape)), NoiseReport(*report)
