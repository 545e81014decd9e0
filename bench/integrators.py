"""Bars of the integrators of large steps: what each must hold, and what it measures here.

    python bench/integrators.py [--only TEXT] [--list]

Long runs that are no part of the tests; one module of `integrator_bars` for each kind of integrator,
whose `bars` are functions by name that give `Measured` values. Times are CPU seconds of one thread.
Exit code 1 where a bar is missed.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import time
from collections.abc import Callable, Iterator
from typing import Any

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import integrator_bars  # noqa: E402
import mlcore  # noqa: E402
from integrator_bars import Measured  # noqa: E402

Bars = dict[str, Callable[[], Iterator[Measured]]]


def known() -> Bars:
    """All bars by name."""
    found: Bars = {}
    for module in sorted(m.name for m in pkgutil.iter_modules(integrator_bars.__path__)):
        own: dict[str, Any] = importlib.import_module(f"integrator_bars.{module}").bars
        found |= own
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="bars whose name contains this")
    parser.add_argument("--list", action="store_true", help="tell the names alone")
    options = parser.parse_args()
    mlcore.set_num_threads(1)
    missed = 0
    for name, run in known().items():
        if options.only not in name:
            continue
        print(name, flush=True)
        if options.list:
            continue
        start = time.process_time()
        for one in run():
            missed += one.held is False
            print(f"  {one}", flush=True)
        print(f"  took {time.process_time() - start:.0f} s of CPU time", flush=True)
    return int(missed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
