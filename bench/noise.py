"""Cholesky factorisation and one noise vector, against SciPy and NumPy on the same run.

    python bench/noise.py [--threads 1] [--sizes 100,300,1000] [--json FILE]

Set OMP_NUM_THREADS to the same number: the peers take theirs from there.
"""

from __future__ import annotations

import argparse
import json
import timeit
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlcore
import numpy as np
import scipy.linalg
from mlcore import _core
from mlcore.mobility import RPY
from mlcore.noise import sqrt_apply

SECONDS = 0.6


def best_time(call: Callable[[], Any]) -> float:
    """Shortest of several runs, in seconds per call."""
    timer = timeit.Timer(call)
    count, seconds = timer.autorange()
    repeats = max(2, int(SECONDS / seconds))
    return min([seconds, *timer.repeat(repeats, count)]) / count


def dilute(n: int) -> Any:
    """Random positions (n, 3) at a volume fraction of 0.1 for a = 1."""
    edge = (4 / 3 * np.pi * n / 0.1) ** (1 / 3)
    return np.random.default_rng(n).uniform(0, edge, (n, 3))


def measure(n: int) -> dict[str, float]:
    x, mobility = dilute(n), RPY(1.0, 1.0)
    matrix = mobility.matrix(x)
    work = np.empty_like(matrix)
    z = np.random.default_rng(0).normal(size=(n, 3))

    def core() -> None:
        np.copyto(work, matrix)
        _core.cholesky(work)

    copy = best_time(lambda: np.copyto(work, matrix))
    factor = np.linalg.cholesky(matrix)
    product = np.empty((1, 3 * n))
    return {
        "n": n,
        "cholesky": best_time(core) - copy,
        "cholesky_scipy": best_time(
            lambda: scipy.linalg.cholesky(matrix, lower=True, check_finite=False)
        ),
        "cholesky_numpy": best_time(lambda: np.linalg.cholesky(matrix)),
        "lower_multiply": best_time(
            lambda: _core.lower_multiply(factor, z.reshape(1, -1), product)
        ),
        "gemv_numpy": best_time(lambda: factor @ z.ravel()),
        "sqrt_apply": best_time(lambda: sqrt_apply(mobility, x, z)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sizes", default="100,300,1000")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    mlcore.set_num_threads(arguments.threads)
    rows = [measure(int(n)) for n in arguments.sizes.split(",")]
    names = list(rows[0])
    print("  ".join(f"{name:>14}" for name in names), " [ms]")
    for row in rows:
        values = (f"{row[name] * 1e3:14.4f}" for name in names[1:])
        print(f"{row['n']:14d}", *values, sep="  ")
    if arguments.json:
        arguments.json.write_text(json.dumps({"threads": arguments.threads, "rows": rows}))


if __name__ == "__main__":
    main()
