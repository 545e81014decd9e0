"""Random numbers that belong to particles, not to a generator's state.

Philox4x32-10 (Salmon et al., SC 2011) keyed by (seed, stream, step, particle tag): the numbers do
not depend on thread count, rank count or device, and are the ones the LAMMPS fix uses.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mlcore import _core
from mlcore.arrays import Kind, integer, thread_count
from mlcore.errors import InvalidArgument

__all__ = ["normal"]


def normal(
    seed: int,
    stream: int,
    step: int,
    tags: npt.ArrayLike,
    *,
    out: Any = None,
    num_threads: int | None = None,
) -> Any:
    """Three standard normal numbers per particle for one time step.

    Args:
        seed: 0 <= seed < 2**64.
        stream: independent users of one seed; 0 <= stream < 2**30.
        step: time step, 0 <= step < 2**64.
        tags: (n,) particle identities, 0 <= tag < 2**32.
        out: (n, 3) float64 to fill: NumPy, torch or CuPy; on a GPU the numbers are made there, the
            same to rounding.
        num_threads: CPU threads; None takes the library-wide setting.

    Returns:
        out, or (n, 3) float64 of NumPy.

    Raises:
        InvalidArgument: an argument lies outside its range.
        BackendUnavailable: out is on a GPU and mlcore was built without CUDA.
    """
    for name, value, bits in (("seed", seed, 64), ("stream", stream, 30), ("step", step, 64)):
        if not 0 <= integer(name, value) < 2**bits:
            raise InvalidArgument(f"{name} must lie in 0..2**{bits}-1, got {value}")
    numbers = checked_tags(tags)
    kind = Kind.of(out)
    filled, result = kind.output(out, (len(numbers), 3))
    options: dict[str, Any] = {"num_threads": thread_count(num_threads)}
    if not kind.on_cpu:
        options["on_stream"] = kind.stream()
    _core.random_normal(seed, stream, step, numbers, filled, **options)
    return result


def checked_tags(tags: npt.ArrayLike) -> npt.NDArray[np.uint32]:
    """(n,) particle identities as the core takes them."""
    array = np.atleast_1d(np.asarray(tags))
    if array.ndim != 1 or (array.size and not np.issubdtype(array.dtype, np.integer)):
        raise InvalidArgument(
            f"tags must be a 1-d array of integers, got {array.dtype} of shape {array.shape}"
        )
    if array.size and (array.min() < 0 or array.max() >= 2**32):
        raise InvalidArgument("tags must lie in 0..2**32-1")
    return array.astype(np.uint32)
