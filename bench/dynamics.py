"""Time per Brownian step, in microseconds.

python bench/dynamics.py [--threads 1] [--sizes 2,12,50,200] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import mlcore
import numpy as np
from mlcore.dynamics import Yukawa, brownian
from mlcore.mobility import RPY, PairMobility
from mlcore.mobility.tensors import CoreMobility

SECONDS = 1.0
FRACTION = 0.05


def lattice(n: int) -> tuple[Any, float]:
    """Positions (n, 3) on a cubic lattice and the edge of their box, for a = 1."""
    edge = (4 / 3 * np.pi * n / FRACTION) ** (1 / 3)
    side = int(np.ceil(n ** (1 / 3) - 1e-9))
    grid = np.stack(np.meshgrid(*[np.arange(side)] * 3), -1).reshape(-1, 3)[:n]
    return grid * (edge / side), edge


def table() -> PairMobility:
    return PairMobility.from_functions(
        0.01,
        8.0,
        lambda r: 0.01 * (1 - r / 8) ** 4 * (1 + r / 2),
        lambda r: 0.01 * (1 - r / 8) ** 4,
        background=RPY(1.0, 1.0),
    )


def microseconds(mobility: CoreMobility, n: int, periodic: bool, scheme: str) -> float:
    x, edge = lattice(n)
    cell = np.full(3, edge) if periodic else None
    steps, elapsed = 4, 0.0
    while True:
        start = time.perf_counter()
        brownian(
            mobility,
            x,
            forces=Yukawa(10.0, 1.0, 8.0),
            dt=1e-3,
            kT=1.0,
            steps=steps,
            every=steps,
            cell=cell,
            scheme=scheme,
        )
        elapsed = time.perf_counter() - start
        if elapsed > SECONDS:
            return elapsed / steps * 1e6
        steps = max(2 * steps, int(1.2 * steps * SECONDS / elapsed))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sizes", default="2,12,50,200")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    mlcore.set_num_threads(arguments.threads)
    rows = []
    print("mobility     box       scheme              n   us per step")
    for name, mobility in (("rpy", RPY(1.0, 1.0)), ("rpy+table", table())):
        for periodic in (False, True):
            for scheme in ("euler_maruyama", "midpoint"):
                for n in map(int, arguments.sizes.split(",")):
                    value = microseconds(mobility, n, periodic, scheme)
                    box = "periodic" if periodic else "open"
                    rows.append([name, box, scheme, n, value])
                    print(f"{name:12s} {box:9s} {scheme:15s} {n:5d} {value:13.1f}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"threads": arguments.threads, "rows": rows}))


if __name__ == "__main__":
    main()
