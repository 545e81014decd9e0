"""How many threads the parts of a command take."""

from __future__ import annotations

import os

__all__ = ["share_cores"]


def share_cores() -> None:
    """The core takes all cores, BLAS and torch one: on small matrices theirs wait for each other.

    To be called before NumPy and torch are imported, which read these variables once; what the user
    set stays.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if "OMP_NUM_THREADS" not in os.environ:
        os.environ.setdefault("MLCORE_NUM_THREADS", str(cores))
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
