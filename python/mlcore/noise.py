"""Random displacements with the covariance of a mobility.

A square root of M times standard normal numbers z has the covariance M (D. L. Ermak and J. A.
McCammon, J. Chem. Phys. 69, 1352 (1978)). Three roots are on offer:

- "cholesky": g = L z, M = L L^T. Exact; n^3.
- "lanczos": g = S z, M = S S with symmetric S, by products with M alone: T. Ando, E. Chow, Y. Saad
  and J. Skolnick, J. Chem. Phys. 137, 064106 (2012); E. Chow and Y. Saad, SIAM J. Sci. Comput. 36,
  A588 (2014). Fully reorthogonalised.
- "chebyshev": the same S z by polynomials on bounds of the spectrum: M. Fixman, Macromolecules 19,
  1204 (1986).

"auto" takes Cholesky up to 100 particles, and where k vectors per configuration times the digits of
tol exceed n / 15 (k > n / 45 for 1e-3), since one factorisation serves all; Lanczos else. That is
where the times of `bench/noise.py` cross.

Everything runs on the library's threads and gives the same bits for any number of them. On the CPU
factorisation and products are the library's own: what BLAS is installed makes no difference. On a
GPU Cholesky is cuSOLVER's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlcore import _core
from mlcore.arrays import (
    Kind,
    Particles,
    apart,
    box,
    integer,
    number,
    one_of,
    real,
    thread_count,
)
from mlcore.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from mlcore.arrays import Pbc, Positions
    from mlcore.mobility.tensors import Mobility

__all__ = ["NoiseReport", "cholesky", "sqrt_apply"]

_PRECISIONS = {"float64": np.float64, "float32": np.float32}
_MOST = (1 << 31) - 1  # iterations


@dataclass(frozen=True)
class NoiseReport:
    """How a square root was found.

    Attributes:
        method: "cholesky", "lanczos" or "chebyshev".
        iterations: of Lanczos' method, or the degree of the Chebyshev polynomials; 0 of Cholesky.
        error: estimate of |g - M^(1/2) z| / |M^(1/2) z|, the largest of the vectors: the last change
            of Lanczos, the bound of Chebyshev, 0 of Cholesky (rounding) but sqrt(3n) 2^-24 of it in
            single precision. What single precision may add to Lanczos and Chebyshev is in it.
        smallest_ritz: of Lanczos, and of Chebyshev without given bounds: not below the smallest
            eigenvalue; nan else.
        shift: added to the diagonal of M, 0 unless it had to be repaired: the noise then has the
            covariance M + shift I, whose smallest eigenvalue is 1e-10 of the largest one of M
            (times a power of ten where rounding asks for it).
        smallest_eigenvalue: of M (of Lanczos and Chebyshev the Ritz value); known (not nan) only
            where it had to be repaired.
    """

    method: str
    iterations: int
    error: float
    smallest_ritz: float
    shift: float
    smallest_eigenvalue: float


def cholesky(
    matrix: npt.ArrayLike | torch.Tensor,
    *,
    precision: str = "float64",
    out: Any = None,
    num_threads: int | None = None,
) -> Any:
    """Lower triangular L with L L^T = matrix.

    Args:
        matrix: (m, m) symmetric: array or tensor, on the CPU or a GPU (there by cuSOLVER).
        precision: "float64", or "float32" for half the time and memory: an error of some
            sqrt(m) 6e-8 of L L^T.
        out: C-contiguous (m, m) array of the precision and the kind of the matrix to write to, apart
            from the matrix.
        num_threads: CPU threads; None takes the library-wide setting.

    Returns:
        (m, m) of the precision and the kind of the matrix, zeros above the diagonal.

    Raises:
        NotPositiveDefinite: naming the smallest eigenvalue.
        InvalidArgument: the matrix is not square, not symmetric to 1e-10 of its largest entry
            (1e-5 in single precision), or not finite; ``out`` does not fit.
        BackendUnavailable: the matrix is on a GPU and mlcore was built without CUDA, or cuSOLVER is
            missing.
    """
    single = _is_single(precision)
    dtype = _PRECISIONS[precision]
    array, kind = real("matrix", matrix, dtype)
    shape = tuple(array.shape)
    if len(shape) != 2 or shape[0] != shape[1]:
        raise InvalidArgument(f"matrix must have the shape (m, m), got {shape}")
    lower, result = kind.output(out, shape, dtype, like="matrix")
    apart(lower, matrix=array)
    factor = _core.cholesky_copy_single if single else _core.cholesky_copy
    factor(array, lower, num_threads=thread_count(num_threads), stream=kind.stream())
    return result


def sqrt_apply(
    mobility: Mobility | npt.ArrayLike | torch.Tensor,
    x: Positions | None,
    z: npt.ArrayLike | torch.Tensor,
    cell: Any = None,
    pbc: Pbc = None,
    method: str = "cholesky",
    psd: str = "error",
    *,
    tol: float = 1e-3,
    max_iterations: int = 1000,
    precision: str = "float64",
    bounds: Sequence[float] | None = None,
    out: Any = None,
    num_threads: int | None = None,
) -> tuple[Any, Any]:
    """A square root of M(x) times z: for standard normal z, Gaussian vectors of covariance M.

    Lanczos and Chebyshev never form M of RPY and Oseen in open space (but for a table on top), nor
    one above 2 GiB; else they read half of it per iteration, once for all vectors of a
    configuration.

    Args:
        mobility: RPY, Oseen, PairMobility, or any other `Mobility` (by way of its matrix), or the
            matrix itself: (3n, 3n), or (B, 3n, 3n) where x is a batch. That it is symmetric to 1e-10
            of its largest entry (1e-5 with float32) is checked, in the time of two products with it.
        x: (n, 3) or (B, n, 3) positions: array, tensor or ``ase.Atoms``. With a matrix they are used
            in messages alone and may be None.
        z: numbers, standard normal for noise of the covariance M: (n, 3), or (k, n, 3) for k
            vectors of one configuration; (B, n, 3) or (B, k, n, 3) for a batch.
        cell: as for `Mobility`.
        pbc: as for `Mobility`.
        method: "cholesky", "lanczos", "chebyshev" or "auto"; see the module.
        psd: what to do when M is not positive definite: "error", or "repair" to shift the spectrum
            (see `NoiseReport`). Lanczos and Chebyshev notice it where z brings it up.
        tol: 1e-14..0.5, relative: Lanczos stops where g changes by less from one iteration to the
            next, Chebyshev where a bound of its error is below.
        max_iterations: 1 or more, of Lanczos and Chebyshev, which then give up. Lanczos keeps 24 n bytes per
            iteration and vector.
        precision: of M; vectors and sums stay in double precision. "float32" halves the memory
            traffic and the time of Cholesky; what it may cost is in the report's error.
        bounds: (lowest, highest) that hold the spectrum of M, for "chebyshev"; None has them
            estimated by some Lanczos steps, widened where they turn out wrong.
        out: C-contiguous float64 array of the shape of z to write to, of the kind and device of x,
            apart from x and z.
        num_threads: CPU threads; None takes the library-wide setting.

    Returns:
        g of the shape of z and the kind of x (of the matrix without x; NumPy for Atoms), and a
        `NoiseReport`; for a batch a tuple of them.

    Raises:
        NotPositiveDefinite: naming the smallest eigenvalue (or Ritz value) and the closest pair.
        InvalidArgument: a shape, value or option is wrong, a matrix is not symmetric or not finite,
            or bounds do not hold the spectrum.
        Error: tol is not reached in max_iterations.
        BackendUnavailable: arrays on a GPU in a build without CUDA, or Cholesky there without
            cuSOLVER.
    """
    options = _core.SqrtOptions(
        method=one_of("method", method, "cholesky", "lanczos", "chebyshev", "auto"),
        tol=number("tol", tol),
        psd=one_of("psd", psd, "error", "repair"),
        max_iterations=max(0, min(integer("max_iterations", max_iterations), _MOST)),
        single_precision=_is_single(precision),
        bounds=_two(bounds),
    )
    model = getattr(mobility, "core_model", None)
    if not hasattr(mobility, "apply") and x is None:
        return _of_matrix_alone(mobility, z, options, out, num_threads)
    particles = Particles.of(x, cell, pbc)
    normal, stack = _stack(particles, z)
    array, result = particles.kind.output(out, tuple(normal.shape))
    filled = array.reshape(stack.shape)
    if out is not None:
        apart(array, x=particles.x, z=normal)
    threads, stream = thread_count(num_threads), particles.kind.stream()
    call: dict[str, Any] = {"num_threads": threads, "stream": stream}
    if model is not None:
        reports = _core.sqrt_apply(
            model, *particles.box, particles.x, stack, filled, options, **call
        )
    else:
        matrices = _matrices(mobility, particles)
        side = 3 * particles.x.shape[1]
        reports = [
            _core.sqrt_apply_matrix(
                matrix,
                *particles.box,
                row,
                v.reshape(-1, side),
                g.reshape(-1, side),
                options,
                **call,
            )
            for matrix, row, v, g in zip(matrices, particles.x, stack, filled, strict=True)
        ]
    made = tuple(NoiseReport(*report) for report in reports)
    return result, made if particles.batched else made[0]


def _is_single(precision: str) -> bool:
    return one_of("precision", precision, *_PRECISIONS) == "float32"


def _two(bounds: Sequence[float] | None) -> list[float]:
    if bounds is None:
        return [0.0, 0.0]
    try:
        lowest, highest = (number("bounds", value) for value in bounds)
    except (TypeError, ValueError):
        lowest = highest = np.nan
    if not 0 < lowest < highest < np.inf:
        raise InvalidArgument(f"bounds must be two numbers 0 < lowest < highest, got {bounds!r}")
    return [lowest, highest]


def _stack(particles: Particles, z: Any) -> tuple[Any, Any]:
    """z as it is and as (B, k, n, 3)."""
    normal = particles.real("z", z)
    batch, n = particles.x.shape[:2]
    lead = (batch,) if particles.batched else ()
    shape = tuple(normal.shape)
    plain = (*lead, n, 3)
    several = len(shape) == len(plain) + 1 and (*shape[: len(lead)], *shape[-2:]) == plain
    if shape != plain and not several:
        k = "(B, k, n, 3)" if lead else "(k, n, 3)"
        raise InvalidArgument(
            f"z must have the shape {plain} or {k} for x of the shape {(*lead, n, 3)}, got {shape}"
        )
    return normal, normal.reshape(batch, shape[-3] if several else 1, n, 3)


def _matrices(mobility: Any, particles: Particles) -> Any:
    """(B, 3n, 3n), of a mobility the core does not know or as given."""
    batch, n = particles.x.shape[:2]
    if hasattr(mobility, "apply"):
        return [
            particles.kind.take("matrix", mobility.matrix(x, *particles.box)) for x in particles.x
        ]
    matrix = particles.real("matrix", mobility)
    shape = (*((batch,) if particles.batched else ()), 3 * n, 3 * n)
    if tuple(matrix.shape) != shape:
        raise InvalidArgument(
            f"the matrix must have the shape {shape} for x of the shape "
            f"{(*shape[:-2], n, 3)}, got {tuple(matrix.shape)}"
        )
    return matrix if particles.batched else matrix[None]


def _of_matrix_alone(
    matrix: Any, z: Any, options: Any, out: Any, num_threads: int | None
) -> tuple[Any, NoiseReport]:
    kind = Kind.of(matrix)
    array = kind.take("matrix", matrix)
    other = Kind.of(z)
    other.require_device_of(kind, "z", "matrix")
    normal = other.take("z", z)
    if len(array.shape) != 2 or array.shape[0] != array.shape[1]:
        raise InvalidArgument(f"matrix must have the shape (m, m), got {tuple(array.shape)}")
    m = array.shape[0]
    shape = tuple(normal.shape)
    flat = shape[-2:] == (m // 3, 3) and m % 3 == 0 and len(shape) in (2, 3)
    if not flat and not (len(shape) in (1, 2) and shape[-1] == m):
        raise InvalidArgument(
            f"z must have the shape ({m},) or (k, {m}), or (n, 3) or (k, n, 3) with 3n = {m}, "
            f"got {shape}"
        )
    several = len(shape) == 3 if flat else len(shape) == 2
    block = (shape[0] if several else 1, m)
    filled, result = kind.output(out, shape, like="matrix")
    if out is not None:
        apart(filled, matrix=array, z=normal)
    report = _core.sqrt_apply_matrix(
        array,
        *box(None, None),
        np.empty((0, 3)),
        normal.reshape(block),
        filled.reshape(block),
        options,
        num_threads=thread_count(num_threads),
        stream=kind.stream(),
    )
    return result, NoiseReport(*report)
