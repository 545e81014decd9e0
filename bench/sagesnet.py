"""Bars of SAGESnet: what each part must hold, and what it measures here.

    python bench/sagesnet.py [--only TEXT] [--list]

Long runs that are no part of the tests; one module of `sagesnet_bars` for each part, whose `bars`
are functions by name that give `Measured` values. Exit code 1 where a bar is missed.
"""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import sagesnet_bars  # noqa: E402
from bars import main  # noqa: E402

if __name__ == "__main__":
    raise SystemExit(main(sagesnet_bars, __doc__))
