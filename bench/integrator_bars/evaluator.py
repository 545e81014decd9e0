"""What the evaluator says of sixteen Lennard-Jones particles, and how soon."""

from __future__ import annotations

import time
from collections.abc import Iterator

from bars import Measured
from mlcore import md
from mlcore.integrators import Report, VerletIntegrator, evaluate, lyapunov

EDGE = 6.7949


def exponent() -> Iterator[Measured]:
    """N = 16, epsilon = 2, starts at rest, by the defaults."""
    start = time.process_time()
    found = lyapunov(md.lennard_jones(16, box=EDGE, epsilon=2.0))
    took = time.process_time() - start
    yield Measured("Lyapunov exponent, box 6.7949", found.value, most=3.4, least=2.8)
    yield Measured("its standard error", found.error)
    yield Measured("CPU s", took, most=30)
    yield Measured("time after which an error means nothing", found.cut(), most=12.5, least=10)
    dense = lyapunov(md.lennard_jones(16, box=6.0, epsilon=2.0))
    yield Measured("Lyapunov exponent, box 6.0", dense.value, most=3.5, least=2.9)


def report() -> Iterator[Measured]:
    """Ten runs of t = 150 at steps of 0.05: a whole report, and the measures of the truth in it."""
    fixed = {"n": 16, "box": EDGE, "epsilon": 2.0}
    over = {"seed": list(range(10))}
    runs = md.sweep("lennard_jones", over, fixed=fixed, dt=1e-3, time=150, every=50)
    start = time.process_time()
    made = evaluate({"Verlet 0.005": VerletIntegrator(5e-3)}, runs)
    yield Measured("CPU s", time.process_time() - start)
    for key, what in (("g_l1", "g(r)"), ("vacf_l1", "VACF"), ("msd", "MSD")):
        yield Measured(f"{what}: run-to-run scatter of the reference", _of(made, "truth", key))
        yield Measured(f"{what}: Verlet 0.005, pooled", _of(made, "Verlet 0.005", key))
    yield Measured("horizon of Verlet 1e-3 from 5e-4", _of(made, "truth", "horizon"))
    yield Measured("horizon of Verlet 0.005 from 1e-3", _of(made, "Verlet 0.005", "horizon"))
    failed = [gate for gate in made["Verlet 0.005"].gates if not gate]
    yield Measured("honesty gates that fail", len(failed), most=0)


def _of(made: Report, column: str, key: str) -> float:
    number = made[column].values[key].number
    return float("nan") if number is None else float(number)


bars = {"Lyapunov exponent of N = 16": exponent, "report of N = 16": report}
