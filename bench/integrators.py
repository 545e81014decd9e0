"""Bars of the integrators of large steps: what each must hold, and what it measures here.

    python bench/integrators.py [--only TEXT] [--list]

Long runs that are no part of the tests; one module of `integrator_bars` for each kind of integrator,
whose `bars` are functions by name that give `Measured` values. Times are CPU seconds of one thread.
Exit code 1 where a bar is missed.
"""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import integrator_bars  # noqa: E402
from bars import main  # noqa: E402

if __name__ == "__main__":
    raise SystemExit(main(integrator_bars, __doc__))
